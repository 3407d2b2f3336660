// One GPU: its context, its stream, its memory, its compiled kernels. Everything that computes goes through one stream in program
// order, which is what makes buffers reusable without waiting and runs repeatable to the bit.
using System.Globalization;
using System.Text;
using Fathom.Compute.Cuda.Interop;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>A GPU that was opened.</summary>
internal sealed unsafe class CudaContext : IDisposable
{
    /// <summary>Set to 1: wait after every launch, so that a fault is reported by the kernel that made it.</summary>
    public const string WaitVariable = "FATHOM_CUDA_WAIT";

    /// <summary>The oldest chip that the kernels are written for.</summary>
    public const int LeastCapability = 80;

    private const int RememberedLaunches = 8;
    private static readonly bool WaitsAlways = Environment.GetEnvironmentVariable(WaitVariable) == "1";

    [ThreadStatic]
    private static nint current;

    private readonly int device;
    private readonly (Kernel? Kernel, LaunchShape Shape)[] launches = new (Kernel?, LaunchShape)[RememberedLaunches];
    private nint handle;
    private DeviceMemory? workspace;
    private long launchCount;

    /// <summary>Opens a GPU.</summary>
    /// <param name="ordinal">Which one, counted from 0.</param>
    /// <param name="describeHoldings">Who holds how much memory, for the message when there is not enough.</param>
    /// <exception cref="FathomException">No driver, no GPU, or one that is too old; the message says what to do.</exception>
    public CudaContext(int ordinal, Func<string> describeHoldings)
    {
        DescribeHoldings = describeHoldings;
        int count = CudaSystem.RequireDevices();
        if (ordinal < 0 || ordinal >= count) throw new FathomException($"there is no GPU {ordinal}: this machine has {count}, counted from 0");
        CudaException.Check(Driver.GetDevice(out device, ordinal), $"cuDeviceGet({ordinal})");
        Ordinal = ordinal;
        Name = CudaSystem.DeviceName(device);
        Capability = 10 * Attribute(DeviceAttribute.ComputeCapabilityMajor) + Attribute(DeviceAttribute.ComputeCapabilityMinor);
        if (Capability < LeastCapability)
            throw new FathomException($"{Name} has compute capability {CapabilityText(Capability)}; Fathom's kernels need {CapabilityText(LeastCapability)} (Ampere) or later");
        if (NativeLibraries.Find(NativeLibraries.Nvrtc) is { IsFound: false } compiler)
        {
            throw new FathomException(
                $"NVRTC, which compiles the kernels for {Name}, was {compiler.Absence}: install the CUDA 12.9 or 13 libraries, or name their folder in {NativeLibraries.PathVariable}");
        }

        CudaException.Check(Driver.GetVersion(out int version), "cuDriverGetVersion");
        DriverVersion = version;
        Multiprocessors = Attribute(DeviceAttribute.Multiprocessors);
        SharedBytesPerBlock = Attribute(DeviceAttribute.SharedMemoryPerBlock);
        L2Bytes = Attribute(DeviceAttribute.L2CacheBytes);
        CudaResult result = Driver.RetainPrimaryContext(out handle, device);
        if (result == CudaResult.OutOfMemory) throw new FathomException($"{Name} has no memory left for another process; end what holds it (nvidia-smi lists it)");
        CudaException.Check(result, $"cuDevicePrimaryCtxRetain({Name})");
        Memory = new DeviceMemoryPool(this);
        Stream = new CudaStream(this);
        Faults = new DeviceFaults(this);
        Compiler = new KernelCompiler(Capability, new CubinCache(CubinCache.DefaultFolder));
    }

    /// <summary>Number of the GPU, from 0.</summary>
    public int Ordinal { get; }

    /// <summary>What its maker calls it.</summary>
    public string Name { get; }

    /// <summary>Compute capability times ten: 90 for Hopper.</summary>
    public int Capability { get; }

    /// <summary>CUDA version of the driver: 13000 for 13.0.</summary>
    public int DriverVersion { get; }

    /// <summary>Number of multiprocessors.</summary>
    public int Multiprocessors { get; }

    /// <summary>The most shared memory a block may ask for.</summary>
    public int SharedBytesPerBlock { get; }

    /// <summary>Size of the second-level cache.</summary>
    public int L2Bytes { get; }

    /// <summary>Device memory.</summary>
    public DeviceMemoryPool Memory { get; }

    /// <summary>The stream that everything runs in.</summary>
    public CudaStream Stream { get; }

    /// <summary>Bad indices that kernels have met; looked at after a wait.</summary>
    public DeviceFaults Faults { get; }

    /// <summary>Compiles kernels.</summary>
    public KernelCompiler Compiler { get; }

    /// <summary>Launches so far.</summary>
    public long LaunchCount => launchCount;

    private Func<string> DescribeHoldings { get; }

    /// <summary>9.0 for 90.</summary>
    public static string CapabilityText(int capability) => string.Create(CultureInfo.InvariantCulture, $"{capability / 10}.{capability % 10}");

    /// <summary>13.0 for 13000.</summary>
    public static string VersionText(int version) => string.Create(CultureInfo.InvariantCulture, $"{version / 1000}.{version % 1000 / 10}");

    /// <summary>Makes this GPU the calling thread's.</summary>
    public void MakeCurrent()
    {
        if (current == handle && handle != 0) return;
        ObjectDisposedException.ThrowIf(handle == 0, this);
        CudaException.Check(Driver.SetCurrentContext(handle), "cuCtxSetCurrent");
        current = handle;
    }

    /// <summary>The same for finalizers: false where the GPU was closed.</summary>
    public bool TryMakeCurrent()
    {
        if (handle == 0 || Driver.SetCurrentContext(handle) != CudaResult.Success) return false;
        current = handle;
        return true;
    }

    /// <summary>Kernels of one source file, compiled for a list of instantiations from now on in the background.</summary>
    /// <param name="file">The file, as "norm.cu".</param>
    /// <param name="instances">C++ expressions, as "rms_norm&lt;float, bf16&gt;".</param>
    public KernelModule Module(string file, params ReadOnlySpan<string> instances) => new(this, file, instances.ToArray());

    /// <summary>
    /// Memory for one operator's own use: shared by all, since they run one after another. Contents are undefined, and the next
    /// operator that asks gets the same bytes.
    /// </summary>
    public nint Workspace(long bytes)
    {
        if (workspace is null || workspace.Bytes < bytes)
        {
            workspace = null;
            workspace = Memory.Take(bytes + bytes / 4);
        }

        return workspace.Address;
    }

    /// <summary>Bytes of <see cref="Workspace"/>.</summary>
    public long WorkspaceBytes => workspace?.Bytes ?? 0;

    /// <summary>The memory of <see cref="Workspace"/>, if an operator has asked for some.</summary>
    public DeviceMemory? CurrentWorkspace => workspace;

    /// <summary>Whether every launch is waited for, which nothing that is recorded can be.</summary>
    public static bool WaitsAfterLaunches => WaitsAlways;

    /// <summary>An error with the launches before it: a kernel's fault shows only when somebody waits.</summary>
    public CudaException Failure(CudaResult result, string what)
    {
        var text = new StringBuilder($"{what} failed on {Name}: {CudaException.Describe(result)}");
        if (launchCount > 0) text.Append(CultureInfo.InvariantCulture, $"; {(WaitsAlways ? "the launch" : "the last launches")} before it, newest first:");
        for (long i = launchCount - 1; i >= Math.Max(0, launchCount - RememberedLaunches); i--)
        {
            (Kernel? kernel, LaunchShape shape) = launches[i % RememberedLaunches];
            text.Append(CultureInfo.InvariantCulture, $" {kernel!.Instance} with {shape};");
            if (WaitsAlways) break;
        }

        if (launchCount > 0 && !WaitsAlways) text.Append(CultureInfo.InvariantCulture, $" {WaitVariable}=1 names the one that failed");
        return new CudaException(text.ToString());
    }

    /// <summary>Free and used memory, and who of this process uses it.</summary>
    public string DescribeMemory(long wanted)
    {
        MakeCurrent();
        CudaException.Check(Driver.GetMemoryInfo(out nuint free, out nuint total), "cuMemGetInfo");
        long own = Memory.HeldBytes + Memory.CachedBytes, others = (long)total - (long)free - own;
        return string.Create(CultureInfo.InvariantCulture,
            $"{Gigabytes(wanted)} wanted, {Gigabytes((long)free)} free of {Gigabytes((long)total)} on {Name}; this process holds {Gigabytes(own)} ({DescribeHoldings()}), the driver and other processes {Gigabytes(others)}");
    }

    /// <summary>Bytes in gigabytes, for messages.</summary>
    internal static string Gigabytes(long bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e9:F2} GB");

    /// <summary>Called after every launch.</summary>
    internal void Launched(Kernel kernel, in LaunchShape shape)
    {
        launches[launchCount++ % RememberedLaunches] = (kernel, shape);
        if (WaitsAlways) Stream.Synchronize();
    }

    private int Attribute(DeviceAttribute attribute)
    {
        CudaException.Check(Driver.GetAttribute(out int value, attribute, device), $"cuDeviceGetAttribute({attribute})");
        return value;
    }

    public void Dispose()
    {
        if (handle == 0) return;
        Compilations.Wait();
        workspace = null;
        Stream.Dispose();
        Memory.Close();
        _ = Driver.ReleasePrimaryContext(device);
        handle = 0;
        current = 0;
    }
}

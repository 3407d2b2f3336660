// What of CUDA is on a machine, for whoever wants to know why something does not run: GPUs, libraries with versions and paths, the
// cache of compiled kernels. Nothing is opened, and nothing fails: what is missing is said.
using Fathom.Compute.Cuda.Interop;
using Fathom.Compute.Cuda.Runtime;

namespace Fathom.Compute.Cuda;

/// <summary>A GPU that the driver offers.</summary>
/// <param name="Ordinal">Its number, from 0.</param>
/// <param name="Name">What its maker calls it.</param>
/// <param name="Capability">Compute capability, as "9.0".</param>
/// <param name="MemoryBytes">All of its memory.</param>
/// <param name="Multiprocessors">Number of multiprocessors.</param>
/// <param name="IsSupported">Whether Fathom's kernels run on it.</param>
public sealed record GpuDescription(int Ordinal, string Name, string Capability, long MemoryBytes, int Multiprocessors, bool IsSupported);

/// <summary>A library of NVIDIA's.</summary>
/// <param name="Name">Short name: driver, NVRTC, cuBLASLt, NCCL.</param>
/// <param name="Version">Its own word on its version, or null where it was not found or says nothing.</param>
/// <param name="Path">Where it lies, or null where it was not found.</param>
/// <param name="Absence">How it is missing, or null where it was found.</param>
public sealed record CudaLibrary(string Name, string? Version, string? Path, string? Absence = null);

/// <summary>The CUDA parts of this machine.</summary>
public static class CudaInventory
{
    /// <summary>Folder of compiled kernels.</summary>
    public static string KernelCacheFolder => CubinCache.DefaultFolder;

    /// <summary>The environment variable that names another folder for compiled kernels.</summary>
    public static string KernelCacheVariable => CubinCache.FolderVariable;

    /// <summary>GPUs in the order of their numbers; none where <see cref="CudaSystem.Probe"/> has a reason.</summary>
    public static IReadOnlyList<GpuDescription> Gpus()
    {
        if (CudaSystem.Probe(out int count) is not null) return [];
        var gpus = new GpuDescription[count];
        for (int ordinal = 0; ordinal < count; ordinal++)
        {
            CudaException.Check(Driver.GetDevice(out int device, ordinal), $"cuDeviceGet({ordinal})");
            CudaException.Check(Driver.GetTotalMemory(out nuint bytes, device), "cuDeviceTotalMem");
            int capability = Capability(device);
            gpus[ordinal] = new GpuDescription(
                ordinal, CudaSystem.DeviceName(device), CudaContext.CapabilityText(capability), (long)bytes,
                Attribute(device, DeviceAttribute.Multiprocessors), capability >= CudaContext.LeastCapability);
        }

        return gpus;
    }

    /// <summary>What a GPU's memory in training depends on, without opening it; where there is no such GPU, that of compute capability 9.0.</summary>
    /// <param name="ordinal">Which one, from 0.</param>
    public static DeviceTraits TraitsOf(int ordinal)
    {
        if (CudaSystem.Probe(out int count) is not null || ordinal >= count) return CudaTraits.Hopper;
        CudaException.Check(Driver.GetDevice(out int device, ordinal), $"cuDeviceGet({ordinal})");
        return CudaTraits.Of(Capability(device));
    }

    /// <summary>Driver, NVRTC, cuBLASLt and NCCL, found or not.</summary>
    public static IReadOnlyList<CudaLibrary> Libraries() =>
    [
        Library("driver", NativeLibraries.Cuda, () => Driver.GetVersion(out int version) == CudaResult.Success ? "CUDA " + CudaContext.VersionText(version) : null),
        Library("NVRTC", NativeLibraries.Nvrtc, () => KernelCompiler.Version),
        Library("cuBLASLt", NativeLibraries.CublasLt, () => Dotted((long)CublasLt.GetVersion(), 10_000)),
        Library("NCCL", NativeLibraries.Nccl, () => Nccl.GetVersion(out int version) == 0 ? Dotted(version, 10_000) : null),
    ];

    private static CudaLibrary Library(string name, string library, Func<string?> version)
    {
        NativeLibraryPlace place = NativeLibraries.Find(library);
        if (!place.IsFound) return new CudaLibrary(name, null, null, place.Absence);
        try
        {
            return new CudaLibrary(name, version(), place.Path);
        }
        catch (EntryPointNotFoundException)
        {
            return new CudaLibrary(name, null, place.Path); // an old one that does not say
        }
    }

    // 130002 is 13.0.2 and 22703 is 2.27.3.
    private static string Dotted(long version, long major) =>
        string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{version / major}.{version % major / 100}.{version % 100}");

    private static int Capability(int device) =>
        10 * Attribute(device, DeviceAttribute.ComputeCapabilityMajor) + Attribute(device, DeviceAttribute.ComputeCapabilityMinor);

    private static int Attribute(int device, DeviceAttribute attribute)
    {
        CudaException.Check(Driver.GetAttribute(out int value, attribute, device), $"cuDeviceGetAttribute({attribute})");
        return value;
    }
}

// What of a machine matters to this program, and what is missing: gathered once, shown as text or as JSON. Nothing here fails; what
// cannot be found out is left away.
using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Fathom.Compute.Cpu;
using Fathom.Compute.Cuda;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Doctor;

/// <summary>One finding.</summary>
/// <param name="Name">What it is about.</param>
/// <param name="Text">What was found, or what its absence disables and how to get it.</param>
/// <param name="IsMissing">Whether something is not there that could be.</param>
internal sealed record Finding(string Name, string Text, bool IsMissing = false);

/// <summary>The state of this machine.</summary>
internal sealed class MachineReport
{
    private const double Gibibyte = 1L << 30;
    private readonly List<Finding> findings = [];

    private MachineReport()
    {
    }

    /// <summary>Everything in the order in which it is shown.</summary>
    public IReadOnlyList<Finding> Findings => findings;

    /// <summary>The same for programs.</summary>
    public JsonObject Json { get; } = [];

    /// <summary>Looks at the machine.</summary>
    public static MachineReport Gather()
    {
        var report = new MachineReport();
        report.Program();
        report.Processor();
        report.Storage();
        report.Gpus();
        report.Libraries();
        report.KernelCache();
        return report;
    }

    private void Program()
    {
        string version = typeof(MachineReport).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion;
        findings.Add(new("fathom", version));
        findings.Add(new(".NET", $"{Environment.Version} on {RuntimeInformation.OSDescription}, {RuntimeInformation.ProcessArchitecture}"));
        Json["version"] = version;
        Json["dotnet"] = Environment.Version.ToString();
        Json["system"] = RuntimeInformation.OSDescription;
        Json["architecture"] = RuntimeInformation.ProcessArchitecture.ToString();
    }

    private void Processor()
    {
        string name = Line("/proc/cpuinfo", "model name") ?? Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER") ?? "unknown";
        findings.Add(new("processor", $"{name}, {Environment.ProcessorCount} processors for this process, {CpuDevice.Vectors} in use"));
        Json["processor"] = new JsonObject { ["name"] = name, ["processors"] = Environment.ProcessorCount, ["vectors"] = CpuDevice.Vectors };
    }

    private void Storage()
    {
        long total = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        long? available = Line("/proc/meminfo", "MemAvailable") is { } text && long.TryParse(text.Split(' ')[0], CultureInfo.InvariantCulture, out long kilobytes) ? kilobytes << 10 : null;
        findings.Add(new("memory", Invariant($"{total / Gibibyte:F1} GiB for this process{(available is { } free ? Invariant($", {free / Gibibyte:F1} GiB of the machine's free") : "")}")));
        Json["memory"] = new JsonObject { ["bytes"] = total, ["available_bytes"] = available };

        string folder = Environment.CurrentDirectory;
        try
        {
            var drive = new DriveInfo(folder);
            findings.Add(new("disk", Invariant($"{drive.AvailableFreeSpace / Gibibyte:F1} GiB of {drive.TotalSize / Gibibyte:F1} GiB free at {folder}")));
            Json["disk"] = new JsonObject { ["folder"] = folder, ["bytes"] = drive.TotalSize, ["available_bytes"] = drive.AvailableFreeSpace };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            findings.Add(new("disk", $"{folder}: {e.Message}", IsMissing: true));
        }
    }

    private void Gpus()
    {
        var list = new JsonArray();
        Json["gpus"] = list;
        if (CudaSystem.Probe(out _) is { } reason)
        {
            findings.Add(new("GPU", $"none: {reason}", IsMissing: true));
            Json["gpu_problem"] = reason;
            return;
        }

        foreach (GpuDescription gpu in CudaInventory.Gpus())
        {
            string support = gpu.IsSupported ? "" : "; too old: the kernels need 8.0 (Ampere) or later";
            findings.Add(new(Invariant($"cuda:{gpu.Ordinal}"), Invariant($"{gpu.Name}, {gpu.MemoryBytes / Gibibyte:F1} GiB, compute capability {gpu.Capability}, {gpu.Multiprocessors} multiprocessors{support}"), !gpu.IsSupported));
            list.Add((JsonNode)new JsonObject
            {
                ["ordinal"] = gpu.Ordinal,
                ["name"] = gpu.Name,
                ["compute_capability"] = gpu.Capability,
                ["bytes"] = gpu.MemoryBytes,
                ["multiprocessors"] = gpu.Multiprocessors,
                ["supported"] = gpu.IsSupported,
            });
        }
    }

    private void Libraries()
    {
        var list = new JsonArray();
        Json["libraries"] = list;
        foreach (CudaLibrary library in CudaInventory.Libraries())
        {
            string missing = $"{library.Absence}: {Consequence(library.Name)}";
            findings.Add(library.Path is null
                ? new(library.Name, missing, IsMissing: true)
                : new(library.Name, library.Version is null ? $"version unknown, {library.Path}" : $"{library.Version}, {library.Path}"));
            list.Add((JsonNode)new JsonObject { ["name"] = library.Name, ["version"] = library.Version, ["path"] = library.Path, ["problem"] = library.Path is null ? missing : null });
        }
    }

    private static string Consequence(string library) => library switch
    {
        "driver" => "nothing runs on a GPU; install NVIDIA's driver for CUDA 12.9 or 13 (580 or later for 13), or give the container its GPUs",
        "NVRTC" => "the kernels cannot be compiled, so no GPU can be used; install cuda-nvrtc-13-0, or name the library's folder in FATHOM_CUDA_PATH",
        "cuBLASLt" => "products on a GPU run in fathom's own kernels, some of them slower; install libcublas-13-0, or name the library's folder in FATHOM_CUDA_PATH",
        _ => "several GPUs cannot work together; install libnccl2, or name the library's folder in FATHOM_CUDA_PATH",
    };

    private void KernelCache()
    {
        string folder = CudaInventory.KernelCacheFolder;
        (int files, long bytes) = (0, 0L);
        try
        {
            foreach (FileInfo file in Directory.Exists(folder) ? new DirectoryInfo(folder).EnumerateFiles("*.cubin") : []) (files, bytes) = (files + 1, bytes + file.Length);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Counted as empty; whether it can be written is said below.
        }

        bool writes = CanWrite(folder);
        string state = writes ? "can be written" : $"cannot be written, so every start compiles anew: make it writable, or name another folder in {CudaInventory.KernelCacheVariable}";
        findings.Add(new("kernel cache", Invariant($"{folder}: {files} files, {bytes / 1e6:F1} MB; {state}"), !writes));
        Json["kernel_cache"] = new JsonObject { ["folder"] = folder, ["files"] = files, ["bytes"] = bytes, ["writable"] = writes };
    }

    /// <summary>Whether a file can be made in a folder, or the folder where it is not there yet.</summary>
    private static bool CanWrite(string folder)
    {
        try
        {
            string existing = Path.GetFullPath(folder);
            while (!Directory.Exists(existing))
            {
                if (File.Exists(existing) || Path.GetDirectoryName(existing) is not { } parent) return false;
                existing = parent;
            }

            using FileStream file = new(Path.Combine(existing, $".fathom-{Environment.ProcessId}"), FileMode.CreateNew, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return false;
        }
    }

    /// <summary>The value of a "key : value" line of one of the kernel's files.</summary>
    private static string? Line(string file, string key)
    {
        try
        {
            return File.Exists(file) && File.ReadLines(file).FirstOrDefault(l => l.StartsWith(key, StringComparison.Ordinal)) is { } line
                ? line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim()
                : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}

// NVIDIA's libraries, found at run time by name and in the places where drivers, toolkits and wheels put them. Nothing is linked: a
// machine without them runs everything else, and what is missing is a capability that can be asked for.
using System.Reflection;
using System.Runtime.InteropServices;

namespace Fathom.Compute.Cuda.Interop;

/// <summary>A library that was looked for.</summary>
/// <param name="Name">Short name, as in the import declarations.</param>
/// <param name="File">The file name it was found under; null where it was not found.</param>
/// <param name="Path">Where it lies, as far as the system says; null where it was not found.</param>
/// <param name="Unusable">A file of its name that cannot be loaded, where no other was found; else null.</param>
public sealed record NativeLibraryPlace(string Name, string? File, string? Path, string? Unusable = null)
{
    /// <summary>Whether it was found.</summary>
    public bool IsFound => File is not null;

    /// <summary>How it is missing.</summary>
    public string Absence => Unusable is null ? "not found" : $"not loaded, since {Unusable} is damaged, made for another kind of machine, or lacks a library that it needs";
}

/// <summary>Finds and loads libcuda, NVRTC, cuBLASLt and NCCL.</summary>
public static class NativeLibraries
{
    /// <summary>A folder that is looked into before all others.</summary>
    public const string PathVariable = "FATHOM_CUDA_PATH";

    /// <summary>The driver.</summary>
    public const string Cuda = "cuda";

    /// <summary>The run-time compiler.</summary>
    public const string Nvrtc = "nvrtc";

    /// <summary>Matrix products.</summary>
    public const string CublasLt = "cublasLt";

    /// <summary>Communication between GPUs.</summary>
    public const string Nccl = "nccl";

    private static readonly Lock Gate = new();
    private static readonly Dictionary<string, (nint Handle, NativeLibraryPlace Place)> Loaded = [];

    static NativeLibraries() => NativeLibrary.SetDllImportResolver(typeof(NativeLibraries).Assembly, Resolve);

    /// <summary>Where a library is, loading it on the first call.</summary>
    public static NativeLibraryPlace Find(string name) => Load(name).Place;

    /// <summary>File names of a library, newest version first.</summary>
    internal static string[] FileNames(string name) => name switch
    {
        Cuda => OperatingSystem.IsWindows() ? ["nvcuda.dll"] : ["libcuda.so.1"],
        Nvrtc => OperatingSystem.IsWindows() ? ["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"] : ["libnvrtc.so.13", "libnvrtc.so.12"],
        CublasLt => OperatingSystem.IsWindows() ? ["cublasLt64_13.dll", "cublasLt64_12.dll"] : ["libcublasLt.so.13", "libcublasLt.so.12"],
        Nccl => OperatingSystem.IsWindows() ? [] : ["libnccl.so.2"],
        _ => throw new ArgumentException($"no library is called {name}", nameof(name)),
    };

    /// <summary>Folders that are looked into, in order; the empty one means the system's own search.</summary>
    internal static IEnumerable<string> Folders()
    {
        if (Environment.GetEnvironmentVariable(PathVariable) is { Length: > 0 } own) yield return own;
        yield return "";
        foreach (string variable in (string[])["CUDA_HOME", "CUDA_PATH"])
        {
            if (Environment.GetEnvironmentVariable(variable) is not { Length: > 0 } root) continue;
            yield return System.IO.Path.Combine(root, OperatingSystem.IsWindows() ? "bin" : "lib64");
        }

        if (OperatingSystem.IsWindows()) yield break;
        yield return "/usr/local/cuda/lib64";
        yield return "/usr/local/cuda-13/lib64";
        yield return "/usr/local/cuda-12/lib64";
        yield return "/usr/local/nvidia/lib64";
        yield return "/usr/lib/x86_64-linux-gnu";
        yield return "/usr/lib/aarch64-linux-gnu";
        yield return "/usr/lib/wsl/lib";
    }

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? path) =>
        name is Cuda or Nvrtc or CublasLt or Nccl ? Load(name).Handle : 0;

    private static (nint Handle, NativeLibraryPlace Place) Load(string name)
    {
        lock (Gate)
        {
            if (Loaded.TryGetValue(name, out (nint, NativeLibraryPlace) known)) return known;
            return Loaded[name] = Search(name);
        }
    }

    private static (nint Handle, NativeLibraryPlace Place) Search(string name)
    {
        string? unusable = null;
        foreach (string folder in Folders())
        {
            foreach (string file in FileNames(name))
            {
                string path = System.IO.Path.Combine(folder, file);
                if (NativeLibrary.TryLoad(path, out nint handle)) return (handle, new NativeLibraryPlace(name, file, LoadedPath(file) ?? path));
                if (folder.Length > 0 && System.IO.File.Exists(path)) unusable ??= path;
            }
        }

        return (0, new NativeLibraryPlace(name, null, null, unusable));
    }

    /// <summary>The file behind a library that the system's own search found.</summary>
    private static string? LoadedPath(string file)
    {
        if (!OperatingSystem.IsLinux()) return null;
        string stem = file[..file.IndexOf(".so", StringComparison.Ordinal)];
        foreach (string line in File.ReadLines("/proc/self/maps"))
        {
            int at = line.IndexOf('/', StringComparison.Ordinal);
            if (at >= 0 && System.IO.Path.GetFileName(line.AsSpan(at)).StartsWith(stem + ".so", StringComparison.Ordinal)) return line[at..];
        }

        return null;
    }
}

using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Fathom.Compute.Cuda.Interop;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>Compiles kernels for one chip with NVRTC, through a cache on disk.</summary>
/// <param name="capability">The chip, as 90 for compute capability 9.0.</param>
/// <param name="cache">Where compiled kernels are kept.</param>
internal sealed unsafe class KernelCompiler(int capability, CubinCache cache)
{
    private int compiled;

    /// <summary>Files that were compiled, as opposed to found in the cache.</summary>
    public int CompiledFiles => compiled;

    /// <summary>
    /// The architecture to compile for: from Hopper on the chip's own instruction set, with what does not carry over to later ones
    /// (wgmma), before that the plain one.
    /// </summary>
    internal static string Architecture(int capability) => string.Create(CultureInfo.InvariantCulture, $"sm_{capability}{(capability >= 90 ? "a" : "")}");

    /// <summary>Options of every compilation.</summary>
    internal static string[] Options(int capability) =>
        [$"--gpu-architecture={Architecture(capability)}", "-std=c++20", "--device-as-default-execution-space", "-lineinfo"];

    /// <summary>Version of NVRTC.</summary>
    internal static string Version => Nvrtc.GetVersion(out int major, out int minor) == Nvrtc.Success ? $"{major}.{minor}" : "?";

    /// <summary>The kernels of a file, from the cache where they are there already.</summary>
    /// <param name="file">Name of the source file.</param>
    /// <param name="instances">Instantiations, as C++ expressions.</param>
    /// <exception cref="FathomException">The source does not compile; the message is the compiler's.</exception>
    public CompiledKernels Compile(string file, string[] instances)
    {
        string source = KernelSource.Read(file), version = Version;
        string[] options = Options(capability);
        string key = CubinCache.Key(file, source, KernelSource.HeaderNames, KernelSource.Headers, options, instances, version);
        if (cache.Read(file, key) is { } known) return known;
        CompiledKernels kernels = Compile(file, source, options, instances, version);
        Interlocked.Increment(ref compiled);
        cache.Write(file, key, kernels);
        return kernels;
    }

    private static CompiledKernels Compile(string file, string source, string[] options, string[] instances, string version)
    {
        Check(Nvrtc.CreateProgram(out nint program, source, file, KernelSource.Headers.Length, KernelSource.Headers, KernelSource.HeaderNames), "nvrtcCreateProgram", file);
        try
        {
            foreach (string instance in instances) Check(Nvrtc.AddNameExpression(program, instance), $"nvrtcAddNameExpression({instance})", file);
            int result = Nvrtc.Compile(program, options.Length, options);
            if (result == Nvrtc.CompilationError) throw new FathomException($"{file} does not compile for {options[0]}: {Log(program)}");
            Check(result, "nvrtcCompileProgram", file);
            var names = new Dictionary<string, string>();
            foreach (string instance in instances)
            {
                Check(Nvrtc.GetLoweredName(program, instance, out nint name), $"nvrtcGetLoweredName({instance})", file);
                names[instance] = Marshal.PtrToStringUTF8(name)!;
            }

            Check(Nvrtc.GetImageSize(program, out nuint bytes), "nvrtcGetCUBINSize", file);
            byte[] image = new byte[bytes];
            fixed (byte* to = image) Check(Nvrtc.GetImage(program, to), "nvrtcGetCUBIN", file);
            return new CompiledKernels(image, names, version);
        }
        finally
        {
            _ = Nvrtc.DestroyProgram(ref program);
        }
    }

    private static string Log(nint program)
    {
        if (Nvrtc.GetLogSize(program, out nuint bytes) != Nvrtc.Success || bytes <= 1) return "the compiler says nothing";
        byte[] log = new byte[bytes];
        fixed (byte* to = log) _ = Nvrtc.GetLog(program, to);
        return Encoding.UTF8.GetString(log).TrimEnd('\0', '\n');
    }

    private static void Check(int result, string call, string file)
    {
        if (result != Nvrtc.Success)
            throw new CudaException($"{call} for {file} failed: {Marshal.PtrToStringUTF8(Nvrtc.GetErrorString(result)) ?? $"error {result}"}");
    }
}

// One .cu file compiled for the instantiations that its family uses. Compilation (or the reading of a cached binary) starts in the
// background when the family is made, so all families compile beside each other; whoever launches first waits.
using Fathom.Compute.Cuda.Interop;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>The kernels of one source file.</summary>
internal sealed unsafe class KernelModule
{
    private readonly Task<CompiledKernels> compilation;
    private readonly Lock gate = new();
    private nint handle;

    internal KernelModule(CudaContext context, string file, string[] instances)
    {
        (Context, File) = (context, file);
        compilation = Compilations.Start(() => context.Compiler.Compile(file, instances));
    }

    /// <summary>Where the kernels run.</summary>
    public CudaContext Context { get; }

    /// <summary>The source file.</summary>
    public string File { get; }

    /// <summary>A kernel by its instantiation as written in the list of the module's.</summary>
    public Kernel Kernel(string instance) => new(this, instance);

    /// <summary>CUfunction of an instantiation; waits for the compiler.</summary>
    /// <exception cref="FathomException">The source does not compile, or the driver does not take the binary.</exception>
    internal nint Function(string instance)
    {
        CompiledKernels kernels = compilation.GetAwaiter().GetResult();
        if (!kernels.Names.TryGetValue(instance, out string? name))
            throw new ArgumentException($"{File} was not compiled for {instance}; it has {string.Join("; ", kernels.Names.Keys)}");
        Context.MakeCurrent();
        lock (gate)
        {
            if (handle == 0) handle = Load(kernels);
        }

        CudaException.Check(Driver.GetFunction(out nint function, handle, name), $"cuModuleGetFunction({instance} of {File})");
        return function;
    }

    private nint Load(CompiledKernels kernels)
    {
        fixed (byte* image = kernels.Image)
        {
            CudaResult result = Driver.LoadModule(out nint module, image);
            if (result is CudaResult.InvalidImage or CudaResult.NoBinaryForGpu or CudaResult.UnsupportedPtxVersion)
            {
                throw new FathomException(
                    $"the driver ({CudaContext.VersionText(Context.DriverVersion)}) does not take what NVRTC {kernels.Compiler} compiled of {File}: " +
                    $"{CudaException.Describe(result)}. Install a newer driver, or an NVRTC of the driver's version");
            }

            CudaException.Check(result, $"cuModuleLoadData({File})");
            return module;
        }
    }
}

using Fathom.Compute.Cuda.Interop;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>One function of a compiled module. It is looked up when it is first launched.</summary>
internal sealed unsafe class Kernel
{
    private const int SharedBytesWithoutAsking = 48 << 10;
    private readonly KernelModule module;
    private nint function;
    private int grantedSharedBytes = SharedBytesWithoutAsking;

    internal Kernel(KernelModule module, string instance) => (this.module, Instance) = (module, instance);

    /// <summary>The instantiation, as it is written in C++.</summary>
    public string Instance { get; }

    /// <summary>Puts the kernel into the context's stream.</summary>
    /// <param name="shape">Blocks and threads.</param>
    /// <param name="arguments">One for each parameter, in order.</param>
    /// <exception cref="CudaException">The driver refuses the launch.</exception>
    public void Launch(in LaunchShape shape, params ReadOnlySpan<Argument> arguments)
    {
        if (shape.IsEmpty) return;
        fixed (Argument* first = arguments)
        {
            void** pointers = stackalloc void*[arguments.Length];
            for (int i = 0; i < arguments.Length; i++) pointers[i] = first + i;
            Launch(shape, pointers);
        }
    }

    /// <summary>The same for a kernel with one parameter, a structure passed by value (__grid_constant__), that both sides declare alike.</summary>
    public void LaunchWith<T>(in LaunchShape shape, in T parameters) where T : unmanaged
    {
        if (shape.IsEmpty) return;
        fixed (T* address = &parameters)
        {
            void* pointer = address;
            Launch(shape, &pointer);
        }
    }

    /// <summary>Blocks of this kernel that one multiprocessor runs at a time.</summary>
    public int Occupancy(int threads, int sharedBytes)
    {
        Resolve(sharedBytes);
        CudaException.Check(Driver.GetOccupancy(out int blocks, function, threads, (nuint)sharedBytes), "cuOccupancyMaxActiveBlocksPerMultiprocessor");
        return blocks;
    }

    private void Launch(in LaunchShape shape, void** pointers)
    {
        CudaContext context = module.Context;
        context.MakeCurrent();
        Resolve(shape.SharedBytes);
        CudaResult result = Driver.Launch(
            function, checked((uint)shape.Grid.X), checked((uint)shape.Grid.Y), checked((uint)shape.Grid.Z), (uint)shape.Block, 1, 1,
            (uint)shape.SharedBytes, context.Stream.Handle, pointers, null);
        if (result != CudaResult.Success) throw context.Failure(result, $"launching {Instance} of {module.File} with {shape}");
        context.Launched(this, shape);
    }

    private void Resolve(int sharedBytes)
    {
        if (function == 0) function = module.Function(Instance);
        if (sharedBytes <= grantedSharedBytes) return;
        CudaResult result = Driver.SetFunctionAttribute(function, FunctionAttribute.MostDynamicSharedBytes, sharedBytes);
        if (result != CudaResult.Success)
            throw new FathomException($"{Instance} of {module.File} needs {sharedBytes} bytes of shared memory a block, which this GPU does not give: {CudaException.Describe(result)}");
        grantedSharedBytes = sharedBytes;
    }
}

using Fathom.Compute.Cuda.Interop;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>Page-locked host memory, which the GPU copies to and from at full speed and without waiting.</summary>
internal sealed class PinnedMemory
{
    private const uint Portable = 1;
    private readonly CudaContext context;

    public PinnedMemory(CudaContext context, long bytes)
    {
        this.context = context;
        context.MakeCurrent();
        CudaException.Check(Driver.AllocateHost(out nint address, (nuint)Math.Max(64, bytes), Portable), $"cuMemHostAlloc of {bytes} bytes");
        Address = address;
    }

    /// <summary>Frees the memory, if the context is still there.</summary>
    ~PinnedMemory()
    {
        if (Address != 0 && context.TryMakeCurrent()) _ = Driver.FreeHost(Address);
    }

    /// <summary>First byte.</summary>
    public nint Address { get; }
}

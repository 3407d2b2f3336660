using Fathom.Compute.Cuda.Interop;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>A queue of work on the GPU; what is put into it runs in order.</summary>
internal sealed class CudaStream : IDisposable
{
    private const uint NonBlocking = 1;
    private readonly CudaContext context;

    public CudaStream(CudaContext context)
    {
        this.context = context;
        context.MakeCurrent();
        CudaException.Check(Driver.CreateStream(out nint handle, NonBlocking), "cuStreamCreate");
        Handle = handle;
    }

    /// <summary>CUstream.</summary>
    public nint Handle { get; private set; }

    /// <summary>Waits until everything in the queue has run. A kernel's fault is reported here at the latest.</summary>
    /// <exception cref="CudaException">Something in the queue failed.</exception>
    public void Synchronize()
    {
        context.MakeCurrent();
        CudaResult result = Driver.SynchronizeStream(Handle);
        if (result != CudaResult.Success) throw context.Failure(result, "waiting for the GPU (cuStreamSynchronize)");
    }

    /// <summary>What is put into this queue from now on waits for an event of another.</summary>
    public void WaitFor(CudaEvent @event)
    {
        context.MakeCurrent();
        CudaException.Check(Driver.WaitForEvent(Handle, @event.Handle, 0), "cuStreamWaitEvent");
    }

    public void Dispose()
    {
        if (Handle == 0) return;
        context.MakeCurrent();
        _ = Driver.DestroyStream(Handle);
        Handle = 0;
    }
}

using Fathom.Compute.Cuda.Interop;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>A mark in a stream that can be waited for, and timed against another.</summary>
internal sealed class CudaEvent : IDisposable
{
    private readonly CudaContext context;

    public CudaEvent(CudaContext context)
    {
        this.context = context;
        context.MakeCurrent();
        CudaException.Check(Driver.CreateEvent(out nint handle, 0), "cuEventCreate");
        Handle = handle;
    }

    /// <summary>CUevent.</summary>
    public nint Handle { get; private set; }

    /// <summary>Sets the mark behind everything in the queue.</summary>
    public void Record(CudaStream stream)
    {
        context.MakeCurrent();
        CudaException.Check(Driver.RecordEvent(Handle, stream.Handle), "cuEventRecord");
    }

    /// <summary>Waits until the mark is passed.</summary>
    public void Synchronize()
    {
        context.MakeCurrent();
        CudaResult result = Driver.SynchronizeEvent(Handle);
        if (result != CudaResult.Success) throw context.Failure(result, "waiting for the GPU (cuEventSynchronize)");
    }

    /// <summary>Seconds from an earlier mark to this one; both passed.</summary>
    public double SecondsSince(CudaEvent earlier)
    {
        context.MakeCurrent();
        CudaException.Check(Driver.GetElapsedTime(out float milliseconds, earlier.Handle, Handle), "cuEventElapsedTime");
        return milliseconds / 1e3;
    }

    public void Dispose()
    {
        if (Handle == 0) return;
        context.MakeCurrent();
        _ = Driver.DestroyEvent(Handle);
        Handle = 0;
    }
}

// A recorded sequence of launches that replays with one call: a decode step is some hundred launches of a few microseconds, and
// without a graph the processor's share of each is longer than the kernel.
using Fathom.Compute.Cuda.Interop;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>Work that was captured once and can be launched again over the same memory.</summary>
internal sealed class CudaGraph : IRecordedWork
{
    private const int ThreadLocalMode = 1;
    private readonly CudaContext context;
    private readonly DeviceMemory? workspace; // the one whose addresses were recorded; operators may have a larger one by now
    private nint executable;

    private CudaGraph(CudaContext context, nint executable)
    {
        (this.context, this.executable) = (context, executable);
        workspace = context.CurrentWorkspace;
    }

    /// <summary>Frees the graph, if the context is still there.</summary>
    ~CudaGraph()
    {
        if (executable != 0 && context.TryMakeCurrent()) _ = Driver.DestroyGraphExecutable(executable);
    }

    /// <summary>Records what an action puts into the context's stream; nothing of it runs. It must not wait for the GPU.</summary>
    /// <exception cref="CudaException">The action did something that cannot be recorded.</exception>
    public static CudaGraph Capture(CudaContext context, Action work)
    {
        context.MakeCurrent();
        nint stream = context.Stream.Handle;
        CudaException.Check(Driver.BeginCapture(stream, ThreadLocalMode), "cuStreamBeginCapture");
        nint graph;
        try
        {
            work();
        }
        catch
        {
            if (Driver.EndCapture(stream, out nint partial) == CudaResult.Success && partial != 0) _ = Driver.DestroyGraph(partial);
            throw;
        }

        CudaException.Check(Driver.EndCapture(stream, out graph), "cuStreamEndCapture");
        try
        {
            CudaException.Check(Driver.InstantiateGraph(out nint executable, graph, 0), "cuGraphInstantiate");
            return new CudaGraph(context, executable);
        }
        finally
        {
            _ = Driver.DestroyGraph(graph);
        }
    }

    /// <summary>Puts the recorded work into the context's stream.</summary>
    public void Replay()
    {
        ObjectDisposedException.ThrowIf(executable == 0, this);
        context.MakeCurrent();
        CudaException.Check(Driver.LaunchGraph(executable, context.Stream.Handle), "cuGraphLaunch");
        GC.KeepAlive(workspace);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (executable == 0) return;
        context.MakeCurrent();
        _ = Driver.DestroyGraphExecutable(executable);
        executable = 0;
        GC.SuppressFinalize(this);
    }
}

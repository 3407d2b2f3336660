using System.Collections.Concurrent;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>
/// Compilations under way. A process must not end while the compiler works on another thread: its library would be torn down below
/// it. So the end of the process waits for what was begun, some seconds at most and only on a first start.
/// </summary>
internal static class Compilations
{
    private static readonly ConcurrentDictionary<Task, byte> Pending = [];

    static Compilations() => AppDomain.CurrentDomain.ProcessExit += static (_, _) => Wait();

    /// <summary>Begins one on a thread of its own.</summary>
    public static Task<CompiledKernels> Start(Func<CompiledKernels> compile)
    {
        Task<CompiledKernels> task = Task.Run(compile);
        Pending[task] = 0;
        _ = task.ContinueWith(static done => Pending.TryRemove(done, out _), TaskScheduler.Default);
        return task;
    }

    /// <summary>Waits for all; what failed is told to whoever wants the kernels.</summary>
    public static void Wait()
    {
        foreach (Task task in Pending.Keys) ((IAsyncResult)task).AsyncWaitHandle.WaitOne();
    }
}

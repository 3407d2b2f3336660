// Work on many items at once, results in the order of the items. Neither side runs ahead: at most two results a worker
// are in flight, so a corpus larger than memory streams through.
namespace Fathom.Text;

/// <summary>An ordered, bounded parallel map.</summary>
internal static class OrderedParallel
{
    /// <summary>
    /// Maps <paramref name="source"/> on up to <paramref name="workers"/> threads. The source is read by the consuming
    /// thread only; the first exception, in item order, reaches the consumer.
    /// </summary>
    public static IEnumerable<TResult> Select<TSource, TResult>(
        IEnumerable<TSource> source, Func<TSource, TResult> map, int workers, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(workers, 1);
        return workers == 1 ? Sequential(source, map, cancellation) : Concurrent(source, map, workers, cancellation);
    }

    private static IEnumerable<TResult> Sequential<TSource, TResult>(
        IEnumerable<TSource> source, Func<TSource, TResult> map, CancellationToken cancellation)
    {
        foreach (TSource item in source)
        {
            cancellation.ThrowIfCancellationRequested();
            yield return map(item);
        }
    }

    private static IEnumerable<TResult> Concurrent<TSource, TResult>(
        IEnumerable<TSource> source, Func<TSource, TResult> map, int workers, CancellationToken cancellation)
    {
        TaskFactory factory = new(new ConcurrentExclusiveSchedulerPair(TaskScheduler.Default, workers).ConcurrentScheduler);
        Queue<Task<TResult>> inFlight = new();
        try
        {
            foreach (TSource item in source)
            {
                cancellation.ThrowIfCancellationRequested();
                if (inFlight.Count >= 2 * workers) yield return inFlight.Dequeue().GetAwaiter().GetResult();
                inFlight.Enqueue(factory.StartNew(() => map(item), CancellationToken.None));
            }

            while (inFlight.TryDequeue(out Task<TResult>? task))
            {
                cancellation.ThrowIfCancellationRequested();
                yield return task.GetAwaiter().GetResult();
            }
        }
        finally
        {
            // A consumer that stopped early must not leave threads working on what it is about to dispose.
            foreach (Task<TResult> task in inFlight) task.ContinueWith(static _ => { }, TaskScheduler.Default).Wait(CancellationToken.None);
        }
    }
}

// The threads that kernels run on. Handing a piece of work to the thread pool costs more than a small kernel takes, so a team of
// own threads waits for the next job by spinning briefly and parks when none comes. Tiles are taken from one counter: which
// thread computes a tile is open, so a tile's result must depend on its number alone. A thread that the system has put aside when
// a job starts is not waited for: the job is closed when its tiles have run out, and only who has entered must leave.
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace Fathom.Compute.Cpu;

/// <summary>Work that is cut into independent tiles.</summary>
public interface ITileJob
{
    /// <summary>Computes one tile.</summary>
    /// <param name="tile">0 to tiles - 1.</param>
    /// <param name="worker">Number of the thread, for scratch memory: 0 to the team's <see cref="WorkerTeam.Size"/> - 1.</param>
    void Run(int tile, int worker);
}

/// <summary>A fixed number of threads, the caller among them, that run the tiles of one job at a time.</summary>
public sealed unsafe partial class WorkerTeam : IDisposable
{
    private const int SpinsBeforeParking = 2_000;

    // The state: number of the job in the upper half, whether it may be entered, and how many own threads are in it.
    private const long OneJob = 1L << 32;
    private const long Open = 1L << 31;
    private const long Inside = Open - 1;

    [ThreadStatic]
    private static bool insideTile;

    private readonly Thread[] threads;
    private readonly Lock oneJobAtATime = new();
    private readonly int spinsBeforeParking;
    private readonly bool pinned;
    private delegate*<void*, int, int, void> invoke;
    private void* job;
    private int tiles;
    private Exception? failure;
    private volatile bool stopping;
    private PaddedCounter nextTile;
    private PaddedCounter state;
    private PaddedCounter parked;

    /// <summary>Starts the team.</summary>
    /// <param name="size">Number of threads with the caller; 0 for one a processor.</param>
    /// <param name="pin">Whether to bind each own thread to a processor (Linux): for a machine that has nothing else to do.</param>
    public WorkerTeam(int size = 0, bool pin = false)
    {
        Size = size > 0 ? size : Environment.ProcessorCount;
        spinsBeforeParking = Size > Environment.ProcessorCount ? 0 : SpinsBeforeParking;
        pinned = pin && OperatingSystem.IsLinux();
        threads = new Thread[Size - 1];
        for (int i = 0; i < threads.Length; i++)
        {
            int worker = i + 1;
            threads[i] = new Thread(() => Work(worker)) { IsBackground = true, Name = $"fathom worker {worker}" };
            threads[i].Start();
        }
    }

    /// <summary>Number of threads, the caller among them.</summary>
    public int Size { get; }

    /// <summary>Runs all tiles and returns when the last is done. Called from within a tile, it runs them on the calling thread alone.</summary>
    /// <typeparam name="TJob">A struct that holds what the tiles need.</typeparam>
    /// <exception cref="Exception">The first exception that a tile threw.</exception>
    public void For<TJob>(int count, TJob work) where TJob : struct, ITileJob
    {
        if (count <= 1 || Size == 1 || insideTile)
        {
            int self = insideTile ? currentWorker : 0;
            for (int tile = 0; tile < count; tile++) work.Run(tile, self);
            return;
        }

        lock (oneJobAtATime)
        {
            job = Unsafe.AsPointer(ref work);
            invoke = &Invoke<TJob>;
            tiles = count;
            failure = null;
            Volatile.Write(ref nextTile.Value, 0);
            long number = (Volatile.Read(ref state.Value) & ~(OneJob - 1)) + OneJob;
            Interlocked.Exchange(ref state.Value, number | Open);
            if (Volatile.Read(ref parked.Value) > 0)
            {
                lock (threads) Monitor.PulseAll(threads);
            }

            RunTiles(0);
            Interlocked.And(ref state.Value, ~Open);
            for (int spins = 0; (Volatile.Read(ref state.Value) & Inside) != 0; spins++)
            {
                if (spins < spinsBeforeParking) Thread.SpinWait(8);
                else Thread.Yield();
            }

            job = null;
            if (failure is not null) ExceptionDispatchInfo.Throw(failure);
        }
    }

    /// <summary>
    /// As <see cref="For"/>, where neighbouring tiles read neighbouring memory: threads that take turns each meet a range of tiles in its
    /// order, so that what a tile asks for ahead of itself comes to the core that needs it.
    /// </summary>
    /// <typeparam name="TJob">A struct that holds what the tiles need.</typeparam>
    /// <exception cref="Exception">The first exception that a tile threw.</exception>
    public void ForRanges<TJob>(int count, TJob work) where TJob : struct, ITileJob
    {
        int range = (count + Size - 1) / Size;
        if (range <= 1 || insideTile) For(count, work);
        else For(checked(range * Size), new InRanges<TJob>(work, count, range, Size));
    }

    /// <summary>Ends the threads.</summary>
    public void Dispose()
    {
        stopping = true;
        lock (threads) Monitor.PulseAll(threads);
        foreach (Thread thread in threads) thread.Join();
    }

    [ThreadStatic]
    private static int currentWorker;

    private static void Invoke<TJob>(void* job, int tile, int worker) where TJob : struct, ITileJob =>
        Unsafe.AsRef<TJob>(job).Run(tile, worker);

    private void RunTiles(int worker)
    {
        insideTile = true;
        currentWorker = worker;
        try
        {
            for (long tile; (tile = Interlocked.Increment(ref nextTile.Value) - 1) < tiles;) invoke(job, (int)tile, worker);
        }
        catch (Exception e)
        {
            Interlocked.CompareExchange(ref failure, e, null);
            Volatile.Write(ref nextTile.Value, tiles);
        }
        finally
        {
            insideTile = false;
        }
    }

    private void Work(int worker)
    {
        if (pinned) Pin(worker);
        long seen = 0;
        for (int spins = 0; !stopping; spins++)
        {
            long now = Volatile.Read(ref state.Value);
            if ((now & ~(OneJob - 1)) == seen)
            {
                if (spins < spinsBeforeParking) Thread.SpinWait(8);
                else Park(seen);
                continue;
            }

            spins = 0;
            if ((now & Open) == 0)
            {
                seen = now & ~(OneJob - 1); // Over before this thread came to it.
            }
            else if (Interlocked.CompareExchange(ref state.Value, now + 1, now) == now)
            {
                seen = now & ~(OneJob - 1);
                RunTiles(worker);
                Interlocked.Decrement(ref state.Value);
            }
        }
    }

    private void Park(long seen)
    {
        lock (threads)
        {
            Interlocked.Increment(ref parked.Value);
            while ((Volatile.Read(ref state.Value) & ~(OneJob - 1)) == seen && !stopping) Monitor.Wait(threads);
            Interlocked.Decrement(ref parked.Value);
        }
    }

    private static void Pin(int processor)
    {
        // A cpu_set_t of 1024 processors. Failing to pin costs speed only.
        Span<ulong> mask = stackalloc ulong[16];
        mask.Clear();
        mask[processor / 64 % 16] = 1UL << (processor % 64);
        fixed (ulong* m = mask) _ = SetAffinity(0, 128, m);
    }

    [LibraryImport("libc", EntryPoint = "sched_setaffinity")]
    private static partial int SetAffinity(int thread, nuint size, ulong* mask);

    /// <summary>Tiles in turn from as many ranges as there are threads; the last may be shorter.</summary>
    private readonly struct InRanges<TJob>(TJob work, int count, int range, int ranges) : ITileJob where TJob : struct, ITileJob
    {
        public void Run(int tile, int worker)
        {
            int place = tile % ranges * range + tile / ranges;
            if (place < count) work.Run(place, worker);
        }
    }

    [StructLayout(LayoutKind.Explicit, Size = 192)]
    private struct PaddedCounter
    {
        [FieldOffset(64)]
        public long Value;
    }
}

// Launches a kernel over 0 to count - 1, cut into tiles for the team, at the vector width that the processor has. The cut depends
// on sizes alone, never on the number of threads.

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>Work on a range of rows, pieces or segments, at any vector width.</summary>
internal interface IRangeKernel
{
    /// <summary>Computes items <paramref name="start"/> to <paramref name="end"/> - 1.</summary>
    /// <typeparam name="V">The vectors to use.</typeparam>
    void Run<V>(long start, long end) where V : struct, ISimd<V>;
}

/// <summary>The launch layer of everything but products.</summary>
internal static class Ranges
{
    // A tile should take some microseconds, many times what handing it out costs, and stay within a core's own cache.
    private const long TileBytes = 128 << 10;

    /// <summary>Items of a tile, where an item moves this many bytes.</summary>
    public static long Grain(long bytes) => Math.Max(1, TileBytes / Math.Max(1, bytes));

    /// <summary>Runs the kernel over all items.</summary>
    /// <param name="team">The threads.</param>
    /// <param name="count">Number of items.</param>
    /// <param name="grain">Items of a tile.</param>
    /// <param name="kernel">What to compute.</param>
    public static void For<TKernel>(WorkerTeam team, long count, long grain, TKernel kernel) where TKernel : struct, IRangeKernel
    {
        if (count > 0) team.For(checked((int)((count + grain - 1) / grain)), new Tiles<TKernel>(kernel, count, grain));
    }

    private readonly struct Tiles<TKernel>(TKernel kernel, long count, long grain) : ITileJob where TKernel : struct, IRangeKernel
    {
        public void Run(int tile, int worker)
        {
            long start = tile * grain, end = Math.Min(count, start + grain);
            if (CpuFeatures.Avx512) kernel.Run<Simd512>(start, end);
            else if (CpuFeatures.Avx2) kernel.Run<Simd256>(start, end);
            else kernel.Run<Simd128>(start, end);
        }
    }
}

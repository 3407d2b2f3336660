// What this machine can do at most, measured: the ceilings that kernel speeds are shares of. Arithmetic from a loop that stays in
// registers, memory from a sum over more than the caches hold, caches from a copy that fits the second level. Each is the best
// of several short runs, since a disturbed run can only be slower.
using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Fathom.Compute.Cpu.Gemm;
using Fathom.Compute.Cpu.MachineCode;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary>Measured ceilings of the host's processor.</summary>
/// <param name="Threads">Threads of the team that was measured.</param>
/// <param name="CoreGigaflops">F32 multiply-adds of one thread alone, 10⁹ FLOP/s (a multiply-add counts two).</param>
/// <param name="TeamGigaflops">The same of all threads at once.</param>
/// <param name="ReadGigabytes">Reading from memory by all threads, 10⁹ B/s.</param>
/// <param name="CacheCopyGigabytes">Copying within the second-level caches by all threads, read and written, 10⁹ B/s.</param>
/// <param name="BFloat16Gigaflops">Multiply-adds of BF16 dot products of all threads at once, 10⁹ FLOP/s; 0 where there are none.</param>
public sealed record MachinePeaks(int Threads, double CoreGigaflops, double TeamGigaflops, double ReadGigabytes, double CacheCopyGigabytes, double BFloat16Gigaflops)
{
    private const int Runs = 5;

    // Threads that woke a moment ago may share a core for some milliseconds: arithmetic of all is measured for longer than that.
    private const double ArithmeticSeconds = 0.2;

    private const int Steps = 400_000;
    private const long CopyBytes = 256 << 10;

    /// <summary>Measures; takes less than a second.</summary>
    /// <param name="team">The threads to measure; nothing else should run on them.</param>
    /// <exception cref="FathomException">No memory for the buffer that is read.</exception>
    public static MachinePeaks Measure(WorkerTeam team)
    {
        double core = 0, read = 0, copy = 0, all = TeamFlops(team);
        int threads = team.Size;
        for (int run = 0; run < Runs; run++) core = Math.Max(core, Flops / Seconds(team, 1, new ArithmeticJob()));
        var memory = new MemoryRead(team);
        for (int run = 0; run < Runs; run++) read = Math.Max(read, memory.Measure());

        const int Copies = 64;
        Tensor caches = HostMemory.Allocate(new Shape(2 * CopyBytes * threads), DType.U8);
        for (int run = 0; run < Runs; run++)
            copy = Math.Max(copy, 2.0 * CopyBytes * Copies * threads / Seconds(team, threads, new CopyJob(caches.Address, CopyBytes, Copies)));
        return new MachinePeaks(threads, core / 1e9, all / 1e9, read / 1e9, copy / 1e9, TeamBFloat16Flops(team) / 1e9);
    }

    /// <summary>Measures the multiply-adds of all threads alone; takes a fifth of a second.</summary>
    /// <param name="team">The threads to measure.</param>
    /// <returns>FLOP/s.</returns>
    public static double TeamFlops(WorkerTeam team) => TeamFlops(team, Flops, new ArithmeticJob());

    /// <summary>Measures the BF16 dot products of all threads alone; takes a fifth of a second.</summary>
    /// <param name="team">The threads to measure.</param>
    /// <returns>FLOP/s; 0 where the processor has no such products, or the system lets no code be written.</returns>
    public static double TeamBFloat16Flops(WorkerTeam team) =>
        CpuFeatures.BFloat16Dots ? TeamFlops(team, 2.0 * BFloat16Code.ArithmeticDots * BFloat16Code.VectorElements * Steps, new BFloat16Job()) : 0;

    /// <inheritdoc/>
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"{CoreGigaflops:F0} GFLOP/s a core, {TeamGigaflops:F0} GFLOP/s{(BFloat16Gigaflops > 0 ? $" ({BFloat16Gigaflops:F0} in BF16)" : "")} and {ReadGigabytes:F1} GB/s with {Threads} threads, {CacheCopyGigabytes:F0} GB/s copied in cache");

    private static double TeamFlops<TJob>(WorkerTeam team, double flops, TJob job) where TJob : struct, ITileJob
    {
        double best = 0;
        for (long start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start).TotalSeconds < ArithmeticSeconds;)
            best = Math.Max(best, flops * team.Size / Seconds(team, team.Size, job));
        return best;
    }

    private static double Flops => 2.0 * 12 * Steps * (CpuFeatures.Avx512 ? Width512.Count : CpuFeatures.Avx2 ? Width256.Count : Width128.Count);

    internal static double Seconds<TJob>(WorkerTeam team, int tiles, TJob job) where TJob : struct, ITileJob
    {
        long start = Stopwatch.GetTimestamp();
        team.For(tiles, job);
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private readonly struct ArithmeticJob : ITileJob
    {
        public void Run(int tile, int worker)
        {
            float result = CpuFeatures.Avx512 ? MultiplyAdd<Vector512<float>, Width512>(Steps)
                : CpuFeatures.Avx2 ? MultiplyAdd<Vector256<float>, Width256>(Steps) : MultiplyAdd<Vector128<float>, Width128>(Steps);
            GC.KeepAlive(float.IsNaN(result) ? this : null);
        }

        // Twelve independent sums hide the latency of the multiply-add at two a cycle; the factor pulls them to a fixed point.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static float MultiplyAdd<TVector, TWidth>(int steps)
            where TVector : struct
            where TWidth : struct, IVectorWidth<TVector>
        {
            TVector half = TWidth.Broadcast(0.5f), one = TWidth.Broadcast(1);
            TVector s0 = one, s1 = one, s2 = one, s3 = one, s4 = one, s5 = one, s6 = one, s7 = one, s8 = one, s9 = one, s10 = one, s11 = one;
            for (; steps > 0; steps--)
            {
                s0 = TWidth.MultiplyAdd(s0, half, one);
                s1 = TWidth.MultiplyAdd(s1, half, one);
                s2 = TWidth.MultiplyAdd(s2, half, one);
                s3 = TWidth.MultiplyAdd(s3, half, one);
                s4 = TWidth.MultiplyAdd(s4, half, one);
                s5 = TWidth.MultiplyAdd(s5, half, one);
                s6 = TWidth.MultiplyAdd(s6, half, one);
                s7 = TWidth.MultiplyAdd(s7, half, one);
                s8 = TWidth.MultiplyAdd(s8, half, one);
                s9 = TWidth.MultiplyAdd(s9, half, one);
                s10 = TWidth.MultiplyAdd(s10, half, one);
                s11 = TWidth.MultiplyAdd(s11, half, one);
            }

            TVector low = TWidth.Add(TWidth.Add(TWidth.Add(s0, s1), TWidth.Add(s2, s3)), TWidth.Add(s4, s5));
            TVector high = TWidth.Add(TWidth.Add(TWidth.Add(s6, s7), TWidth.Add(s8, s9)), TWidth.Add(s10, s11));
            return TWidth.Sum(TWidth.Add(low, high));
        }
    }

    private readonly unsafe struct BFloat16Job : ITileJob
    {
        public void Run(int tile, int worker) => BFloat16Code.Arithmetic(Steps);
    }

    private readonly unsafe struct CopyJob(nint address, long bytes, int times) : ITileJob
    {
        public void Run(int tile, int worker)
        {
            byte* from = (byte*)address + 2 * bytes * tile;
            for (int i = 0; i < times; i++) Buffer.MemoryCopy(from, from + bytes, bytes, bytes);
        }
    }
}

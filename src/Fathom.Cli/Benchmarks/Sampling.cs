// Measuring on a machine that is not ours alone. Work and peak are sampled in turn, so that both see the same disturbances, and of
// both the best is taken, since a disturbed sample can only be slower. The peak is the best of the whole run so far: the machine
// does not get faster from row to row, so a row cannot look good beside a yardstick that was measured at a bad moment.
using System.Diagnostics;
using Fathom.Compute.Cpu;

namespace Fathom.Cli.Benchmarks;

/// <summary>Takes samples.</summary>
/// <param name="device">What is measured; its team measures the peaks too.</param>
/// <param name="quick">Fewer samples.</param>
internal sealed class Sampling(CpuDevice device, bool quick)
{
    private const double SampleSeconds = 0.01; // about as long as a sample of the peak
    private const double RoundSeconds = 0.06;
    private MachinePeaks? peaks;

    /// <summary>What is measured.</summary>
    public CpuDevice Device => device;

    /// <summary>Whether a short answer is wanted.</summary>
    public bool Quick => quick;

    private int Samples => quick ? 3 : 7;

    /// <summary>A row for work that is counted in FLOPs or bytes.</summary>
    /// <param name="name">The row's name.</param>
    /// <param name="amount">FLOPs or bytes of one call.</param>
    /// <param name="yardstick">What it is compared with; not none.</param>
    /// <param name="goal">The goal.</param>
    /// <param name="work">The work; called a few times for warm-up, then as often as a sample takes.</param>
    public BenchmarkRow Rate(string name, double amount, Yardstick yardstick, Goal? goal, Action work)
    {
        int calls = WarmUp(work);
        double best = 0, peak = 0;
        for (int i = 0; i < Samples; i++)
        {
            MachinePeaks measured = MeasurePeaks();
            peak = yardstick == Yardstick.ReadBandwidth ? measured.ReadGigabytes : measured.TeamGigaflops;
            double spent = 0;
            while (spent < RoundSeconds)
            {
                double seconds = Seconds(work, calls);
                best = Math.Max(best, amount * calls / seconds / 1e9);
                spent += seconds;
            }
        }

        return new BenchmarkRow(name, best, yardstick == Yardstick.ReadBandwidth ? "GB/s" : "GFLOP/s", goal)
        {
            Yardstick = yardstick,
            YardstickValue = peak,
            Ratio = best / peak,
        };
    }

    /// <summary>Least seconds of a call over several, without warm-up.</summary>
    public double BestSeconds(Action work)
    {
        double best = double.PositiveInfinity;
        for (int i = 0; i < Samples; i++) best = Math.Min(best, Seconds(work, 1));
        return best;
    }

    /// <summary>Measures the machine; of each ceiling the best of the run so far.</summary>
    public MachinePeaks MeasurePeaks()
    {
        MachinePeaks now = MachinePeaks.Measure(device.Team);
        return peaks = peaks is null ? now : now with
        {
            CoreGigaflops = Math.Max(now.CoreGigaflops, peaks.CoreGigaflops),
            TeamGigaflops = Math.Max(now.TeamGigaflops, peaks.TeamGigaflops),
            ReadGigabytes = Math.Max(now.ReadGigabytes, peaks.ReadGigabytes),
            CacheCopyGigabytes = Math.Max(now.CacheCopyGigabytes, peaks.CacheCopyGigabytes),
        };
    }

    /// <summary>Managed bytes that calls allocate on all threads, after warm-up.</summary>
    public static long AllocatedBytes(Action work, int calls)
    {
        long before = GC.GetTotalAllocatedBytes(precise: true);
        for (int i = 0; i < calls; i++) work();
        return GC.GetTotalAllocatedBytes(precise: true) - before;
    }

    /// <summary>Seconds of some calls.</summary>
    public static double Seconds(Action work, int calls)
    {
        long started = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++) work();
        return Stopwatch.GetElapsedTime(started).TotalSeconds;
    }

    // Twice at least: the first call compiles, the second fills caches and tells how many calls make a sample.
    private static int WarmUp(Action work)
    {
        work();
        double once = Seconds(work, 1);
        return (int)Math.Clamp(SampleSeconds / Math.Max(once, 1e-7), 1, 100_000);
    }
}

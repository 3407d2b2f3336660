// Measuring on a machine that is not ours alone. A ratio to the machine's peak means something only when both were measured at the
// same moment, so each sample of the work has a sample of the peak directly before it, and the median of the ratios is reported.
using System.Diagnostics;
using Fathom.Compute.Cpu;

namespace Fathom.Cli.Benchmarks;

/// <summary>Takes samples.</summary>
/// <param name="device">What is measured; its team measures the peaks too.</param>
/// <param name="quick">Fewer samples.</param>
internal sealed class Sampling(CpuDevice device, bool quick)
{
    private const double SampleSeconds = 0.15;

    /// <summary>What is measured.</summary>
    public CpuDevice Device => device;

    /// <summary>Whether a short answer is wanted.</summary>
    public bool Quick => quick;

    private int Samples => quick ? 2 : 5;

    /// <summary>A row for work that is counted in FLOPs or bytes.</summary>
    /// <param name="name">The row's name.</param>
    /// <param name="amount">FLOPs or bytes of one call.</param>
    /// <param name="yardstick">What it is compared with; not none.</param>
    /// <param name="goal">The goal.</param>
    /// <param name="work">The work; called a few times for warm-up, then as often as a sample takes.</param>
    public BenchmarkRow Rate(string name, double amount, Yardstick yardstick, Goal? goal, Action work)
    {
        int calls = WarmUp(work);
        var samples = new List<(double Value, double Peak, double Ratio)>();
        for (int i = 0; i < Samples; i++)
        {
            double peak = Peak(yardstick), value = amount * calls / Seconds(work, calls) / 1e9;
            samples.Add((value, peak, value / peak));
        }

        samples.Sort((a, b) => a.Ratio.CompareTo(b.Ratio));
        (double median, double beside, double ratio) = samples[samples.Count / 2];
        return new BenchmarkRow(name, median, yardstick == Yardstick.ReadBandwidth ? "GB/s" : "GFLOP/s", goal)
        {
            Yardstick = yardstick,
            YardstickValue = beside,
            Ratio = ratio,
        };
    }

    /// <summary>Median seconds of a call, without warm-up.</summary>
    public double MedianSeconds(Action work)
    {
        var samples = new double[Samples];
        for (int i = 0; i < samples.Length; i++) samples[i] = Seconds(work, 1);
        Array.Sort(samples);
        return samples[samples.Length / 2];
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

    private double Peak(Yardstick yardstick)
    {
        MachinePeaks peaks = MachinePeaks.Measure(device.Team);
        return yardstick == Yardstick.ReadBandwidth ? peaks.ReadGigabytes : peaks.TeamGigaflops;
    }
}

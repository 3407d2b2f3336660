// Measuring on a machine that is not ours alone. Work and peak are sampled in turn, so that both see the same disturbances.
// Arithmetic: of both the best is taken, since a disturbed sample can only be slower. The peak is the best of the whole run so far:
// cores do not get faster from row to row, so a row cannot look good beside a yardstick that was measured at a bad moment.
// Memory does get faster: what neighbours leave of it differs by a factor of two from one second to the next, and from place to place.
// So the yardstick is reading the very memory that the work reads, each sample of work is divided by the better of the yardstick right
// before and right after it, and the median of these shares counts.
using System.Diagnostics;
using Fathom.Compute;
using Fathom.Compute.Cpu;

namespace Fathom.Cli.Benchmarks;

/// <summary>Takes samples.</summary>
/// <param name="device">What is measured; its team measures the peaks too.</param>
/// <param name="quick">Fewer samples.</param>
internal sealed class Sampling(CpuDevice device, bool quick)
{
    private const double SampleSeconds = 0.01; // about as long as a sample of the peak
    private const double RoundSeconds = 0.06;

    // A best is known when so many rounds have not bettered it by half a percent; a machine that is never calm is given up.
    private const int CalmRounds = 6, MostRounds = 40;
    private const double Progress = 1.005;
    private MachinePeaks? peaks;

    /// <summary>What is measured.</summary>
    public CpuDevice Device => device;

    /// <summary>Whether a short answer is wanted.</summary>
    public bool Quick => quick;

    private int Samples => quick ? 3 : 7;

    /// <summary>A row for work that is bound by arithmetic.</summary>
    /// <param name="name">The row's name.</param>
    /// <param name="flops">Of one call.</param>
    /// <param name="goal">The goal.</param>
    /// <param name="work">The work; called a few times for warm-up, then as often as a sample takes.</param>
    /// <param name="yardstick">The peak of multiply-adds, or of BF16 dot products.</param>
    public BenchmarkRow ArithmeticRate(string name, double flops, Goal? goal, Action work, Yardstick yardstick = Yardstick.FmaPeak)
    {
        int calls = WarmUp(work);
        bool narrow = yardstick == Yardstick.BFloat16Peak;
        double best = 0, peak = narrow ? MeasurePeaks().BFloat16Gigaflops : MeasurePeaks().TeamGigaflops;
        for (int round = 0, calm = 0; round < Samples || (calm < CalmRounds && round < MostRounds && !quick); round++, calm++)
        {
            peak = Math.Max(peak, (narrow ? MachinePeaks.TeamBFloat16Flops(device.Team) : MachinePeaks.TeamFlops(device.Team)) / 1e9);
            double rate = flops / RoundSecondsOf(work, calls) / 1e9;
            if (rate > best * Progress) calm = 0;
            best = Math.Max(best, rate);
        }

        peaks = narrow ? peaks! with { BFloat16Gigaflops = peak } : peaks! with { TeamGigaflops = peak };
        return new BenchmarkRow(name, best, "GFLOP/s", goal) { Yardstick = yardstick, YardstickValue = peak, Ratio = best / peak };
    }

    /// <summary>Samples of works that are bound by reading memory, taken in turn with each other and with the yardstick.</summary>
    /// <param name="works">What is read by one call, in bytes, the call, and the memory that it reads.</param>
    public ReadSamples ReadRates(params (double Bytes, Action Work, Tensor Memory)[] works)
    {
        int[] calls = [.. works.Select(w => WarmUp(w.Work))];
        MemoryRead[] memories = [.. works.Select(w => new MemoryRead(device.Team, w.Memory))];
        int rounds = quick ? 15 : 75;
        double[][] rates = [.. works.Select(_ => new double[rounds])], yardsticks = [.. works.Select(_ => new double[rounds])];
        for (int round = 0; round < rounds; round++)
        {
            for (int i = 0; i < works.Length; i++)
            {
                double before = memories[i].Measure();
                rates[i][round] = works[i].Bytes * calls[i] / Seconds(works[i].Work, calls[i]) / 1e9;
                yardsticks[i][round] = Math.Max(before, memories[i].Measure()) / 1e9;
            }
        }

        return new ReadSamples(rates, yardsticks);
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
            BFloat16Gigaflops = Math.Max(now.BFloat16Gigaflops, peaks.BFloat16Gigaflops),
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

    // The least seconds of a call in a round.
    private static double RoundSecondsOf(Action work, int calls)
    {
        double best = double.PositiveInfinity;
        for (double spent = 0; spent < RoundSeconds;)
        {
            double seconds = Seconds(work, calls);
            best = Math.Min(best, seconds / calls);
            spent += seconds;
        }

        return best;
    }

    // Twice at least: the first call compiles, the second fills caches and tells how many calls make a sample.
    private static int WarmUp(Action work)
    {
        work();
        double once = Seconds(work, 1);
        return (int)Math.Clamp(SampleSeconds / Math.Max(once, 1e-7), 1, 100_000);
    }
}

/// <summary>Speeds of works that read memory, each sample with the yardstick of its moment, 10⁹ B/s.</summary>
/// <param name="Rates">[work][round].</param>
/// <param name="Yardsticks">[work][round], the better of right before and right after.</param>
internal sealed record ReadSamples(double[][] Rates, double[][] Yardsticks)
{
    /// <summary>A row of medians; the share is the median of the rounds' shares.</summary>
    /// <param name="work">Which of the works.</param>
    /// <param name="name">The row's name.</param>
    /// <param name="goal">The goal.</param>
    public BenchmarkRow Row(int work, string name, Goal? goal) => new(name, Median(Rates[work]), "GB/s", goal)
    {
        Yardstick = Yardstick.ReadBandwidth,
        YardstickValue = Median(Yardsticks[work]),
        Ratio = Median([.. Rates[work].Zip(Yardsticks[work], (rate, yardstick) => rate / yardstick)]),
    };

    /// <summary>The median of a round's calls a second of one work over those of another.</summary>
    /// <param name="work">The one.</param>
    /// <param name="bytes">What it reads in a call.</param>
    /// <param name="other">The other.</param>
    /// <param name="otherBytes">What that reads in a call.</param>
    public double CallsOver(int work, double bytes, int other, double otherBytes) =>
        Median([.. Rates[work].Zip(Rates[other], (rate, ofOther) => rate / bytes / (ofOther / otherBytes))]);

    private static double Median(double[] values) => values.Order().ElementAt(values.Length / 2);
}

// Speed of the operator table's rows: the same rows that the tests check. The share is of whichever ceiling binds: arithmetic or
// memory, from the row's own FLOPs and bytes. Rows that fit the caches may exceed the share of memory.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Compute.Table;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>One timed row of the operator table.</summary>
internal sealed record OperatorTiming(string Name, double Seconds, double Gigaflops, double Gigabytes, double Share)
{
    /// <summary>Titles of the columns.</summary>
    public static string Header => $"{"operator",-58} {"time",12} {"GFLOP/s",9} {"GB/s",8} {"ceiling",8}";

    /// <inheritdoc/>
    public override string ToString() =>
        Invariant($"{Name,-58} {Seconds * 1e6,9:N1} µs {Dash(Gigaflops),9} {Dash(Gigabytes),8} {(Share > 0 ? Percent(Share) : "-"),8}");

    private static string Dash(double value) => value > 0 ? Invariant($"{value:F1}") : "-";
}

/// <summary>Times operators.</summary>
internal static class OperatorBenchmark
{
    /// <summary>Times the large rows of the table, or all.</summary>
    /// <param name="sampling">How to measure.</param>
    /// <param name="only">Part of the names wanted; null for all.</param>
    /// <param name="small">Whether to time the rows for tests too.</param>
    public static IEnumerable<OperatorTiming> Run(Sampling sampling, string? only, bool small)
    {
        foreach (OperatorCase row in OperatorTable.All())
        {
            if (only is not null && !row.ToString().Contains(only, StringComparison.OrdinalIgnoreCase)) continue;
            if (!row.Small || small) yield return Time(sampling, row);
        }
    }

    private static OperatorTiming Time(Sampling sampling, OperatorCase row)
    {
        Tensor[] operands = row.Prepare(sampling.Device, 1);
        row.Run(sampling.Device, operands);
        double once = Sampling.Seconds(() => row.Run(sampling.Device, operands), 1);
        int calls = (int)Math.Clamp(0.02 / Math.Max(once, 1e-7), 1, 20_000);
        MachinePeaks peaks = sampling.MeasurePeaks();
        double seconds = sampling.BestSeconds(RunMany) / calls;
        double gigaflops = row.Flops / seconds / 1e9, gigabytes = row.Bytes / seconds / 1e9;
        return new OperatorTiming(row.ToString(), seconds, gigaflops, gigabytes, Math.Max(gigaflops / (row.InBFloat16 && peaks.BFloat16Gigaflops > 0 ? peaks.BFloat16Gigaflops : peaks.TeamGigaflops), gigabytes / peaks.ReadGigabytes));

        void RunMany()
        {
            for (int i = 0; i < calls; i++) row.Run(sampling.Device, operands);
        }
    }
}

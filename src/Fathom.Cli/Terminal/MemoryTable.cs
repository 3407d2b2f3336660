// The memory report as a table, and the share that FP8 keeps of what BF16 keeps.
using Fathom.Training;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Terminal;

/// <summary>Prints memory reports.</summary>
internal static class MemoryTable
{
    /// <summary>The table of one recipe.</summary>
    public static void Print(MemoryReport report)
    {
        Console.WriteLine();
        Console.WriteLine($"{report.Recipe,-24} {"measured",18} {"predicted",18} {"difference",11}");
        foreach (MemoryRow row in report.Rows) Line(row);
        Line(report.Saved);
        Line(report.Total);
        Console.WriteLine(Invariant($"saved activations and workspace lie in {report.ChunkBytes:N0} bytes of chunks"));

        static void Line(MemoryRow row) =>
            Console.WriteLine(Invariant($"{row.Kind,-24} {row.Measured,18:N0} {row.Predicted,18:N0} {row.Difference * 100,9:F2} %"));
    }
}

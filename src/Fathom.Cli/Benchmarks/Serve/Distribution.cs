// Percentiles by the nearest rank: every number shown was measured, none lies between two that were.
using System.Text.Json.Nodes;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks.Serve;

/// <summary>How measured times are spread.</summary>
internal sealed class Distribution
{
    private readonly double[] sorted;

    /// <summary>The distribution of some times.</summary>
    /// <param name="seconds">In any order; may be empty.</param>
    public Distribution(IEnumerable<double> seconds)
    {
        sorted = [.. seconds];
        Array.Sort(sorted);
    }

    /// <summary>Heads the columns of <see cref="Row"/>.</summary>
    public static string Header => $"{"milliseconds",-24}{"mean",10}{"p50",10}{"p90",10}{"p99",10}{"max",10}";

    /// <summary>How many there are.</summary>
    public int Count => sorted.Length;

    /// <summary>Their mean in seconds; not a number where there are none.</summary>
    public double Mean => sorted.Length > 0 ? sorted.Average() : double.NaN;

    /// <summary>The longest in seconds; not a number where there are none.</summary>
    public double Max => Percentile(100);

    /// <summary>The smallest time that at least a share of all do not exceed, in seconds; not a number where there are none.</summary>
    /// <param name="percent">The share, above 0 and at most 100.</param>
    public double Percentile(double percent) => sorted.Length > 0
        ? sorted[Math.Clamp((int)Math.Ceiling(percent / 100 * sorted.Length) - 1, 0, sorted.Length - 1)]
        : double.NaN;

    /// <summary>A line for people, in milliseconds.</summary>
    /// <param name="name">What was measured.</param>
    public string Row(string name) => sorted.Length > 0
        ? Invariant($"{name,-24}{Mean * 1e3,10:F1}{Percentile(50) * 1e3,10:F1}{Percentile(90) * 1e3,10:F1}{Percentile(99) * 1e3,10:F1}{Max * 1e3,10:F1}")
        : $"{name,-24}{"-",10}{"-",10}{"-",10}{"-",10}{"-",10}";

    /// <summary>The same for programs; null where nothing was measured.</summary>
    public JsonObject? ToJson() => sorted.Length == 0 ? null : new JsonObject
    {
        ["count"] = Count,
        ["mean_ms"] = Mean * 1e3,
        ["p50_ms"] = Percentile(50) * 1e3,
        ["p90_ms"] = Percentile(90) * 1e3,
        ["p99_ms"] = Percentile(99) * 1e3,
        ["max_ms"] = Max * 1e3,
    };
}

using System.Text.Json.Nodes;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>What a ratio is formed with.</summary>
internal enum Yardstick
{
    /// <summary>Nothing: the value stands for itself.</summary>
    None,

    /// <summary>The measured multiply-add peak of the whole team.</summary>
    FmaPeak,

    /// <summary>The measured peak of BF16 dot products of the whole team.</summary>
    BFloat16Peak,

    /// <summary>The measured read bandwidth of the whole team.</summary>
    ReadBandwidth,
}

/// <summary>One measured number.</summary>
/// <param name="Name">What was measured.</param>
/// <param name="Value">The best of several samples, or their median.</param>
/// <param name="Unit">Its unit.</param>
/// <param name="Goal">What it should reach, as <see cref="Goal.Text"/> says it; null where there is none.</param>
internal sealed record BenchmarkRow(string Name, double Value, string Unit, Goal? Goal = null)
{
    /// <summary>What the ratio is formed with.</summary>
    public Yardstick Yardstick { get; init; }

    /// <summary>The yardstick's value: of arithmetic the best in the run so far, of memory the median beside the samples.</summary>
    public double YardstickValue { get; init; } = double.NaN;

    /// <summary>Value over yardstick, or the median of such shares.</summary>
    public double Ratio { get; init; } = double.NaN;

    /// <summary>What the number depends on.</summary>
    public string Note { get; init; } = "";

    /// <summary>Whether the goal is met; null without a goal.</summary>
    public bool? Met => Goal?.IsMet(Yardstick == Yardstick.None ? Value : Ratio);

    /// <summary>Titles of the columns of <see cref="ToString"/>.</summary>
    public static string Header => $"{"",-46} {"",12}           {"yardstick",20} {"ratio",6}   goal";

    /// <inheritdoc/>
    public override string ToString()
    {
        string yardstick = Yardstick switch
        {
            Yardstick.FmaPeak or Yardstick.BFloat16Peak => Invariant($"{YardstickValue:F0} GFLOP/s peak"),
            Yardstick.ReadBandwidth => Invariant($"{YardstickValue:F1} GB/s read"),
            _ => "",
        };
        string ratio = Yardstick == Yardstick.None ? "" : Percent(Ratio), met = Met switch { true => "met", false => "MISSED", null => "" };
        string note = Note.Length > 0 ? $"  ({Note})" : "";
        return Invariant($"{Name,-46} {Number(Value),12} {Unit,-9} {yardstick,20} {ratio,6}   {Goal?.Text,-10} {met,-6}{note}").TrimEnd();
    }

    /// <summary>The row as JSON.</summary>
    public JsonObject ToJson()
    {
        var json = new JsonObject { ["name"] = Name, ["value"] = Value, ["unit"] = Unit };
        if (Yardstick != Yardstick.None)
        {
            json["yardstick"] = Yardstick switch
            {
                Yardstick.FmaPeak => "fma_peak_gflops",
                Yardstick.BFloat16Peak => "bf16_peak_gflops",
                _ => "read_bandwidth_gbytes",
            };
            json["yardstick_value"] = YardstickValue;
            json["ratio"] = Ratio;
        }

        if (Goal is not null) (json["goal"], json["met"]) = (Goal.Text, Met);
        if (Note.Length > 0) json["note"] = Note;
        return json;
    }

    private static string Number(double value) => Math.Abs(value) switch
    {
        >= 100 => Invariant($"{value:N0}"),
        >= 10 => Invariant($"{value:F1}"),
        _ => Invariant($"{value:F2}"),
    };
}

/// <summary>A bound on a ratio or a value.</summary>
/// <param name="Bound">The bound.</param>
/// <param name="AtLeast">Whether it is a lower bound.</param>
/// <param name="Text">How to write it.</param>
internal sealed record Goal(double Bound, bool AtLeast, string Text)
{
    /// <summary>At least a share of a yardstick.</summary>
    public static Goal Share(double share) => new(share, true, $"≥ {Percent(share)}");

    /// <summary>Whether a number is within the bound.</summary>
    public bool IsMet(double value) => AtLeast ? value >= Bound : value <= Bound;
}

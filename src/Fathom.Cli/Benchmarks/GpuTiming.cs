using System.Text.Json.Nodes;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>What a GPU reaches in this run: the yardsticks of all rows.</summary>
/// <param name="CopyTerabytes">TB/s of a large copy, bytes read and written counted.</param>
/// <param name="BFloat16Teraflops">TFLOP/s of a large BF16 product through cuBLASLt.</param>
/// <param name="Fp8Teraflops">TFLOP/s of a large E4M3 product with block scales through cuBLASLt; 0 where it has none.</param>
internal sealed record GpuCeilings(double CopyTerabytes, double BFloat16Teraflops, double Fp8Teraflops)
{
    /// <inheritdoc/>
    public override string ToString() => Invariant(
        $"copy {CopyTerabytes:F2} TB/s, bf16 product {BFloat16Teraflops:F0} TFLOP/s, fp8 product {(Fp8Teraflops > 0 ? Invariant($"{Fp8Teraflops:F0} TFLOP/s") : "-")}");
}

/// <summary>One timed operator.</summary>
/// <param name="Name">Operator and shape.</param>
/// <param name="Seconds">Median time.</param>
/// <param name="Flops">Operations of a call; 0 where bytes are what counts.</param>
/// <param name="Bytes">Bytes that must move at least.</param>
/// <param name="Share">Of the ceiling that binds.</param>
/// <param name="Library">Median time of cuBLASLt for the same product in the same run; null where it has none.</param>
internal sealed record GpuTiming(string Name, double Seconds, double Flops, double Bytes, double Share, double? Library)
{
    /// <summary>More to say about the row.</summary>
    public string Note { get; init; } = "";

    /// <summary>Titles of the columns.</summary>
    public static string Header => $"{"operator",-62} {"time",11} {"TFLOP/s",8} {"GB/s",7} {"ceiling",8} {"cuBLASLt/own",13}";

    /// <inheritdoc/>
    public override string ToString() => Invariant(
        $"{Name,-62} {Seconds * 1e6,8:N1} µs {(Flops > 0 ? Invariant($"{Flops / Seconds / 1e12:F0}") : "-"),8} {Bytes / Seconds / 1e9,7:F0} {Percent(Share),8} {(Library is { } library ? Invariant($"{library / Seconds:F2}") : "-"),13}{(Note.Length > 0 ? "  " : "")}{Note}");

    /// <summary>The row as JSON.</summary>
    public JsonObject ToJson() => new()
    {
        ["name"] = Name,
        ["seconds"] = Seconds,
        ["tflops"] = Flops > 0 ? Flops / Seconds / 1e12 : null,
        ["gbytes_per_second"] = Bytes / Seconds / 1e9,
        ["share_of_ceiling"] = Share,
        ["cublaslt_seconds"] = Library,
        ["note"] = Note.Length > 0 ? Note : null,
    };
}

// A model in another number format: FP8 out of a training run for other engines, BF16 out of a published FP8 checkpoint.
using System.CommandLine;
using System.Globalization;
using Fathom.Cli.Terminal;
using Fathom.Model;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom convert</c>.</summary>
internal static class ConvertVerb
{
    private static readonly (string Unit, double Bytes)[] Units =
        [("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("KiB", 1024), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)];

    public static Command Create()
    {
        var model = CommonOptions.Model();
        var format = new Option<string>("--to")
        {
            Description = "Format of the Linear weights: fp8 (E4M3 as DeepSeek publishes it), bf16, fp32, or hif8 (only Fathom reads it).",
            HelpName = "FORMAT",
            Required = true,
        };
        format.AcceptOnlyFromAmong("fp8", "bf16", "fp32", "hif8");
        var output = new Option<string>("--out") { Description = "Folder to write; it appears when it is whole, and must not hold anything yet.", HelpName = "DIR", Required = true };
        var scales = new Option<string?>("--scales")
        {
            Description = "With fp8 and hif8: f32, or ue8m0 for powers of two as DeepSeek-V3.1 has them. As in the source where it has scales, else f32.",
            HelpName = "KIND",
        };
        scales.AcceptOnlyFromAmong("f32", "ue8m0");
        var dtype = new Option<string?>("--dtype")
        {
            Description = "With fp8 and hif8: type of what is not quantised (embedding, head, router, norms): bf16 as published, or fp32.",
            HelpName = "TYPE",
        };
        dtype.AcceptOnlyFromAmong("bf16", "fp32");
        var shardSize = new Option<string>("--shard-size")
        {
            Description = "Most weights in a file, such as 5GB or 500MB.",
            HelpName = "SIZE",
            DefaultValueFactory = _ => "5GB",
        };
        var weights = CommonOptions.Weights();
        var threads = CommonOptions.Threads();
        var command = new Command("convert", "Write a model in another number format.") { model, format, output, scales, dtype, shardSize, weights, threads };
        command.Validators.Add(result =>
        {
            if (result.GetValue(format) is "bf16" or "fp32" && (result.GetResult(scales) is not null || result.GetResult(dtype) is not null))
                result.AddError("--scales and --dtype go with --to fp8 and --to hif8 only");
        });
        command.SetAction(arguments =>
        {
            var options = new ConversionOptions(FormatOf(arguments.GetRequiredValue(format)))
            {
                Dtype = FormatOf(arguments.GetValue(dtype) ?? "bf16"),
                PowerOfTwoScales = arguments.GetValue(scales) is { } kind ? kind == "ue8m0" : null,
                Weights = arguments.GetValue(weights),
                ShardBytes = ParseSize(arguments.GetRequiredValue(shardSize)),
                Threads = CommonOptions.CheckThreads(arguments.GetValue(threads)),
            };
            string source = ModelFolder.Resolve(arguments.GetRequiredValue(model), options.Weights, mainWeights: true);
            using var interruption = new Interruption();
            using var progress = new ConversionProgress();
            ConversionReport report = ModelConverter.Convert(source, arguments.GetRequiredValue(output), options, progress.Report, interruption.Token);
            progress.Dispose();
            Print(report);
            return ExitCode.Success;
        });
        return command;
    }

    private static void Print(ConversionReport report)
    {
        QuantizationConfig? quantization = report.Config.QuantizationConfig;
        string rest = quantization is null
            ? ""
            : Invariant($", {report.Quantized} of them {quantization.WeightType.SafetensorsName()} with {(quantization.HasPowerOfTwoScales ? "power-of-two" : "F32")} scales a {quantization.BlockRows} x {quantization.BlockColumns} block");
        Console.WriteLine($"{CommandName.Argument(report.Source)} -> {CommandName.Argument(report.Folder)}");
        Console.WriteLine(Invariant($"{report.Tensors} tensors in {report.Shards} {(report.Shards == 1 ? "file" : "files")}{rest}"));
        if (report.LeftOut > 0) Console.WriteLine(Invariant($"{report.LeftOut} tensors of the source are not part of the model in its config.json and were left out"));
        Console.WriteLine(Invariant(
            $"read {report.BytesRead / 1e9:F2} GB, wrote {report.BytesWritten / 1e9:F2} GB in {report.Seconds:F2} s: {report.BytesRead / 1e9 / report.Seconds:F2} GB/s read, {report.BytesWritten / 1e9 / report.Seconds:F2} GB/s written"));
    }

    private static DType FormatOf(string name) => name switch
    {
        "fp8" => DType.F8E4M3,
        "hif8" => DType.HiF8,
        "bf16" => DType.BF16,
        _ => DType.F32,
    };

    private static long ParseSize(string text)
    {
        foreach ((string unit, double bytes) in Units)
        {
            if (!text.EndsWith(unit, StringComparison.OrdinalIgnoreCase)) continue;
            bool isNumber = double.TryParse(text.AsSpan(0, text.Length - unit.Length), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number);
            if (isNumber && number * bytes is >= 1 and < 1e18) return (long)(number * bytes);
            break;
        }

        throw new FathomException($"--shard-size is {text}; give a number of bytes such as 5GB, 500MB or 1000000");
    }
}

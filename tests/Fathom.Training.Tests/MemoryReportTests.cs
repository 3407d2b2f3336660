// The report of a run: every prediction beside what a real step of a real trainer takes.
using System.Globalization;
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Training.Tests;

public sealed class MemoryReportTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("cpu", "fp32", false, null)]
    [InlineData("cpu", "bf16", true, null)]
    [InlineData("cpu", "fp8", false, null)]
    [InlineData("cpu", "fp8", true, DType.F32)]
    [InlineData("cpu", "hif8", false, DType.BF16)]
    [InlineData("separate bf16", "fp32", true, null)]
    [InlineData("separate bf16", "bf16", false, null)]
    [InlineData("separate bf16", "fp8", true, null)]
    [InlineData("cuda", "fp32", true, null)]
    [InlineData("cuda", "bf16", false, null)]
    [InlineData("cuda", "fp8", true, null)]
    public void Predictions_hold_for_every_kind(string device, string recipe, bool average, DType? moments)
    {
        TrainingConfig config = Config with
        {
            Recipe = Recipe.Named(recipe),
            Ema = average ? new EmaConfig() : null,
            Optimizer = new OptimizerConfig { Moments = moments },
        };
        MemoryReport report = Measure(config, device);
        Assert.True(report.Holds);
        Assert.Equal(average, report.Rows.Any(r => r.Kind == "moving average"));
        Assert.Contains(report.Rows, r => r.Kind == $"moments, {config.MomentType}");
        Assert.True(report.ChunkBytes >= report.Saved.Measured);
    }

    /// <summary>Presets whose widths a GPU's kernels take: codes of weights are kept transposed too, and so are operands over tokens.</summary>
    [Theory]
    [InlineData("quickstart", "fp32")]
    [InlineData("quickstart", "bf16")]
    [InlineData("quickstart", "fp8")]
    public void Predictions_hold_for_presets_on_a_GPU(string preset, string recipe)
    {
        TrainingConfig config = Config with { Model = preset, Recipe = Recipe.Named(recipe), MicroBatch = 1 };
        Assert.True(Measure(config, "cuda").Holds);
    }

    [Fact]
    public void The_vocabulary_is_the_tokenizers_and_the_batch_the_configurations()
    {
        (ModelConfig model, int batch, int tokens) = MemoryReport.ShapeOf(Config with { Tokenizer = new TokenizerConfig { VocabSize = 777 } });
        Assert.Equal((777, 2, 48), (model.VocabSize, batch, tokens));
    }

    [Fact]
    public void Ready_batches_bring_their_shape()
    {
        string file = Path.Combine(Golden.Fixture("nano-v3-train"), "reference.safetensors");
        TrainingConfig config = Config with { Data = new DataConfig { Type = DataType.Batches, File = file, Tensor = "data" }, MicroBatch = 2 };
        (ModelConfig model, int batch, int tokens) = MemoryReport.ShapeOf(config);
        output.WriteLine($"{batch} x {tokens}, vocabulary {model.VocabSize}");
        Assert.Equal(512, model.VocabSize);
        MemoryReport report = Measure(config);
        Assert.True(report.Holds);
    }

    [Fact]
    public void A_wrong_prediction_does_not_pass()
    {
        Assert.Equal(0, new MemoryRow("a", 0, 0).Difference);
        Assert.Equal(0.5, new MemoryRow("a", 100, 150).Difference);
        Assert.Equal(-1, new MemoryRow("a", 100, 0).Difference);
        Assert.Equal(double.PositiveInfinity, new MemoryRow("a", 0, 100).Difference);
    }

    // The text is not read: its path need not exist.
    private static TrainingConfig Config => TestRuns.Config(Path.Combine("no", "such", "text.txt"), 1);

    private MemoryReport Measure(TrainingConfig config, string on = "cpu")
    {
        using Device device = TestDevices.Open(on);
        MemoryReport report = MemoryReport.Measure(device, config);
        output.WriteLine(report.ToString());
        foreach (MemoryRow row in report.Rows.Append(report.Saved).Append(report.Total))
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{row.Kind}: measured {row.Measured:N0}, predicted {row.Predicted:N0}, {row.Difference:P3}"));
        return report;
    }
}

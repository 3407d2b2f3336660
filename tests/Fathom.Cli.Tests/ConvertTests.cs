// `fathom convert` as a process: formats that follow one another, a run directory, a kill at any moment, memory.
using System.Text.Json;
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Cli.Tests;

/// <summary>A BF16 model of half a gigabyte whose largest tensor has 34 MB: long enough to interrupt, larger than a conversion may hold.</summary>
public sealed class LargeModel : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public LargeModel()
    {
        ModelConfig config = new ModelConfig
        {
            VocabSize = 256,
            HiddenSize = 2048,
            IntermediateSize = 8192,
            NumHiddenLayers = 4,
            NumAttentionHeads = 8,
            NRoutedExperts = 0,
            NSharedExperts = 0,
            FirstKDenseReplace = 4,
            MaxPositionEmbeddings = 64,
        }.Validate("test model");
        CheckpointWriter.Write(Path, TensorLayout.Enumerate(config).Select(t => t.Declare(DType.BF16)), t =>
        {
            Tensor tensor = HostMemory.Allocate(new Shape(t.Shape), DType.BF16);
            new Random(1).NextBytes(System.Runtime.InteropServices.MemoryMarshal.AsBytes(tensor.AsSpan<ushort>()));
            foreach (ref ushort code in tensor.AsSpan<ushort>()) code &= 0xBFFF; // below 2: all finite
            return tensor;
        });
        config.Save(Path);
    }

    public string Path => folder.File("model");

    public string File(params string[] parts) => folder.File(parts);

    public void Dispose() => folder.Dispose();
}

public sealed class ConvertTests(LargeModel large, ITestOutputHelper output) : IClassFixture<LargeModel>
{
    [Fact]
    public void Every_format_gives_the_logits_of_what_it_was_made_from()
    {
        using var folder = new TemporaryFolder();
        string golden = Golden.Fixture("nano-v3-fp8");
        Convert(golden, "fp32", folder.File("fp32"));
        Convert(folder.File("fp32"), "fp8", folder.File("fp8"), "--shard-size", "700KB");
        Convert(folder.File("fp8"), "fp8", folder.File("v31"), "--scales", "ue8m0");
        Convert(folder.File("v31"), "bf16", folder.File("v31-bf16"));
        Convert(folder.File("fp8"), "hif8", folder.File("hif8"), "--dtype", "fp32");
        Convert(folder.File("hif8"), "fp32", folder.File("hif8-fp32"));
        float[] reference = Logits(golden);
        Compare("fp8 -> fp32", reference, Logits(folder.File("fp32")), 1e-5);
        Compare("fp32 -> fp8", reference, Logits(folder.File("fp8")), 1e-5);
        Compare("fp8 with power-of-two scales -> bf16", Logits(folder.File("v31")), Logits(folder.File("v31-bf16")), 1e-5);
        Compare("hif8 -> fp32", Logits(folder.File("hif8")), Logits(folder.File("hif8-fp32")), 1e-5);
        using JsonDocument config = JsonDocument.Parse(File.ReadAllText(folder.File("v31", "config.json")));
        Assert.Equal(
            """{"activation_scheme":"dynamic","fmt":"e4m3","quant_method":"fp8","scale_fmt":"ue8m0","weight_block_size":[128,128]}""",
            JsonSerializer.Serialize(config.RootElement.GetProperty("quantization_config")));
    }

    [Fact]
    public void A_run_is_converted_from_its_main_weights_and_answers()
    {
        using var folder = new TemporaryFolder();
        string run = folder.File("run");
        FathomProcess.Run("train", "--config", SmallRun.WriteConfig(folder.Path), "--out", run, "--steps", "20", "--threads", "1").Expect(0);
        Outcome outcome = Convert(run, "fp8", folder.File("fp8"));
        Assert.Contains("step-00000020", outcome.Output, StringComparison.Ordinal);
        Convert(Path.Combine(run, "checkpoints", "step-00000020"), "fp8", folder.File("same"));
        Assert.Equal(File.ReadAllBytes(folder.File("same", "model.safetensors")), File.ReadAllBytes(folder.File("fp8", "model.safetensors")));
        Assert.Equal(
            ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
            Directory.GetFiles(folder.File("fp8")).Select(Path.GetFileName).Order());
        string text = FathomProcess.Run("generate", "--model", folder.File("fp8"), "--prompt", "the", "--max-new-tokens", "8", "--temperature", "0", "--raw", "--threads", "1").Expect(0).Output;
        output.WriteLine(text);
        Assert.NotEmpty(text);
    }

    [Fact]
    public void Killed_it_leaves_no_model_and_the_next_attempt_no_remains()
    {
        string target = large.File("killed");
        using (FathomProcess process = FathomProcess.Start("convert", "--model", large.Path, "--to", "fp32", "--out", target))
        {
            WaitForParts(process, target);
            process.Kill();
            Assert.NotEqual(0, process.Wait().ExitCode);
        }

        Assert.False(Directory.Exists(target));
        Assert.True(Directory.Exists(large.File(".killed.tmp")));
        Convert(large.Path, "fp8", target);
        Assert.Equal(["config.json", "model.safetensors"], Directory.GetFileSystemEntries(target).Select(Path.GetFileName).Order());
        Assert.False(Directory.Exists(large.File(".killed.tmp")));
        Directory.Delete(target, recursive: true);
    }

    [Fact]
    public void Interrupted_it_ends_with_130_and_leaves_nothing()
    {
        string target = large.File("interrupted");
        using FathomProcess process = FathomProcess.Start("convert", "--model", large.Path, "--to", "fp32", "--threads", "1", "--out", target);
        WaitForParts(process, target);
        process.Interrupt();
        Outcome outcome = process.Wait().Expect(130);
        Assert.Equal("fathom: interrupted", outcome.Error.Trim());
        Assert.False(Directory.Exists(target));
        Assert.False(Directory.Exists(large.File(".interrupted.tmp")));
    }

    [Theory]
    [InlineData("fp8")]
    [InlineData("fp32")]
    public void Memory_does_not_grow_with_the_model(string format)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "reads the peak from /proc");
        string target = large.File("memory-" + format);
        using FathomProcess process = FathomProcess.Start("convert", "--model", large.Path, "--to", format, "--threads", "2", "--out", target);
        while (!process.HasExited && process.PeakMemory > 0) Thread.Sleep(2);
        process.Wait().Expect(0);
        long model = new FileInfo(Path.Combine(large.Path, "model.safetensors")).Length;
        output.WriteLine($"{process.PeakMemory / 1e6:F0} MB at most for a model of {model / 1e6:F0} MB");
        Assert.InRange(process.PeakMemory, 10_000_000, 150_000_000);
        Assert.True(model > 3 * process.PeakMemory);
        Directory.Delete(target, recursive: true);
    }

    [Theory]
    [InlineData("is not empty", "--to", "bf16", "--out", "{temporary}")]
    [InlineData("'fp4'", "--to", "fp4", "--out", "{temporary}/out")]
    [InlineData("--scales and --dtype go with --to fp8 and --to hif8 only", "--to", "bf16", "--scales", "f32", "--out", "{temporary}/out")]
    [InlineData("--shard-size is 5 apples", "--to", "fp8", "--shard-size", "5 apples", "--out", "{temporary}/out")]
    [InlineData("--shard-size is 0GB", "--to", "fp8", "--shard-size", "0GB", "--out", "{temporary}/out")]
    [InlineData("--threads is -2", "--to", "fp8", "--threads", "-2", "--out", "{temporary}/out")]
    [InlineData("Option '--out' is required", "--to", "fp8")]
    [InlineData("has no averaged weights", "--to", "fp8", "--weights", "ema", "--out", "{temporary}/out")]
    public void A_mistake_is_one_line_and_exit_code_2(string message, params string[] arguments)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("something"), "x");
        string[] all = ["convert", "--model", Golden.Fixture("nano-v3-fp8"), .. arguments.Select(a => a.Replace("{temporary}", folder.Path, StringComparison.Ordinal))];
        Outcome outcome = FathomProcess.Run(all).Expect(2);
        output.WriteLine(outcome.Error);
        Assert.Contains(message, outcome.Error, StringComparison.Ordinal);
        Assert.Single(outcome.Error.Split('\n'), line => line.StartsWith("fathom: ", StringComparison.Ordinal));
        Assert.Equal([folder.File("something")], Directory.GetFileSystemEntries(folder.Path));
    }

    private Outcome Convert(string model, string format, string target, params string[] more)
    {
        Outcome outcome = FathomProcess.Run(["convert", "--model", model, "--to", format, "--out", target, .. more]).Expect(0);
        output.WriteLine(outcome.Output);
        return outcome;
    }

    private static float[] Logits(string model)
    {
        using var folder = new TemporaryFolder();
        FathomProcess.Run(
            "forward", "--model", model, "--ids", Golden.Fixture("nano-v3-fp8", "reference.safetensors"), "--tensor", "ids", "--out", folder.File("out"), "--threads", "1").Expect(0);
        using SafetensorsFile result = SafetensorsFile.Open(folder.File("out"));
        return result.ReadF32("logits");
    }

    private void Compare(string what, float[] expected, float[] actual, double bound)
    {
        double worst = expected.Zip(actual, (a, b) => Math.Abs((double)a - b)).Max();
        output.WriteLine($"{what}: largest difference of {expected.Length} logits {worst:E2} (bound {bound:E0})");
        Assert.Equal(expected.Length, actual.Length);
        Assert.InRange(worst, 0, bound);
    }

    private static void WaitForParts(FathomProcess process, string target)
    {
        string parts = Path.Combine(Path.GetDirectoryName(target)!, $".{Path.GetFileName(target)}.tmp");
        while (!Directory.Exists(parts) || !Directory.EnumerateFiles(parts, "*safetensors*").Any())
        {
            if (process.HasExited) Assert.Fail($"it ended before anything was written: {process.Wait()}");
            Thread.Sleep(1);
        }
    }
}

// A run on a device whose memory the processor cannot read: the processor's own run, bit for bit, through checkpoints and back.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Training.Tests;

public sealed class SeparateMemoryTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("fp32", DType.F32)]
    [InlineData("fp8", DType.BF16)]
    public void A_run_stopped_and_resumed_on_it_repeats_the_processors_bits(string recipe, DType moments)
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = Config(folder, recipe, 10) with { Optimizer = new OptimizerConfig { Moments = moments }, Ema = new EmaConfig { Decay = 0.8, Every = 2 } };
        string expected = folder.File("cpu"), actual = folder.File("separate");
        Assert.True(Train("cpu", expected, config));
        Assert.False(Train("separate", actual, config, stopAfter: 6));
        Assert.True(Train("separate", actual, null));
        foreach (string line in TestRuns.Losses(actual)) output.WriteLine(line);
        Assert.Equal(TestRuns.Losses(expected), TestRuns.Losses(actual));
        (string Name, string Hash)[] files = State(expected);
        Assert.Equal(3, files.Length);
        Assert.Equal(files, State(actual));
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("fp8")]
    public void With_results_in_BF16_a_run_learns_the_same_and_resumes_to_the_bit(string recipe)
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = Config(folder, recipe, 12);
        string cpu = folder.File("cpu"), unbroken = folder.File("unbroken"), broken = folder.File("broken");
        List<double> expected = [], actual = [];
        Assert.True(Train("cpu", cpu, config, losses: expected));
        Assert.True(Train("separate bf16", unbroken, config, losses: actual));
        Assert.False(Train("separate bf16", broken, config, stopAfter: 7));
        Assert.True(Train("separate bf16", broken, null));
        double worst = expected.Zip(actual, (e, a) => Math.Abs(a / e - 1)).Max();
        output.WriteLine($"{recipe}: loss {actual[0]:F4} to {actual[^1]:F4}; largest relative difference from the processor's {worst:E2} (bound 1E-02)");
        Assert.Equal(expected[0], actual[0]);
        Assert.InRange(worst, 1e-9, 1e-2);
        Assert.Equal(TestRuns.Losses(unbroken), TestRuns.Losses(broken));
        Assert.Equal(State(unbroken), State(broken));
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("fp8")]
    public void Its_memory_is_predicted_to_the_byte(string recipe)
    {
        using var device = new SeparateDevice(2, holdsBFloat16: true);
        MemoryReport report = MemoryReport.Measure(device, TestRuns.Config("no-such-text.txt", 1) with { Recipe = Recipe.Named(recipe) });
        foreach (MemoryRow row in report.Rows) output.WriteLine($"{row.Kind}: measured {row.Measured:N0}, predicted {row.Predicted:N0}");
        Assert.All(report.Rows, row => Assert.Equal(row.Measured, row.Predicted));
    }

    // Up: faults of copies and of calls, and tokens of each micro-batch. Back: faults of copies, losses, hits, loads.
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void A_step_copies_a_fixed_number_of_times_whatever_the_model(int microBatches)
    {
        using var device = new SeparateDevice();
        TrainingConfig config = TestRuns.Config("no-such-text.txt", 4) with { Recipe = Recipe.Fp8, BatchSize = Schedule.Constant(2 * microBatches) };
        using var trainer = new Trainer(device, TrainingRun.ResolveModel(config), config, new RandomBatches(512, 48));
        trainer.Step();
        int before = device.Copies;
        trainer.Step();
        Assert.Equal(6 + microBatches, device.Copies - before);
    }

    // Two forms of pass, the first micro-batch's and the others', each recorded when it comes for the third time.
    [Theory]
    [InlineData("bf16")]
    [InlineData("fp8")]
    public void Passes_are_replayed_and_give_the_processors_bits(string recipe)
    {
        TrainingConfig config = TestRuns.Config("no-such-text.txt", 4) with { Recipe = Recipe.Named(recipe), BatchSize = Schedule.Constant(6) };
        using var separate = new SeparateDevice();
        using var cpu = new CpuDevice(2);
        using var replaying = new Trainer(separate, TrainingRun.ResolveModel(config), config, new RandomBatches(512, 48));
        using var computing = new Trainer(cpu, TrainingRun.ResolveModel(config), config, new RandomBatches(512, 48));
        for (int step = 1; step <= 6; step++)
        {
            StepReport expected = computing.Step(), actual = replaying.Step();
            output.WriteLine($"step {step}: loss {actual.Loss:R}, gradient norm {actual.GradientNorm:R}, {replaying.ReplayedPasses} passes replayed");
            Assert.Equal(expected.Loss, actual.Loss);
            Assert.Equal(expected.GradientNorm, actual.GradientNorm);
            Assert.Equal(expected.LoadImbalance, actual.LoadImbalance);
            Assert.Equal(3 * Math.Max(0, step - 2), replaying.ReplayedPasses);
        }
    }

    [Fact]
    public void A_loss_that_is_not_finite_names_the_place()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = Config(folder, "fp8", 30) with
        {
            LearningRate = new Schedule { Segments = [new() { From = 1e-3, UntilStep = 3 }, new() { From = 1e30 }] },
        };
        Exception failure = Assert.ThrowsAny<Exception>(() => Train("separate bf16", folder.File("run"), config));
        output.WriteLine(failure.Message);
        Assert.True(failure is NonFiniteLossException or FathomException);
        Assert.Contains("layers.", failure.Message, StringComparison.Ordinal);
    }

    private static TrainingConfig Config(TemporaryFolder folder, string recipe, long steps) =>
        TestRuns.Config(TestRuns.WriteText(folder.Path), steps) with { Recipe = Recipe.Named(recipe) };

    private static bool Train(string deviceName, string path, TrainingConfig? config, long stopAfter = long.MaxValue, List<double>? losses = null)
    {
        using Device device = TestDevices.Open(deviceName);
        using var stop = new CancellationTokenSource();
        var observer = new RecordingObserver
        {
            OnStep = report =>
            {
                losses?.Add(report.Loss);
                if (report.Step == stopAfter) stop.Cancel();
            },
        };
        using TrainingRun run = config is null ? TrainingRun.Resume(device, path, null, observer) : TrainingRun.Start(device, path, config, observer);
        return run.Train(stop.Token);
    }

    /// <summary>The tensors' files of the newest checkpoint with their hashes.</summary>
    private static (string Name, string Hash)[] State(string run)
    {
        string newest = Directory.EnumerateDirectories(Path.Combine(run, "checkpoints")).Order().Last();
        return
        [
            .. Directory.EnumerateFiles(newest, "*.safetensors").Order()
                .Select(file => (Path.GetFileName(file), Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(file))))),
        ];
    }
}

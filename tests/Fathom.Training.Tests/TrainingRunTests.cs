// A run in its directory: it learns, stops and goes on without a trace in the numbers, survives damage and full disks.
using System.Text.Json.Nodes;
using Fathom.Compute.Cpu;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Training.Tests;

public sealed class TrainingRunTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(DType.F32, 0)]
    [InlineData(DType.BF16, 1)]
    [InlineData(DType.BF16, 3)]
    public void A_stopped_and_resumed_run_repeats_the_bits_of_the_unbroken_one(DType moments, int emaEvery)
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 14) with
        {
            Optimizer = new OptimizerConfig { Moments = moments },
            Ema = emaEvery == 0 ? null : new EmaConfig { Decay = 0.8, Every = emaEvery },
        };
        string unbroken = folder.File("unbroken"), broken = folder.File("broken");
        Assert.True(Train(unbroken, config, 2, new RecordingObserver(), default));

        // Stopped after step 6 (saved there), and again after step 11, on other numbers of threads.
        Assert.False(Train(broken, config, 1, StopAfter(6, out CancellationToken first), first));
        Assert.Equal("""{"step":6,"end":"stopped"}""", TestRuns.Metrics(broken)[^1]);
        File.WriteAllText(folder.File("text.txt"), "The text has changed since.");
        Assert.False(Continue(broken, 3, StopAfter(11, out CancellationToken second), second));
        RecordingObserver last = new();
        Assert.True(Continue(broken, 2, last, default));
        Assert.EndsWith("step-00000011", last.RestoredFrom, StringComparison.Ordinal);

        string[] expected = TestRuns.Losses(unbroken), actual = TestRuns.Losses(broken);
        foreach (string line in actual) output.WriteLine(line);
        Assert.Equal(expected, actual);
        Assert.Equal("""{"step":14,"end":"finished"}""", Assert.Single(TestRuns.Metrics(broken), line => line.Contains("\"end\"", StringComparison.Ordinal)));
        string[] files = [.. StateOf(unbroken)];
        foreach (string file in files) output.WriteLine(file);
        Assert.Equal(emaEvery == 0 ? 2 : 3, files.Length);
        Assert.Equal(files, StateOf(broken));
    }

    [Fact]
    public void Loss_falls_and_the_exported_model_has_the_trained_loss()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 60);
        var losses = new List<double>();
        using var device = new CpuDevice(2);
        using var run = TrainingRun.Start(device, folder.File("run"), config, new RecordingObserver { OnStep = r => losses.Add(r.Loss) });
        run.Train(default);
        output.WriteLine($"loss {losses[0]:F3} to {losses[^1]:F3}");
        Assert.True(losses[^5..].Average() < 0.75 * losses[0]);

        string exported = run.Export();
        ModelConfig model = ModelConfig.Load(exported);
        using Checkpoint checkpoint = Checkpoint.Open(exported);
        var loaded = new DeepSeekModel(device, model, new CheckpointSource(device, checkpoint, model));
        Assert.Single(loaded.MtpModules);
        Assert.Equal(DType.F32, checkpoint.Entry("model.layers.1.mlp.gate.e_score_correction_bias").DType);
        Assert.Equal(DType.BF16, checkpoint.Entry("model.layers.1.mlp.gate.weight").DType);
    }

    [Fact]
    public void A_damaged_newest_checkpoint_is_passed_over_with_a_warning()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 12);
        string path = folder.File("run"), unbroken = folder.File("unbroken");
        Train(unbroken, config, 2, new RecordingObserver(), default);
        Train(path, config, 2, StopAfter(9, out CancellationToken stop), stop);
        string weights = Path.Combine(path, "checkpoints", "step-00000009", "model.safetensors");
        using (FileStream file = File.OpenWrite(weights))
        {
            file.Position = file.Length - 9;
            file.WriteByte(0x5A);
        }

        RecordingObserver observer = new();
        Assert.True(Continue(path, 2, observer, default));
        Assert.EndsWith("step-00000008", observer.RestoredFrom, StringComparison.Ordinal);
        Assert.Contains("step-00000009", Assert.Single(observer.Warnings), StringComparison.Ordinal);
        Assert.Equal(TestRuns.Losses(unbroken), TestRuns.Losses(path));
    }

    [Fact]
    public void Only_the_newest_checkpoints_are_kept_and_each_is_a_model()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 9) with { SaveEvery = 2, KeepCheckpoints = 2 };
        Train(folder.File("run"), config, 2, new RecordingObserver(), default);
        string[] kept = [.. Directory.EnumerateFileSystemEntries(folder.File("run", "checkpoints")).Select(Path.GetFileName).Order()!];
        Assert.Equal(["step-00000008", "step-00000009"], kept);
        ModelConfig model = ModelConfig.Load(folder.File("run", "checkpoints", kept[0]));
        using Checkpoint checkpoint = Checkpoint.Open(folder.File("run", "checkpoints", kept[0]));
        Assert.Equal(1, LayoutCheck.Verify(model, checkpoint));
    }

    [Fact]
    public void A_directory_that_holds_another_run_is_refused()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 1);
        Train(folder.File("run"), config, 1, new RecordingObserver(), default);
        Assert.Contains("--resume", Refusal(folder.File("run"), config), StringComparison.Ordinal);
        Assert.Contains("another configuration", Refusal(folder.File("run"), config with { Seed = 6 }), StringComparison.Ordinal);
        Assert.Contains("not a run directory", Refusal(folder.Path, config), StringComparison.Ordinal);

        static string Refusal(string path, TrainingConfig config) =>
            Assert.Throws<FathomException>(() => Train(path, config, 1, new RecordingObserver(), default)).Message;
    }

    [Fact]
    public void A_loss_that_is_not_finite_stops_the_run_names_the_place_and_keeps_the_checkpoint()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 30) with
        {
            SaveEvery = 1,
            LearningRate = new Schedule { Segments = [new() { From = 1e-3, UntilStep = 3 }, new() { From = 1e30 }] },
        };
        var failure = Assert.Throws<NonFiniteLossException>(() => Train(folder.File("run"), config, 2, new RecordingObserver(), default));
        output.WriteLine(failure.Message);
        Assert.Equal(5, failure.Step); // Step 4 takes the huge step; step 5 sees what it did.
        Assert.Contains("layers.", failure.Where, StringComparison.Ordinal);
        Assert.True(Directory.Exists(folder.File("run", "checkpoints", "step-00000004")));
        JsonNode end = JsonNode.Parse(TestRuns.Metrics(folder.File("run"))[^1])!;
        Assert.Equal((4, "diverged", failure.Message), ((int)end["step"]!, (string)end["end"]!, (string)end["reason"]!));
    }

    [Fact]
    public void A_full_disk_while_saving_leaves_the_last_checkpoint()
    {
        using var disk = new SmallDisk(3 * 1024);
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 200) with { SaveEvery = 2, KeepCheckpoints = 50, ValidateEvery = 0 };
        string path = disk.File("run");
        string message = Assert.Throws<FathomException>(() => Train(path, config, 2, new RecordingObserver(), default)).Message;
        output.WriteLine(message);
        Assert.Contains("could not be saved", message, StringComparison.Ordinal);
        string[] folders = [.. Directory.EnumerateDirectories(Path.Combine(path, "checkpoints")).Order()];
        Assert.NotEmpty(folders);
        Assert.All(folders, f => Assert.StartsWith("step-", Path.GetFileName(f), StringComparison.Ordinal));
        Assert.Contains(folders[^1], message, StringComparison.Ordinal);

        // With room again, the run goes on from there.
        foreach (string old in folders[..^1]) Directory.Delete(old, recursive: true);
        RecordingObserver observer = new() { OnStep = _ => { } };
        using var device = new CpuDevice(1);
        using TrainingRun run = TrainingRun.Resume(device, path, null, observer);
        Assert.Equal(folders[^1], observer.RestoredFrom);
    }

    [Fact]
    public void A_line_that_a_full_disk_does_not_take_is_given_up()
    {
        using var disk = new SmallDisk(64);
        string path = disk.File("metrics.jsonl"), rest = disk.File("rest");
        using (var log = new MetricsLog(path, 0))
        {
            log.End(0, RunEnd.Stopped, null);
            Assert.ThrowsAny<IOException>(() => File.WriteAllBytes(rest, new byte[1 << 20]));
            Assert.ThrowsAny<IOException>(() =>
            {
                for (int i = 0; i < 1000; i++) log.End(0, RunEnd.Failed, "no space left");
            });
        }

        File.Delete(rest);
        using (var log = new MetricsLog(path, 0)) log.End(0, RunEnd.Finished, null);
        Assert.Equal("""{"step":0,"end":"finished"}""", Assert.Single(File.ReadAllLines(path)));
    }

    private static bool Train(string path, TrainingConfig config, int threads, RecordingObserver observer, CancellationToken stop)
    {
        using var device = new CpuDevice(threads);
        using TrainingRun run = TrainingRun.Start(device, path, config, observer);
        return run.Train(stop);
    }

    private static bool Continue(string path, int threads, RecordingObserver observer, CancellationToken stop)
    {
        using var device = new CpuDevice(threads);
        using TrainingRun run = TrainingRun.Resume(device, path, null, observer);
        return run.Train(stop);
    }

    private static RecordingObserver StopAfter(long step, out CancellationToken token)
    {
        var source = new CancellationTokenSource();
        token = source.Token;
        return new RecordingObserver
        {
            OnStep = report =>
            {
                if (report.Step == step) source.Cancel();
            },
        };
    }

    /// <summary>The tensors' files of the newest checkpoint with their hashes.</summary>
    private static IEnumerable<string> StateOf(string run)
    {
        string newest = Directory.EnumerateDirectories(Path.Combine(run, "checkpoints")).Order().Last();
        return Directory.EnumerateFiles(newest, "*.safetensors").Order()
            .Select(file => $"{Path.GetFileName(file)} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(file)))}");
    }
}

// The moving average of the weights: the right numbers, beside the next step, the same bits at any timing, nothing lost on resume.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Training.Tests;

public sealed class MovingAverageTests(ITestOutputHelper output)
{
    private const double Decay = 0.9;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData(1, 1, 0)]
    [InlineData(2, 1, 15)]
    [InlineData(3, 3, 15)]
    public void It_is_the_weighted_mean_of_the_weights_after_each_update(int threads, int every, int milliseconds)
    {
        const int Steps = 12;
        using var device = new CpuDevice(threads);
        using Trainer trainer = Build(device, new EmaConfig { Decay = Decay, Every = every });

        // The thread comes late by a while that differs from step to step, so that it overlaps every part of the next one.
        var random = new Random(3);
        trainer.Ema!.Updating = () => Thread.Sleep(random.Next(milliseconds + 1));
        List<float[][]> samples = [Values(trainer)];
        for (int step = 1; step <= Steps; step++)
        {
            trainer.Step();
            if (step % every == 0) samples.Add(Values(trainer));
        }

        trainer.Ema.Wait();
        Assert.Equal(Steps / every, trainer.Ema.Updates);
        (Parameter Parameter, Tensor Average)[] averages = [.. trainer.Ema.Averages];
        double worst = 0, distance = 0;
        for (int p = 0; p < averages.Length; p++)
        {
            ReadOnlySpan<float> actual = averages[p].Average.AsSpan<float>();
            double largest = samples[^1][p].Max(Math.Abs);
            for (int i = 0; i < actual.Length; i++)
            {
                double sum = 0, shares = 0;
                float recursion = samples[0][p][i];
                for (int k = 0; k < samples.Count; k++)
                {
                    double share = Math.Pow(Decay, samples.Count - 1 - k);
                    (sum, shares) = (sum + share * samples[k][p][i], shares + share);
                    float rate = (float)((1 - Decay) / (1 - Math.Pow(Decay, k + 1)));
                    if (k > 0) recursion = MathF.FusedMultiplyAdd(rate, samples[k][p][i] - recursion, recursion);
                }

                Assert.Equal(BitConverter.SingleToInt32Bits(recursion), BitConverter.SingleToInt32Bits(actual[i]));
                worst = Math.Max(worst, Math.Abs(sum / shares - actual[i]) / Math.Max(largest, 1e-30));
                distance = Math.Max(distance, Math.Abs(samples[^1][p][i] - actual[i]) / Math.Max(largest, 1e-30));
            }
        }

        output.WriteLine($"{samples.Count - 1} updates: same bits as the recursion; {worst:E2} from the formula in F64, {distance:E2} from the last weights (of the parameter's largest)");
        Assert.True(worst < 4e-7, $"{worst:E2}");
        Assert.True(distance > 1e-3, "the average has to differ from the weights, or nothing was shown");
    }

    [Fact]
    public void An_update_runs_beside_the_next_steps_passes_and_is_done_before_the_weights_move()
    {
        using var device = new CpuDevice(2);
        using Trainer trainer = Build(device, new EmaConfig { Decay = Decay });
        using var passesDone = new ManualResetEventSlim();
        bool waited = true, overlapped = true;
        float[][]? before = null;
        trainer.Ema!.Updating = () =>
        {
            // The update of step 1 goes on only when the forward and backward pass of step 2 are over, and takes its time then.
            if (trainer.Ema.Updates != 1) return;
            overlapped = passesDone.Wait(Patience);
            Thread.Sleep(100);
            waited = Values(trainer).Zip(before!).All(pair => pair.First.AsSpan().SequenceEqual(pair.Second));
        };
        trainer.Step();
        before = Values(trainer);
        trainer.BeforeUpdate = passesDone.Set;
        trainer.Step();
        Assert.True(overlapped, "the passes of step 2 did not end while the update of step 1 was in progress");
        Assert.True(waited, "the optimizer moved weights that the average was still to read");
        Assert.NotEqual(before[0], Values(trainer)[0]);
    }

    [Fact]
    public void What_goes_wrong_on_its_thread_stops_the_trainer_before_the_weights_move()
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(2);
        using Trainer trainer = Build(device, new EmaConfig { Decay = Decay });
        trainer.Step();
        trainer.Ema!.Wait();
        trainer.Ema.Updating = () => throw new FathomException("the average's memory is gone");
        trainer.Step();
        float[][] before = Values(trainer);
        Assert.Equal("the average's memory is gone", Assert.Throws<FathomException>(() => trainer.Step()).Message);
        Assert.Equal(before, Values(trainer));
        Assert.Equal(2, trainer.State.Step);
        Assert.Throws<FathomException>(() => trainer.Step());
        string message = Assert.Throws<FathomException>(() => new CheckpointStore(RunDirectory.Create(folder.File("run"), Config()), 1).Save(trainer)).Message;
        output.WriteLine(message);
        Assert.Contains("the checkpoint of step 2 could not be saved (the average's memory is gone)", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Average_and_bf16_moments_allocate_nothing_and_are_counted()
    {
        using var device = new CpuDevice(2);
        using Trainer trainer = Build(device, new EmaConfig { Decay = Decay }, DType.BF16);
        var onItsThread = new long[8];
        int updates = 0;
        trainer.Ema!.Updating = () => onItsThread[updates++] = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 4; i++) trainer.Step();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 4; i++) trainer.Step();
        long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
        trainer.Ema.Wait();
        long average = onItsThread[7] - onItsThread[3];
        output.WriteLine($"{bytes} bytes in four steps, {average} on the thread of the average");
        Assert.Equal(0, bytes);
        Assert.Equal(0, average);

        long all = trainer.Parameters.All.Sum(p => p.Value.Elements), trained = trainer.Parameters.All.Sum(p => p.Gradient.IsEmpty ? 0 : p.Value.Elements);
        output.WriteLine($"{all} parameters, {trained} trained: average {device.AllocatedBytes(MemoryKind.Ema)} bytes, moments {device.AllocatedBytes(MemoryKind.OptimizerMoments)}");
        Assert.Equal(4 * all, device.AllocatedBytes(MemoryKind.Ema));
        Assert.Equal(4 * trained, device.AllocatedBytes(MemoryKind.OptimizerMoments));
    }

    [Fact]
    public void Switched_on_at_a_resume_it_starts_from_the_weights_there()
    {
        using var folder = new TemporaryFolder();
        string run = folder.File("run");
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 4);
        using var device = new CpuDevice(2);
        using (TrainingRun first = TrainingRun.Start(device, run, config, new RecordingObserver())) first.Train(default);
        Assert.False(File.Exists(Path.Combine(run, "checkpoints", "step-00000004", Checkpoint.EmaFile)));
        using TrainingRun second = TrainingRun.Resume(device, run, c => c with { Steps = 6, Ema = new EmaConfig { Decay = Decay } }, new RecordingObserver());
        ExponentialMovingAverage ema = second.Trainer.Ema!;
        Assert.Equal(0, ema.Updates);
        foreach ((Parameter parameter, Tensor average) in ema.Averages) Assert.True(average.AsSpan<float>().SequenceEqual(parameter.Value.AsSpan<float>()), parameter.Name);
        second.Train(default);
        Assert.Equal(2, ema.Updates);
        Assert.True(File.Exists(Path.Combine(run, "checkpoints", "step-00000006", Checkpoint.EmaFile)));
    }

    [Fact]
    public void The_saved_average_is_a_model()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 6) with { Ema = new EmaConfig { Decay = Decay } };
        using var device = new CpuDevice(2);
        using TrainingRun run = TrainingRun.Start(device, folder.File("run"), config, new RecordingObserver());
        run.Train(default);
        string saved = folder.File("run", "checkpoints", "step-00000006");
        using Checkpoint checkpoint = Checkpoint.Open(Path.Combine(saved, Checkpoint.EmaFile));
        Assert.Equal(1, LayoutCheck.Verify(ModelConfig.Load(saved), checkpoint));
        foreach ((Parameter parameter, Tensor average) in run.Trainer.Ema!.Averages)
        {
            foreach ((string name, Tensor value) in parameter.Split(average))
                Assert.True(checkpoint.Get(name).AsSpan<float>().SequenceEqual(value.AsSpan<float>()), name);
        }
    }

    private static float[][] Values(Trainer trainer) => [.. trainer.Parameters.All.Select(p => p.Value.AsSpan<float>().ToArray())];

    private static Trainer Build(Device device, EmaConfig ema, DType moments = DType.F32) => new(
        device, ModelConfig.Parse(TestRuns.Model.ToJsonString()), Config() with { Ema = ema, Optimizer = new OptimizerConfig { Moments = moments } }, new RandomBatches(512, 40));

    private static TrainingConfig Config() => new()
    {
        Model = "given by the test",
        Data = new DataConfig { Type = DataType.Batches },
        MicroBatch = 4,
        BatchSize = Schedule.Constant(8),
        Steps = 100,
        LearningRate = Schedule.Constant(1e-3),
    };
}

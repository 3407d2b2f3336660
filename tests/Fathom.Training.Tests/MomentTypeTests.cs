// Moments in BF16 ([P] §3.3.2): they cost no accuracy, and a checkpoint's moments are never taken for those of another type.
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Training.Tests;

public sealed class MomentTypeTests(ITestOutputHelper output)
{
    /// <summary>
    /// Rounding moments is a perturbation, after which losses of two runs drift apart in both directions; a loss of accuracy would
    /// show in the mean of whole runs, over several seeds. The bound is the paper's for FP8 training as a whole.
    /// </summary>
    [Fact]
    public void Losses_with_bf16_moments_are_those_with_f32()
    {
        const int Seeds = 4;
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 120) with
        {
            ValidateEvery = 0,
            SaveEvery = 0,
            BatchSize = Schedule.Constant(8),
            LearningRate = Schedule.Constant(1e-3),
        };
        double sum = 0;
        for (ulong seed = 1; seed <= Seeds; seed++)
        {
            double[] single = Losses(seed, DType.F32), half = Losses(seed, DType.BF16);
            double whole = half.Average() / single.Average() - 1, last = half[^40..].Average() / single[^40..].Average() - 1;
            output.WriteLine($"seed {seed}: mean loss {single.Average():F5} with F32 moments, {half.Average():F5} with BF16 ({whole:P3}; last 40 steps {last:P3})");
            Assert.NotEqual(single, half);
            sum += whole;
        }

        output.WriteLine($"mean of the seeds: {sum / Seeds:P3}");
        Assert.True(Math.Abs(sum / Seeds) < 0.0025, $"{sum / Seeds:P3}");

        double[] Losses(ulong seed, DType moments)
        {
            var losses = new List<double>();
            TrainingConfig one = config with { Seed = seed, Optimizer = new OptimizerConfig { Moments = moments } };
            using var device = new CpuDevice(2);
            using TrainingRun run = TrainingRun.Start(device, folder.File($"{moments}-{seed}"), one, new RecordingObserver { OnStep = r => losses.Add(r.Loss) });
            run.Train(default);
            return [.. losses];
        }
    }

    [Theory]
    [InlineData(DType.F32, DType.BF16)]
    [InlineData(DType.BF16, DType.F32)]
    public void Moments_of_another_type_are_refused_with_the_fields_name(DType saved, DType wanted)
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 4) with { Optimizer = new OptimizerConfig { Moments = saved } };
        using var device = new CpuDevice(2);
        using (TrainingRun first = TrainingRun.Start(device, folder.File("run"), config, new RecordingObserver())) first.Train(default);
        var observer = new RecordingObserver();
        string message = Assert.Throws<FathomException>(() =>
            TrainingRun.Resume(device, folder.File("run"), c => c with { Optimizer = new OptimizerConfig { Moments = wanted } }, observer)).Message;
        output.WriteLine(message);
        Assert.Contains($"set optimizer.moments to \"{saved.ToString().ToLowerInvariant()}\" in run.json", message, StringComparison.Ordinal);
        Assert.Empty(observer.Warnings); // it is whole: nothing was passed over
    }

    [Fact]
    public void A_type_from_the_recipe_is_checked_against_the_decays()
    {
        using var device = new CpuDevice(1);
        Assert.Equal(DType.BF16, new AdamW(device, [], new OptimizerConfig(), DType.BF16).MomentType);
        Assert.Equal(DType.F32, new AdamW(device, [], new OptimizerConfig { Moments = DType.F32 }, DType.BF16).MomentType);
        string message = Assert.Throws<FathomException>(() => new AdamW(device, [], new OptimizerConfig { Beta1 = 0.999f }, DType.BF16)).Message;
        output.WriteLine(message);
        Assert.Contains("optimizer.beta1 must be at most 0.996", message, StringComparison.Ordinal);
    }
}

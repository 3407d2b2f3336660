// The training step itself: threads, micro-batches and memory.
using Fathom.Compute.Cpu;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Text;
using Xunit;

namespace Fathom.Training.Tests;

public sealed class TrainerTests(ITestOutputHelper output)
{
    [Fact]
    public void A_step_allocates_nothing_after_warm_up()
    {
        using var device = new CpuDevice(2);
        var trainer = new Trainer(device, ModelConfig.Parse(TestRuns.Model.ToJsonString()), Config(4, 8), new RandomBatches(512, 40));
        for (int i = 0; i < 4; i++) trainer.Step();
        long before = GC.GetAllocatedBytesForCurrentThread();
        trainer.Step();
        trainer.Step();
        long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
        output.WriteLine($"{bytes} bytes in two steps");

        // The counters of the run are an immutable record, replaced once a step; nothing else may be allocated.
        Assert.InRange(bytes, 0, 2 * 64);
    }

    [Fact]
    public void Threads_do_not_change_a_bit()
    {
        Assert.Equal(Weights(1), Weights(2));
        Assert.Equal(Weights(1), Weights(5));

        static string Weights(int threads)
        {
            using var device = new CpuDevice(threads);
            var trainer = new Trainer(device, ModelConfig.Parse(TestRuns.Model.ToJsonString()), Config(4, 8), new RandomBatches(512, 40));
            for (int i = 0; i < 3; i++) trainer.Step();
            using var hash = System.Security.Cryptography.IncrementalHash.CreateHash(System.Security.Cryptography.HashAlgorithmName.SHA256);
            foreach (Parameter parameter in trainer.Parameters.All) hash.AppendData(System.Runtime.InteropServices.MemoryMarshal.AsBytes(parameter.Value.AsSpan<float>()));
            return Convert.ToHexString(hash.GetHashAndReset());
        }
    }

    [Fact]
    public void Gradient_accumulation_equals_one_large_batch()
    {
        double[] whole = Losses(8), parts = Losses(2);
        for (int i = 0; i < whole.Length; i++)
        {
            output.WriteLine($"{whole[i]:R} in one micro-batch, {parts[i]:R} in four");
            Assert.Equal(whole[i], parts[i], 2e-5 * whole[i]);
        }

        static double[] Losses(int microBatch)
        {
            using var device = new CpuDevice(2);
            var trainer = new Trainer(device, ModelConfig.Parse(TestRuns.Model.ToJsonString()), Config(microBatch, 8), new RandomBatches(512, 40));
            return [.. Enumerable.Range(0, 4).SelectMany(_ =>
            {
                StepReport report = trainer.Step();
                return (double[])[report.TotalLoss, report.GradientNorm];
            })];
        }
    }

    [Fact]
    public void The_routing_bias_evens_out_the_load()
    {
        using var device = new CpuDevice(2);
        TrainingConfig config = Config(4, 8) with { BiasUpdateSpeed = Schedule.Constant(0.01), LearningRate = Schedule.Constant(1e-4) };
        var trainer = new Trainer(device, ModelConfig.Parse(TestRuns.Model.ToJsonString()), config, new RandomBatches(512, 40));
        double first = trainer.Step().LoadImbalance.Max(), last = 0;
        for (int i = 0; i < 60; i++) last = trainer.Step().LoadImbalance.Max();
        output.WriteLine($"largest over mean load: {first:F2} at the start, {last:F2} after 60 steps");
        Assert.True(last < first && last < 1.35, $"{first} to {last}");
    }

    private static TrainingConfig Config(int microBatch, int batch) => new()
    {
        Model = "given by the test",
        Data = new DataConfig { Type = DataType.Batches },
        MicroBatch = microBatch,
        BatchSize = Schedule.Constant(batch),
        Steps = 100,
        LearningRate = Schedule.Constant(1e-3),
        BalanceAlpha = 1e-3f,
    };

    private sealed class RandomBatches(int vocabulary, int length) : ITokenBatches
    {
        public int SequenceLength => length;

        public long SamplesPerEpoch => long.MaxValue;

        public void Fill(long sampleIndex, Span<int> tokens)
        {
            var random = new Philox(1, (ulong)sampleIndex);
            for (int i = 0; i < tokens.Length; i++) tokens[i] = (int)random.Integer((ulong)i, vocabulary);
        }
    }
}

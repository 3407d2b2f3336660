// The training step itself: threads, micro-batches and memory.
using Fathom.Compute.Cpu;
using Fathom.Model;
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
        Assert.Equal(0, bytes);
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
        double without = Imbalance(0), with = Imbalance(0.02);
        output.WriteLine($"largest over mean load, mean of steps 31 to 40: {without:F3} without bias updates, {with:F3} with");
        Assert.True(with < 0.85 * without, $"{with} against {without}");

        static double Imbalance(double speed)
        {
            using var device = new CpuDevice(2);
            TrainingConfig config = Config(32, 32) with { BiasUpdateSpeed = Schedule.Constant(speed), LearningRate = Schedule.Constant(1e-4), BalanceAlpha = 0 };
            ModelConfig skewed = ModelConfig.Parse(TestRuns.Model.ToJsonString()) with { InitializerRange = 0.2 };
            var trainer = new Trainer(device, skewed, config, new RandomBatches(512, 40));
            double sum = 0;
            for (int i = 0; i < 40; i++)
            {
                double largest = trainer.Step().LoadImbalance.Max();
                if (i >= 30) sum += largest / 10;
            }

            return sum;
        }
    }

    [Fact]
    public void A_value_that_is_not_finite_is_traced_to_the_layer_where_it_began()
    {
        using var device = new CpuDevice(2);
        var trainer = new Trainer(device, ModelConfig.Parse(TestRuns.Model.ToJsonString()), Config(4, 8), new RandomBatches(512, 40));
        trainer.Step();
        Parameter output = trainer.Parameters.All.Single(p => p.Name == "model.layers.1.self_attn.o_proj.weight");
        Parameter other = trainer.Parameters.All.Single(p => p.Name == "model.layers.0.self_attn.o_proj.weight");
        output.Value.AsSpan<float>()[5] = float.NaN;
        float[] before = other.Value.AsSpan<float>().ToArray();
        var failure = Assert.Throws<NonFiniteLossException>(() => trainer.Step());
        Assert.Equal(2, failure.Step);
        Assert.Equal("layer 1, self_attn", failure.Where);
        Assert.Equal(before, other.Value.AsSpan<float>().ToArray());
        Assert.Equal(1, trainer.State.Step);
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
}

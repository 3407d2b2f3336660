// AdamW beyond the table: the F32 specification against the formula in F64, and what rounding the moments to BF16 does over a long
// run, which decides whether rounding to nearest is enough.
using Fathom.Compute.Cpu;
using Fathom.Compute.Operators;
using Fathom.Compute.Table;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed class OptimizerTests(ITestOutputHelper output) : IDisposable
{
    private readonly CpuDevice cpu = new(1);

    public void Dispose() => cpu.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(100_000)]
    public void A_step_is_that_of_the_formula(long number)
    {
        const int Count = 20_000;
        var step = new AdamWStep(2.2e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, number, 0.7f);
        Tensor w = Filled(Count, 1, 0.02f), g = Filled(Count, 2, 1e-3f), m = Filled(Count, 3, 1e-3f), v = Filled(Count, 4, 1e-3f);
        foreach (ref float value in v.AsSpan<float>()) value *= value;
        float[] w0 = w.AsSpan<float>().ToArray(), m0 = m.AsSpan<float>().ToArray(), v0 = v.AsSpan<float>().ToArray();
        cpu.Optimizer.AdamW(w, g, m, v, step);
        double worst = 0;
        for (int i = 0; i < Count; i++)
        {
            double gradient = g.AsSpan<float>()[i] * 0.7f;
            double first = step.Beta1 * m0[i] + (1 - (double)step.Beta1) * gradient;
            double second = step.Beta2 * v0[i] + (1 - (double)step.Beta2) * gradient * gradient;
            double unbiased1 = first / (1 - Math.Pow(step.Beta1, number)), unbiased2 = second / (1 - Math.Pow(step.Beta2, number));
            double weight = w0[i] - (double)step.LearningRate * step.WeightDecay * w0[i] - step.LearningRate * unbiased1 / (Math.Sqrt(unbiased2) + step.Epsilon);
            worst = Math.Max(worst, Math.Abs(weight - w.AsSpan<float>()[i]) / (Math.Abs(weight) + Math.Abs(weight - w0[i])));
        }

        output.WriteLine($"step {number}: largest relative difference of a weight {worst:E2}");
        Assert.True(worst < 3e-7, $"{worst:E2}");
    }

    /// <summary>
    /// Gradients of constant statistics, so that a moment near its mean moves by less than a BF16 step: what is lost in rounding to
    /// nearest would show as a bias of the second moment. Half a BF16 step is at most 2^-8, and stalls v where (1 - β2)·|g²/v - 1|
    /// is below it: gradients of one size leave v up to 2^-8 / 0.05 = 7.8 % too small. Noise, which every real gradient has, works
    /// like random rounding and leaves no bias.
    /// </summary>
    [Theory]
    [InlineData("of one size", 0, 0.0782, 0.0782)]
    [InlineData("with noise of a tenth", 0.1, 0.01, 0.001)]
    [InlineData("normal around zero", -1, 0.01, 0.001)]
    public void Bf16_moments_rounded_to_nearest_stay_near_f32_over_a_long_run(string gradients, double noise, double worstBound, double meanBound)
    {
        const int Count = 4096, Steps = 4000;
        Tensor w = Filled(Count, 1, 0.02f), w16 = Filled(Count, 1, 0.02f), g = Filled(Count, 2, 0), m = Filled(Count, 3, 0), v = Filled(Count, 4, 0);
        Tensor m16 = cpu.Allocate(new Shape(Count), DType.BF16, MemoryKind.OptimizerMoments), v16 = cpu.Allocate(new Shape(Count), DType.BF16, MemoryKind.OptimizerMoments);
        var stochastic = new double[Count];
        var random = new Random(8);
        var mean = new double[Count];
        var sums = new (double F32, double Nearest, double Stochastic)[Count];
        for (int i = 0; i < Count; i++) mean[i] = 1e-3 * Math.Exp(2 * random.NextDouble());
        for (int step = 1; step <= Steps; step++)
        {
            for (int i = 0; i < Count; i++)
            {
                g.AsSpan<float>()[i] = (float)(noise < 0 ? mean[i] * OperatorCase.Normal(random) : mean[i] * (1 + noise * OperatorCase.Normal(random)));
                double exact = 0.95 * stochastic[i] + 0.05 * g.AsSpan<float>()[i] * g.AsSpan<float>()[i];
                stochastic[i] = RoundStochastic((float)exact, random);
            }

            var numbers = new AdamWStep(1e-5f, 0.9f, 0.95f, 1e-8f, 0, step, 1);
            cpu.Optimizer.AdamW(w, g, m, v, numbers);
            cpu.Optimizer.AdamW(w16, g, m16, v16, numbers);
            for (int i = 0; step > 400 && i < Count; i++)
            {
                sums[i].F32 += v.AsSpan<float>()[i];
                sums[i].Nearest += (float)BFloat16.FromBits(v16.AsSpan<ushort>()[i]);
                sums[i].Stochastic += stochastic[i];
            }
        }

        double[] nearest = [.. sums.Select(s => s.Nearest / s.F32 - 1)], drawn = [.. sums.Select(s => s.Stochastic / s.F32 - 1)];
        Tensor start = Filled(Count, 1, 0.02f);
        double moved = 0, apart = 0;
        for (int i = 0; i < Count; i++)
        {
            moved += Math.Pow(w.AsSpan<float>()[i] - start.AsSpan<float>()[i], 2);
            apart += Math.Pow(w16.AsSpan<float>()[i] - w.AsSpan<float>()[i], 2);
        }

        double path = Math.Sqrt(apart / moved);
        output.WriteLine($"gradients {gradients}: v in BF16 over v in F32, mean of {Steps - 400} steps:");
        output.WriteLine($"  to nearest   mean {nearest.Average():P3}, worst {nearest.Max(Math.Abs):P3}");
        output.WriteLine($"  stochastic   mean {drawn.Average():P3}, worst {drawn.Max(Math.Abs):P3}");
        output.WriteLine($"  the weights' way apart: {path:P3} of its length");
        Assert.True(nearest.Max(Math.Abs) <= worstBound, $"{nearest.Max(Math.Abs):P3}");
        Assert.True(Math.Abs(nearest.Average()) <= meanBound, $"{nearest.Average():P3}");
        Assert.True(path < 0.01, $"{path:P3}");
    }

    [Fact]
    public void Moments_of_two_types_are_refused()
    {
        Tensor w = Filled(8, 1, 1), half = cpu.Allocate(new Shape(8), DType.BF16, MemoryKind.OptimizerMoments);
        string message = Assert.Throws<ArgumentException>(() => cpu.Optimizer.AdamW(w, w, half, w, new AdamWStep(1, 0.9f, 0.95f, 1e-8f, 0, 1, 1))).Message;
        output.WriteLine(message);
        Assert.Contains("secondMoment is F32 [8], expected contiguous BF16", message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => cpu.Optimizer.Average(w, w, 0));
    }

    private static double RoundStochastic(float value, Random random) =>
        BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(value) + (uint)random.Next(1 << 16) & 0xFFFF_0000);

    private Tensor Filled(int count, int seed, float scale)
    {
        Tensor tensor = cpu.Allocate(new Shape(count), DType.F32, MemoryKind.Workspace);
        var random = new Random(seed);
        foreach (ref float value in tensor.AsSpan<float>()) value = scale * OperatorCase.Normal(random);
        return tensor;
    }
}

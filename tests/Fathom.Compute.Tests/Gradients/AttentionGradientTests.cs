// Proves the reference's attention gradients against central differences of its forward pass, so that the operator table, which
// compares kernels with the reference, rests on something. The loss is a fixed random projection of the output.
using Fathom.Compute.Reference;
using Fathom.Compute.Table;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Gradients;

public sealed class AttentionGradientTests(ITestOutputHelper output)
{
    // Inputs are F32: a step of 2^-8 is exact, its truncation error about 1e-5, and the rounding of the outputs to F32 gives
    // about 1e-7 · 2^8 / 2 more.
    private const float Step = 1f / 256;
    private const double Tolerance = 2e-4;

    [Theory]
    [InlineData(1, 1, 1, 4, 2, 3)]
    [InlineData(2, 5, 2, 4, 2, 3)]
    [InlineData(1, 9, 3, 3, 4, 5)]
    public void Causal_gradients_are_those_of_the_forward_pass(int batch, int tokens, int heads, int nope, int rope, int value)
    {
        using var device = new ReferenceDevice();
        var random = new Random(5);
        int rows = batch * tokens;
        Tensor q = Normal(device, random, rows, heads, nope + rope), kv = Normal(device, random, rows, heads, nope + value);
        Tensor kRope = Normal(device, random, rows, 1, rope).Reshape(new Shape(rows, rope));
        Tensor y = Normal(device, random, rows, heads, value), dy = Normal(device, random, rows, heads, value);
        Tensor lse = device.Allocate(new Shape(batch, heads, tokens), DType.F32, MemoryKind.Workspace);
        Tensor dq = Like(device, q), dkv = Like(device, kv), dkRope = Like(device, kRope);
        float scale = 1 / MathF.Sqrt(nope + rope);
        device.Attention.CausalForward(q, kv, kRope, scale, batch, y, lse);
        device.Attention.CausalBackward(q, kv, kRope, y, lse, dy, scale, batch, dq, dkv, dkRope);

        double Loss()
        {
            device.Attention.CausalForward(q, kv, kRope, scale, batch, y, default);
            double sum = 0;
            foreach ((float a, float b) in y.AsSpan<float>().ToArray().Zip(dy.AsSpan<float>().ToArray())) sum += (double)a * b;
            return sum;
        }

        Check("dq", q, dq, Loss);
        Check("dkv", kv, dkv, Loss);
        Check("dkRope", kRope, dkRope, Loss);
    }

    private void Check(string name, Tensor input, Tensor gradient, Func<double> loss)
    {
        double worst = 0, largest = 0;
        int where = 0;
        for (int i = 0; i < input.Elements; i++)
        {
            float kept = input.AsSpan<float>()[i];
            input.AsSpan<float>()[i] = kept + Step;
            double step = (double)input.AsSpan<float>()[i], up = loss();
            input.AsSpan<float>()[i] = kept - Step;
            step -= input.AsSpan<float>()[i];
            double expected = (up - loss()) / step, difference = Math.Abs(expected - gradient.AsSpan<float>()[i]);
            input.AsSpan<float>()[i] = kept;
            largest = Math.Max(largest, Math.Abs(expected));
            if (difference <= worst) continue;
            worst = difference;
            where = i;
        }

        // One key alone: the scores have no gradient, and what is left is rounding.
        double bound = Math.Max(Tolerance * largest, 1e-4);
        output.WriteLine($"{name} {input.Shape}: largest difference {worst:E2} of {largest:E2} (bound {bound:E2}) at {where}");
        Assert.True(worst <= bound, $"{name}: difference {worst:E3} > {bound:E3} at {where}");
    }

    private static Tensor Normal(ReferenceDevice device, Random random, int rows, int heads, int columns)
    {
        Tensor tensor = device.Allocate(new Shape(rows, heads, columns), DType.F32, MemoryKind.Workspace);
        foreach (ref float x in tensor.AsSpan<float>()) x = OperatorCase.Normal(random);
        return tensor;
    }

    private static Tensor Like(ReferenceDevice device, Tensor tensor) => device.Allocate(tensor.Shape, DType.F32, MemoryKind.Workspace);
}

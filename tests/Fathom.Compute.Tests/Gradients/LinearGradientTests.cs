// The backward products of the reference against central differences of its forward product: loss = Σ weight · y.
using Fathom.Compute.Reference;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Gradients;

public sealed class LinearGradientTests(ITestOutputHelper output)
{
    // The loss is linear in each operand, so differences have no error of their own and the step may be large.
    private const float Step = 0.5f;

    [Fact]
    public void Dense()
    {
        using var device = new ReferenceDevice();
        Tensor x = Random(device, 5, 7), w = Random(device, 6, 7), y = Random(device, 5, 6), dy = Random(device, 5, 6);
        Tensor dx = Random(device, 5, 7), dw = device.Allocate(new Shape(6, 7), DType.F32, MemoryKind.Workspace);
        device.Linear.InputGradient(dy, w, dx);
        device.Linear.WeightGradient(dy, x, dw);
        double Loss()
        {
            device.Linear.Forward(x, w, y);
            return Dot(y, dy);
        }

        Check("dx", x, dx, Loss);
        Check("dw", w, dw, Loss);
    }

    [Fact]
    public void Grouped()
    {
        using var device = new ReferenceDevice();
        Tensor x = Random(device, 9, 4), w = Random(device, 15, 4).Reshape(new Shape(3, 5, 4)), y = Random(device, 9, 5), dy = Random(device, 9, 5);
        Tensor dx = Random(device, 9, 4), dw = device.Allocate(new Shape(3, 5, 4), DType.F32, MemoryKind.Workspace);
        Tensor offsets = device.Allocate(new Shape(4), DType.I32, MemoryKind.Workspace);
        ((int[])[0, 3, 3, 9]).CopyTo(offsets.AsSpan<int>());
        var experts = new ExpertWeights(w);
        device.Linear.GroupedInputGradient(dy, offsets, experts, dx);
        device.Linear.GroupedWeightGradient(dy, x, offsets, dw);
        double Loss()
        {
            device.Linear.GroupedForward(x, offsets, experts, y);
            return Dot(y, dy);
        }

        Check("dx", x, dx, Loss);
        Check("dw", w, dw, Loss);
    }

    private void Check(string name, Tensor operand, Tensor gradient, Func<double> loss)
    {
        double worst = 0, largest = 0;
        Span<float> values = operand.AsSpan<float>(), gradients = gradient.AsSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            float value = values[i];
            values[i] = value + Step;
            double above = loss(), upper = values[i];
            values[i] = value - Step;
            double below = loss(), lower = values[i];
            values[i] = value;
            worst = Math.Max(worst, Math.Abs((above - below) / (upper - lower) - gradients[i]));
            largest = Math.Max(largest, Math.Abs(gradients[i]));
        }

        output.WriteLine($"{name}: largest difference {worst:E2} of {largest:E2}");
        Assert.True(worst <= 1e-5 * largest, $"{name}: difference {worst:E2} of {largest:E2}");
    }

    private static double Dot(Tensor a, Tensor b)
    {
        double sum = 0;
        Span<float> left = a.AsSpan<float>(), right = b.AsSpan<float>();
        for (int i = 0; i < left.Length; i++) sum += (double)left[i] * right[i];
        return sum;
    }

    private static Tensor Random(Device device, int rows, int columns)
    {
        Tensor tensor = device.Allocate(new Shape(rows, columns), DType.F32, MemoryKind.Workspace);
        var random = new Random(rows * 31 + columns);
        foreach (ref float value in tensor.AsSpan<float>()) value = random.NextSingle() * 2 - 1;
        return tensor;
    }
}

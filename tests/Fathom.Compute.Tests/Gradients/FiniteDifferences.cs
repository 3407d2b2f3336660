// Gradients against central differences of the forward pass. The loss is a random projection of the outputs, summed in F64; what
// remains is the F32 rounding of the outputs and the third derivative times the step squared.
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Gradients;

internal static class FiniteDifferences
{
    /// <summary>Fails unless the gradient agrees with the loss's differences over every element of the operand.</summary>
    public static void Check(
        ITestOutputHelper output, string name, Tensor operand, Tensor gradient, Func<double> loss, float step = 1e-2f, double tolerance = 1e-3)
    {
        double worst = 0, largest = 0;
        int where = -1;
        Span<float> values = operand.AsSpan<float>(), gradients = gradient.AsSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            float value = values[i];
            values[i] = value + step;
            double above = loss(), upper = values[i];
            values[i] = value - step;
            double below = loss(), lower = values[i];
            values[i] = value;
            double difference = Math.Abs((above - below) / (upper - lower) - gradients[i]);
            largest = Math.Max(largest, Math.Abs(gradients[i]));
            if (difference <= worst) continue;
            worst = difference;
            where = i;
        }

        output.WriteLine($"{name}: largest difference {worst:E2} of {largest:E2} at {where}");
        Assert.True(largest > 0, $"{name}: the gradient is zero everywhere");
        Assert.True(worst <= tolerance * largest, $"{name}: difference {worst:E2} of {largest:E2} at {where}");
    }

    /// <summary>A tensor of numbers between -1 and 1.</summary>
    public static Tensor Random(Device device, int seed, Shape shape)
    {
        Tensor tensor = device.Allocate(shape, DType.F32, MemoryKind.Workspace);
        var random = new Random(seed);
        foreach (ref float value in tensor.AsSpan<float>()) value = random.NextSingle() * 2 - 1;
        return tensor;
    }

    /// <summary>A tensor of zeros.</summary>
    public static Tensor Zeros(Device device, Shape shape, DType dtype = DType.F32) => device.Allocate(shape, dtype, MemoryKind.Workspace);

    /// <summary>An I32 vector.</summary>
    public static Tensor Integers(Device device, params ReadOnlySpan<int> values)
    {
        Tensor tensor = device.Allocate(new Shape(values.Length), DType.I32, MemoryKind.Workspace);
        values.CopyTo(tensor.AsSpan<int>());
        return tensor;
    }

    /// <summary>Σ a · b in F64.</summary>
    public static double Dot(Tensor a, Tensor b)
    {
        double sum = 0;
        Span<float> left = a.AsSpan<float>(), right = b.AsSpan<float>();
        for (int i = 0; i < left.Length; i++) sum += (double)left[i] * right[i];
        return sum;
    }
}

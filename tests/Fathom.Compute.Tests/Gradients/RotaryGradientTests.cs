using Fathom.Compute.Reference;
using Xunit;
using static Fathom.Compute.Tests.Gradients.FiniteDifferences;

namespace Fathom.Compute.Tests.Gradients;

public sealed class RotaryGradientTests(ITestOutputHelper output)
{
    [Fact]
    public void The_inverse_turn_is_the_gradient()
    {
        using var device = new ReferenceDevice();
        var shape = new Shape(3, 2, 7);
        Tensor x = Random(device, 1, shape), dy = Random(device, 2, shape), turned = Zeros(device, shape), dx = Zeros(device, shape);
        Tensor cos = Zeros(device, new Shape(5, 2)), sin = Zeros(device, new Shape(5, 2)), positions = Integers(device, 4, 0, 3);
        for (int i = 0; i < 10; i++) (sin.AsSpan<float>()[i], cos.AsSpan<float>()[i]) = MathF.SinCos(0.7f * i);
        double Loss()
        {
            device.Reduction.Copy(x, turned);
            device.Rotary.Rotate(turned, 2, cos, sin, positions);
            return Dot(turned, dy);
        }

        device.Reduction.Copy(dy, dx);
        device.Rotary.Rotate(dx, 2, cos, sin, positions, inverse: true);
        Check(output, "dx", x, dx, Loss);
    }
}

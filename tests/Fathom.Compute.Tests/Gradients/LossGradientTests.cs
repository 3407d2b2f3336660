using Fathom.Compute.Reference;
using Xunit;
using static Fathom.Compute.Tests.Gradients.FiniteDifferences;

namespace Fathom.Compute.Tests.Gradients;

public sealed class LossGradientTests(ITestOutputHelper output)
{
    [Fact]
    public void Cross_entropy()
    {
        using var device = new ReferenceDevice();
        Tensor logits = Random(device, 1, new Shape(4, 6)), gradient = Zeros(device, new Shape(4, 6)), losses = Zeros(device, new Shape(4));
        Tensor targets = Integers(device, 3, -1, 0, 5);
        double Loss()
        {
            device.Loss.CrossEntropy(logits, targets, 0, losses, default);
            double sum = 0;
            foreach (float loss in losses.AsSpan<float>()) sum += loss;
            return 0.25 * sum;
        }

        device.Reduction.Copy(logits, gradient);
        device.Loss.CrossEntropy(gradient, targets, 0.25f, losses, default);
        Check(output, "dlogits", logits, gradient, Loss);
    }
}

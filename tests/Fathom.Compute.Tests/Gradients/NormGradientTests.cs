using Fathom.Compute.Reference;
using Xunit;
using static Fathom.Compute.Tests.Gradients.FiniteDifferences;

namespace Fathom.Compute.Tests.Gradients;

public sealed class NormGradientTests(ITestOutputHelper output)
{
    [Fact]
    public void Rms_norm()
    {
        using var device = new ReferenceDevice();
        var matrix = new Shape(4, 9);
        Tensor x = Random(device, 1, matrix), weight = Random(device, 2, new Shape(9)), dy = Random(device, 3, matrix);
        Tensor y = Zeros(device, matrix), rstd = Zeros(device, new Shape(4)), dx = Zeros(device, matrix), dweight = Zeros(device, new Shape(9));
        double Loss()
        {
            device.Norm.RmsNorm(x, weight, 1e-3f, y, rstd);
            return Dot(y, dy);
        }

        Loss();
        device.Norm.RmsNormInputGradient(dy, x, weight, rstd, dx);
        device.Norm.RmsNormWeightGradient(dy, x, rstd, dweight);
        Check(output, "dx", x, dx, Loss, 3e-3f);
        Check(output, "dweight", weight, dweight, Loss);
    }
}

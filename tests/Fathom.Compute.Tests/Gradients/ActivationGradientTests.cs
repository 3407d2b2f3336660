using Fathom.Compute.Reference;
using Xunit;
using static Fathom.Compute.Tests.Gradients.FiniteDifferences;

namespace Fathom.Compute.Tests.Gradients;

public sealed class ActivationGradientTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void SwiGlu(bool scaled)
    {
        using var device = new ReferenceDevice();
        var matrix = new Shape(4, 6);
        Tensor gate = Random(device, 1, matrix), up = Random(device, 2, matrix), dy = Random(device, 3, matrix), y = Zeros(device, matrix);
        Tensor rowScale = scaled ? Random(device, 4, new Shape(4)) : default, drowScale = scaled ? Zeros(device, new Shape(4)) : default;
        Tensor dgate = Zeros(device, matrix), dup = Zeros(device, matrix);
        double Loss()
        {
            device.Activation.SwiGlu(gate, up, rowScale, y);
            return Dot(y, dy);
        }

        device.Activation.SwiGluGradient(dy, gate, up, rowScale, dgate, dup, drowScale);
        Check(output, "dgate", gate, dgate, Loss);
        Check(output, "dup", up, dup, Loss);
        if (scaled) Check(output, "drowScale", rowScale, drowScale, Loss);
    }
}

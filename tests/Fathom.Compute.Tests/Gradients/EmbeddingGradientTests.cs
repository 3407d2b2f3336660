using Fathom.Compute.Reference;
using Xunit;
using static Fathom.Compute.Tests.Gradients.FiniteDifferences;

namespace Fathom.Compute.Tests.Gradients;

public sealed class EmbeddingGradientTests(ITestOutputHelper output)
{
    [Fact]
    public void Table()
    {
        using var device = new ReferenceDevice();
        Tensor ids = Integers(device, 2, 0, 2, 2, 4), table = Random(device, 1, new Shape(5, 3)), dy = Random(device, 2, new Shape(5, 3));
        Tensor y = Zeros(device, new Shape(5, 3)), dtable = Zeros(device, new Shape(5, 3));
        double Loss()
        {
            device.Embedding.Forward(ids, table, y);
            return Dot(y, dy);
        }

        device.Embedding.WeightGradient(ids, dy, dtable);
        Check(output, "dtable", table, dtable, Loss);
    }
}

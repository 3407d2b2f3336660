// The operator table on a GPU, or on the emulator of one (tests/cuda-emulator) where FATHOM_CUDA_PATH names it. Without either the
// tests say that they were skipped, and why.
using Fathom.Compute.Cuda;
using Fathom.Compute.Reference;
using Fathom.Compute.Table;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CudaOperatorTableTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    public static TheoryData<string> Families() => [.. OperatorTable.All().Select(c => c.Name).Distinct()];

    [Theory]
    [MemberData(nameof(Families))]
    public void Gpu_agrees_with_the_reference(string name)
    {
        CudaDevice device = gpu.Device();
        using var reference = new ReferenceDevice();
        var wrong = new List<string>();
        foreach (OperatorCase row in OperatorTable.All().Where(c => c.Name == name && c.Small))
        {
            foreach (BFloat16Activations rounded in row.Variants(device))
            {
                foreach (OperatorDifference difference in OperatorCheck.Run(row, device, reference, 7, rounded))
                {
                    output.WriteLine(difference.ToString());
                    if (!difference.Holds) wrong.Add(difference.ToString());
                }
            }
        }

        Assert.True(wrong.Count == 0, string.Join(Environment.NewLine, wrong));
    }
}

// Runs every row of the operator table on the CPU against the reference and prints the largest difference.
using Fathom.Compute.Cpu;
using Fathom.Compute.Reference;
using Fathom.Compute.Table;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed class OperatorTableTests(ITestOutputHelper output)
{
    public static TheoryData<string> Families() =>
        [.. OperatorTable.All().Select(c => c.Name).Distinct()];

    [Theory]
    [MemberData(nameof(Families))]
    public void Cpu_agrees_with_the_reference(string name)
    {
        using var cpu = new CpuDevice(3);
        using var reference = new ReferenceDevice();
        foreach (OperatorCase row in OperatorTable.All().Where(c => c.Name == name && c.Small))
        {
            foreach (OperatorDifference difference in OperatorCheck.Run(row, cpu, reference, 7))
            {
                output.WriteLine(difference.ToString());
                Assert.True(difference.Holds, difference.ToString());
            }
        }
    }
}

// Runs every row of the operator table on the CPU against the reference and prints the largest difference.
using Fathom.Compute.Cpu;
using Fathom.Compute.Reference;
using Fathom.Compute.Table;
using Fathom.Numerics;
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
            Tensor[] expected = row.Prepare(reference, 7), actual = row.Prepare(cpu, 7);
            row.Run(reference, expected);
            row.Run(cpu, actual);
            for (int i = 0; i < expected.Length; i++)
            {
                if (row.Operands[i].Compare) Compare(row, row.Operands[i], expected[i], actual[i]);
            }
        }
    }

    private void Compare(OperatorCase row, Operand operand, Tensor expected, Tensor actual)
    {
        double worst = 0, largest = 0;
        string where = "nowhere";
        for (long r = 0; r < expected.Rows; r++)
        {
            for (int c = 0; c < expected.Columns; c++)
            {
                double e = Value(expected, r, c), a = Value(actual, r, c);
                if (double.IsFinite(e)) largest = Math.Max(largest, Math.Abs(e));
                double difference = Difference(e, a);
                if (difference <= worst) continue;
                worst = difference;
                where = $"[{r}, {c}]: {a:R} for {e:R}";
            }
        }

        double bound = expected.DType is DType.F32 or DType.BF16 ? row.Tolerance * largest : 0;
        output.WriteLine($"{row} {operand.Name}: largest difference {worst:E2} of {largest:E2} (bound {bound:E2}) {where}");
        Assert.True(worst <= bound, $"{row}, {operand.Name}: difference {worst:E3} > {bound:E3} at {where}");
    }

    // NaN and infinities must be the same in both; they do not widen the bound.
    private static double Difference(double expected, double actual) =>
        expected.Equals(actual) ? 0
        : double.IsFinite(expected) && double.IsFinite(actual) ? Math.Abs(expected - actual)
        : double.PositiveInfinity;

    private static double Value(Tensor tensor, long row, int column) => tensor.DType switch
    {
        DType.F32 => tensor.Row<float>(row)[column],
        DType.BF16 => BitConverter.UInt32BitsToSingle((uint)tensor.Row<ushort>(row)[column] << 16),
        DType.I32 => tensor.Row<int>(row)[column],
        DType.I64 => tensor.Row<long>(row)[column],
        DType.F8E4M3 or DType.F8E5M2 or DType.F8E8M0 or DType.HiF8 => tensor.Row<byte>(row)[column],
        DType.E5M6Pair => tensor.Row<Triple>(row)[column].Value,
        _ => throw new ArgumentException($"cannot compare {tensor}"),
    };

    private readonly record struct Triple(byte First, byte Second, byte Third)
    {
        public int Value => First | Second << 8 | Third << 16;
    }
}

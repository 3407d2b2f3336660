// What the table cannot show of the CPU's element-wise families: reductions that return a number, results that do not depend on the
// number of threads, steps that do not allocate, and refusals.
using System.Runtime.InteropServices;
using Fathom.Compute.Cpu;
using Fathom.Compute.Operators;
using Fathom.Compute.Table;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed class ElementwiseTests(ITestOutputHelper output) : IDisposable
{
    private static readonly string[] Families =
        ["norm", "rotary", "routing", "activation", "loss", "embedding", "optimizer", "reduction"];

    private readonly CpuDevice cpu = new(3);

    public static TheoryData<string> FamilyNames() => [.. Families];

    public void Dispose() => cpu.Dispose();

    [Theory]
    [MemberData(nameof(FamilyNames))]
    public void Results_do_not_depend_on_the_number_of_threads(string family)
    {
        using var one = new CpuDevice(1);
        int rows = 0;
        foreach (OperatorCase row in Rows(family))
        {
            Tensor[] expected = row.Prepare(one, 3), actual = row.Prepare(cpu, 3);
            row.Run(one, expected);
            row.Run(cpu, actual);
            for (int i = 0; i < expected.Length; i++)
            {
                for (long r = 0; r < expected[i].Rows; r++)
                    Assert.True(Bytes(expected[i], r).SequenceEqual(Bytes(actual[i], r)), $"{row}, {row.Operands[i].Name}, row {r}");
            }

            rows++;
        }

        output.WriteLine($"{rows} rows of the table bit for bit the same on 1 and 3 threads");
        Assert.NotEqual(0, rows);
    }

    [Theory]
    [MemberData(nameof(FamilyNames))]
    public void Repeated_calls_do_not_allocate(string family)
    {
        using var one = new CpuDevice(1);
        foreach (CpuDevice device in (CpuDevice[])[one, cpu])
        {
            long most = 0;
            foreach (OperatorCase row in Rows(family))
            {
                Tensor[] operands = row.Prepare(device, 3);
                row.Run(device, operands);
                long before = GC.GetAllocatedBytesForCurrentThread();
                row.Run(device, operands);
                row.Run(device, operands);
                most = Math.Max(most, GC.GetAllocatedBytesForCurrentThread() - before);
            }

            output.WriteLine($"{device.Name}: {most} bytes at most");
            Assert.Equal(0, most);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(67)]
    [InlineData(65_536)]
    [InlineData(1_000_003)]
    public void Sums_are_in_double_precision(int count)
    {
        Tensor x = Normal(new Shape(count));
        double magnitude = 0;
        foreach (float value in x.AsSpan<float>()) magnitude += Math.Abs(value);
        double sum = ExactSum(x, value => value), squares = ExactSum(x, value => value * value);
        double actualSum = cpu.Reduction.Sum(x), actualSquares = cpu.Reduction.SumOfSquares(x);
        output.WriteLine($"sum {actualSum:R} for {sum:R}, squares {actualSquares:R} for {squares:R}");

        // A piece of 65 536 elements is summed in eight lanes at the narrowest: 8192 roundings of 2^-53 one after another.
        const double Bound = 8192 / 9.007e15;
        Assert.True(Math.Abs(actualSum - sum) <= Bound * magnitude);
        Assert.True(Math.Abs(actualSquares - squares) <= Bound * squares);
    }

    [Fact]
    public void Sum_of_squares_of_large_numbers_does_not_overflow()
    {
        Tensor x = cpu.Allocate(new Shape(100), DType.F32, MemoryKind.Workspace);
        x.AsSpan<float>().Fill(1e30f);
        Assert.Equal(100 * (double)1e30f * 1e30f, cpu.Reduction.SumOfSquares(x), 1e48);
    }

    [Theory]
    [InlineData(1, 1, 0)]
    [InlineData(3, 70, 0)]
    [InlineData(3, 70, 5)]
    [InlineData(2, 70_001, 1)]
    public void One_bad_element_anywhere_is_found(int rows, int columns, int pad)
    {
        Tensor whole = Normal(new Shape(rows, columns + pad)), x = whole.ColumnRange(0, columns);
        for (int r = 0; r < rows; r++) whole.Row<float>(r)[columns..].Fill(float.NaN);
        Assert.True(cpu.Reduction.AllFinite(x), "what lies between the rows does not count");
        foreach (float bad in (float[])[float.NaN, float.PositiveInfinity, float.NegativeInfinity])
        {
            foreach ((int row, int column) in ((int, int)[])[(0, 0), (rows - 1, columns - 1), (rows / 2, columns / 2), (rows - 1, columns * 9 / 10)])
            {
                float kept = x.Row<float>(row)[column];
                x.Row<float>(row)[column] = bad;
                Assert.False(cpu.Reduction.AllFinite(x), $"{bad} at [{row}, {column}]");
                x.Row<float>(row)[column] = kept;
            }
        }

        x.Row<float>(0)[0] = float.MaxValue;
        Assert.True(cpu.Reduction.AllFinite(x));
    }

    [Fact]
    public void Every_bfloat16_survives_and_rounding_is_to_nearest_even()
    {
        uint[] lower = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF];
        Tensor all = cpu.Allocate(new Shape(65_536), DType.BF16, MemoryKind.Workspace);
        Tensor wide = cpu.Allocate(new Shape(65_536), DType.F32, MemoryKind.Workspace), narrow = cpu.Allocate(all.Shape, DType.BF16, MemoryKind.Workspace);
        for (int code = 0; code < 65_536; code++) all.AsSpan<ushort>()[code] = (ushort)code;
        cpu.Reduction.Convert(all, wide);
        for (int code = 0; code < 65_536; code++) Assert.Equal((uint)code << 16, wide.AsSpan<uint>()[code]);
        foreach (uint low in lower)
        {
            for (uint code = 0; code < 65_536; code++) wide.AsSpan<uint>()[(int)code] = code << 16 | low;
            cpu.Reduction.Convert(wide, narrow);
            for (uint code = 0; code < 65_536; code++)
            {
                bool up = low > 0x8000 || (low == 0x8000 && (code & 1) == 1);
                bool nan = float.IsNaN(BitConverter.UInt32BitsToSingle(code << 16 | low));
                uint expected = nan ? code | 0x40 : up ? code + 1 : code;
                Assert.True(expected == narrow.AsSpan<ushort>()[(int)code], $"{code << 16 | low:X8}: {narrow.AsSpan<ushort>()[(int)code]:X4} for {expected:X4}");
            }
        }
    }

    [Fact]
    public void Copy_and_zero_take_any_type()
    {
        foreach (DType type in (DType[])[DType.I64, DType.I32, DType.BF16, DType.U8])
        {
            Tensor whole = cpu.Allocate(new Shape(5, 9), type, MemoryKind.Workspace), y = cpu.Allocate(new Shape(5, 7), type, MemoryKind.Workspace);
            Tensor x = whole.ColumnRange(1, 7);
            for (long r = 0; r < 5; r++) Bytes(whole, r).Fill(0xAB);
            cpu.Reduction.Copy(x, y);
            for (long r = 0; r < 5; r++) Assert.Equal(-1, Bytes(y, r).IndexOfAnyExcept((byte)0xAB));
            cpu.Reduction.Zero(x);
            for (long r = 0; r < 5; r++)
            {
                Assert.Equal(-1, Bytes(x, r).IndexOfAnyExcept((byte)0));
                Assert.Equal(2 * type.SizeInBytes(), Bytes(whole, r).Count((byte)0xAB));
            }
        }
    }

    [Fact]
    public void Silu_is_accurate_over_the_whole_range()
    {
        const int Count = 400_001;
        Tensor x = cpu.Allocate(new Shape(Count), DType.F32, MemoryKind.Workspace), one = cpu.Allocate(x.Shape, DType.F32, MemoryKind.Workspace);
        Tensor y = cpu.Allocate(x.Shape, DType.F32, MemoryKind.Workspace);
        one.AsSpan<float>().Fill(1);
        for (int i = 0; i < Count; i++) x.AsSpan<float>()[i] = -80 + 160f * i / (Count - 1);
        cpu.Activation.SwiGlu(x, one, default, y);
        double worst = 0;
        float where = 0;
        for (int i = 0; i < Count; i++)
        {
            double a = x.AsSpan<float>()[i], expected = a / (1 + Math.Exp(-a));
            double relative = a == 0 ? Math.Abs(y.AsSpan<float>()[i]) : Math.Abs(y.AsSpan<float>()[i] / expected - 1);
            if (relative > worst) (worst, where) = (relative, (float)a);
        }

        output.WriteLine($"largest relative error {worst:E2} at {where:R}");
        Assert.True(worst < 4e-7, $"{worst:E2} at {where:R}");
    }

    [Fact]
    public void Bad_input_is_refused_with_its_place_and_value()
    {
        Tensor matrix = Normal(new Shape(2, 4)), table = Normal(new Shape(3, 4)), losses = Normal(new Shape(2)), pairs = Normal(new Shape(3, 2));
        Refused("token id 3 at place 1", () => cpu.Embedding.Forward(Ints(0, 3), table, matrix));
        Refused("token id -1 at place 0", () => cpu.Embedding.WeightGradient(Ints(-1, 0), matrix, table));
        Refused("target 4 of row 0", () => cpu.Loss.CrossEntropy(matrix, Ints(4, 0), 1, losses, default));
        Refused("position 3 of token 1", () => cpu.Rotary.Rotate(matrix, 0, pairs, pairs, Ints(0, 3)));
        Refused("columns 2 to 5 are turned", () => cpu.Rotary.Rotate(matrix, 2, pairs, pairs, Ints(0, 0)));
        Refused("expert 2", () => cpu.Routing.Sort(Ints(0, 2), Ints(0, 0, 0), Ints(0, 0), Ints(0, 0)));
        Refused("slot 2", () => cpu.Routing.Dispatch(matrix, Ints(0, 2), 1, Normal(new Shape(2, 4))));
        Refused("row -1", () => cpu.Routing.Combine(matrix, Ints(0, -1).Reshape(new Shape(2, 1)), Normal(new Shape(2, 4))));
        Refused("y is F32 [3, 4]", () => cpu.Norm.RmsNorm(matrix, Normal(new Shape(4)), 1e-6f, table, default));
        Refused("first step", () => cpu.Optimizer.AdamW(losses, losses, losses, losses, default));
        Refused("expected F32 and BF16", () => cpu.Reduction.Convert(Ints(1), losses));
        var options = new RoutingOptions(4, 2, 3, 1, ScoringFunction.Sigmoid, TopKMethod.NoAuxTc, true, 1);
        Refused("groups must divide", () => cpu.Routing.Choose(matrix, default, options, matrix, matrix, matrix, matrix));
    }

    private void Refused(string part, Action action)
    {
        ArgumentException e = Assert.Throws<ArgumentException>(action);
        output.WriteLine(e.Message);
        Assert.Contains(part, e.Message, StringComparison.Ordinal);
    }

    private static IEnumerable<OperatorCase> Rows(string family) =>
        OperatorTable.All().Where(c => c.Small && c.Name.StartsWith(family + ".", StringComparison.Ordinal));

    private static Span<byte> Bytes(Tensor tensor, long row) => tensor.DType.SizeInBytes() switch
    {
        1 => tensor.Row<byte>(row),
        2 => MemoryMarshal.AsBytes(tensor.Row<ushort>(row)),
        4 => MemoryMarshal.AsBytes(tensor.Row<float>(row)),
        _ => MemoryMarshal.AsBytes(tensor.Row<long>(row)),
    };

    // Summed with the lost digits carried along (Neumaier), so that the yardstick is better than what it measures.
    private static double ExactSum(Tensor x, Func<double, double> term)
    {
        double sum = 0, lost = 0;
        foreach (float value in x.AsSpan<float>())
        {
            double one = term(value), next = sum + one;
            lost += Math.Abs(sum) >= Math.Abs(one) ? sum - next + one : one - next + sum;
            sum = next;
        }

        return sum + lost;
    }

    private Tensor Normal(Shape shape)
    {
        Tensor tensor = cpu.Allocate(shape, DType.F32, MemoryKind.Workspace);
        var random = new Random(5);
        foreach (ref float value in tensor.AsSpan<float>()) value = OperatorCase.Normal(random);
        return tensor;
    }

    private Tensor Ints(params int[] values)
    {
        Tensor tensor = cpu.Allocate(new Shape(values.Length), DType.I32, MemoryKind.Workspace);
        values.CopyTo(tensor.AsSpan<int>());
        return tensor;
    }
}

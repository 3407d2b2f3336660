using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private static readonly (int Rows, int Columns, int Pad, bool Small)[] ReductionShapes =
    [
        (0, 8, 0, true), (1, 1, 0, true), (3, 17, 0, true), (5, 64, 3, true), (3, 40_001, 0, true), (2, 70_000, 7, true), (4096, 384, 0, false),
        (4096, 7168, 0, false),
    ];

    /// <summary>Rows of <see cref="Operators.IReductionOperators"/>; all exact. What returns a number is tested apart.</summary>
    public static IEnumerable<OperatorCase> Reductions()
    {
        foreach ((int rows, int columns, int pad, bool small) in ReductionShapes)
        {
            var matrix = new Shape(rows, columns);
            string label = $"M={rows} D={columns} pad={pad}";
            double count = (double)rows * columns;
            yield return new OperatorCase
            {
                Name = "reduction.add",
                Label = label,
                Operands =
                [
                    new("a", matrix, Fill.Normal, PadColumns: pad, Activation: true),
                    new("b", matrix, Fill.Normal, Activation: true),
                    new("y", matrix, Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                ],
                Run = static (device, t) => device.Reduction.Add(t[0], t[1], t[2]),
                Flops = count,
                Bytes = 12 * count,
                Tolerance = 0,
                Small = small,
            };
            yield return new OperatorCase
            {
                Name = "reduction.zero",
                Label = label,
                Operands = [new("x", matrix, Fill.Poison, Compare: true, PadColumns: pad)],
                Run = static (device, t) => device.Reduction.Zero(t[0]),
                Bytes = 4 * count,
                Tolerance = 0,
                Small = small,
            };
            foreach (DType from in (DType[])[DType.F32, DType.BF16])
            {
                yield return new OperatorCase
                {
                    Name = "reduction.copy",
                    Label = $"{label} {from}",
                    Operands =
                    [
                        new("x", matrix, Fill.Normal, from, PadColumns: pad),
                        new("y", matrix, Fill.Poison, from, Compare: true),
                    ],
                    Run = static (device, t) => device.Reduction.Copy(t[0], t[1]),
                    Bytes = 2.0 * from.SizeInBytes() * count,
                    Tolerance = 0,
                    Small = small,
                };
                yield return new OperatorCase
                {
                    Name = "reduction.convert",
                    Label = $"{label} from {from}",
                    Operands =
                    [
                        from == DType.F32
                            ? new("x", matrix, Fill.Custom, PadColumns: pad, Initialize: From(AnySingle))
                            : new("x", matrix, Fill.Normal, from, PadColumns: pad),
                        new("y", matrix, Fill.Poison, from == DType.F32 ? DType.BF16 : DType.F32, Compare: true),
                    ],
                    Run = static (device, t) => device.Reduction.Convert(t[0], t[1]),
                    Bytes = 6 * count,
                    Tolerance = 0,
                    Small = small,
                };
            }
        }
    }

    // Ties of the rounding, NaN whose payload lies in the half that is cut off, subnormals, infinities.
    private static float AnySingle(long index, Random random) => (index % 16) switch
    {
        0 => BitConverter.UInt32BitsToSingle(0x7F80_0001),
        1 => BitConverter.UInt32BitsToSingle(0xFFFF_FFFF),
        2 => float.PositiveInfinity,
        3 => float.NegativeInfinity,
        4 => float.MaxValue,
        5 => float.Epsilon,
        6 or 7 => BitConverter.UInt32BitsToSingle((uint)random.Next(0x3F80, 0x4000) << 16 | 0x8000),
        _ => OperatorCase.Normal(random),
    };
}

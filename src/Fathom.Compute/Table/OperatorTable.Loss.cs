using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private static readonly (int Rows, int Columns, int Pad, bool Small)[] LossShapes =
    [
        (0, 8, 0, true), (3, 1, 0, true), (9, 17, 5, true), (12, 66, 3, true), (20, 8192, 0, true), (2, 129280, 0, true),
        (512, 8192, 0, false), (512, 129280, 0, false),
    ];

    /// <summary>Rows of <see cref="Operators.ILossOperators"/>.</summary>
    public static IEnumerable<OperatorCase> Losses()
    {
        foreach ((int rows, int columns, int pad, bool small) in LossShapes)
        {
            foreach (float scale in (float[])[0, 0.125f])
            {
                foreach ((string kind, Action<Tensor, Random>? fill) in LogitFills)
                {
                    if (!small && fill is not null) continue;
                    yield return new OperatorCase
                    {
                        Name = "loss.cross_entropy",
                        Label = $"M={rows} V={columns} pad={pad} scale={scale} {kind} logits",
                        Operands =
                        [
                            new("logits", new Shape(rows, columns), fill is null ? Fill.Normal : Fill.Custom, Compare: true, PadColumns: pad, Initialize: fill),
                            new("targets", new Shape(rows), Fill.Custom, DType.I32, Initialize: Integers(small ? -Math.Min(columns, 4) : 0, columns)),
                            new("losses", new Shape(rows), Fill.Poison, Compare: true),
                            new("correct", new Shape(rows), Fill.Custom, DType.I32, Compare: true, Initialize: PoisonIntegers),
                        ],
                        Run = (device, t) => device.Loss.CrossEntropy(t[0], t[1], scale, t[2], t[3]),
                        Bytes = (scale == 0 ? 4.0 : 8.0) * rows * columns,
                        Small = small,
                    };
                }
            }
        }
    }

    private static (string Kind, Action<Tensor, Random>? Fill)[] LogitFills =>
    [
        ("normal", null),
        ("equal", From((_, _) => 3)),
        ("huge", From((_, random) => 1e30f * random.Next(-3, 4))),
        ("tied", From((_, random) => random.Next(3))),
        ("some masked", From((_, random) => random.Next(3) == 0 ? float.NegativeInfinity : OperatorCase.Normal(random))),
        ("some NaN", From((i, random) => i % 13 == 5 ? float.NaN : OperatorCase.Normal(random))),
        ("all NaN", From((_, _) => float.NaN)),
        ("some infinite", From((i, random) => i % 7 == 3 ? float.PositiveInfinity : OperatorCase.Normal(random))),
    ];
}

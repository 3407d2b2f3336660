using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private static readonly (int Tokens, int Heads, int Head, int Offset, int Pairs, int Pad, bool Small)[] RotaryShapes =
    [
        (0, 2, 8, 0, 4, 0, true), (3, 1, 2, 0, 1, 0, true), (5, 3, 24, 16, 4, 0, true), (4, 2, 13, 3, 5, 3, true), (7, 4, 192, 128, 32, 0, true),
        (6, 1, 64, 0, 32, 512, true), (4096, 6, 96, 64, 16, 0, false), (4096, 1, 64, 0, 32, 512, false), (4096, 128, 192, 128, 32, 0, false),
    ];

    /// <summary>Rows of <see cref="Operators.IRotaryOperators"/>.</summary>
    public static IEnumerable<OperatorCase> Rotaries()
    {
        const int Positions = 100;
        foreach ((int tokens, int heads, int head, int offset, int pairs, int pad, bool small) in RotaryShapes)
        {
            foreach (bool inverse in (bool[])[false, true])
            {
                yield return new OperatorCase
                {
                    Name = "rotary.rotate",
                    Label = $"M={tokens} H={heads} dh={head} offset={offset} P={pairs} pad={pad} inverse={inverse}",
                    Operands =
                    [
                        new("x", new Shape(tokens, heads, head), Fill.Normal, Compare: true, PadColumns: pad, Activation: true),
                        new("cos", new Shape(Positions, pairs), Fill.Custom, Initialize: From((i, _) => MathF.Cos(i * 0.37f))),
                        new("sin", new Shape(Positions, pairs), Fill.Custom, Initialize: From((i, _) => MathF.Sin(i * 0.37f))),
                        new("positions", new Shape(tokens), Fill.Custom, DType.I32, Initialize: Integers(0, Positions)),
                    ],
                    Run = (device, t) => device.Rotary.Rotate(t[0], offset, t[1], t[2], t[3], inverse),
                    Bytes = 16.0 * tokens * heads * pairs,
                    Small = small,
                };
            }
        }
    }
}

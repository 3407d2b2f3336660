namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private static readonly (int Rows, int Columns, int Pad, bool Small)[] ActivationShapes =
    [
        (0, 8, 0, true), (1, 1, 0, true), (3, 17, 5, true), (9, 64, 3, true), (33, 1024, 0, true), (3, 20000, 0, true),
        (4096, 1024, 0, false), (24576, 256, 0, false),
    ];

    /// <summary>Rows of <see cref="Operators.IActivationOperators"/>.</summary>
    public static IEnumerable<OperatorCase> Activations()
    {
        foreach ((int rows, int columns, int pad, bool small) in ActivationShapes)
        {
            var matrix = new Shape(rows, columns);
            double bytes = 4.0 * rows * columns;
            foreach (bool scaled in (bool[])[false, true])
            {
                string label = $"M={rows} I={columns} pad={pad} scaled={scaled}";
                yield return new OperatorCase
                {
                    Name = "activation.swiglu",
                    Label = label,
                    Operands =
                    [
                        new("gate", matrix, Fill.Custom, PadColumns: pad, Initialize: From(WideNormal), Activation: true),
                        new("up", matrix, Fill.Normal, Activation: true),
                        new("rowScale", new Shape(rows), Fill.Positive),
                        new("y", matrix, Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                    ],
                    Run = (device, t) => device.Activation.SwiGlu(t[0], t[1], scaled ? t[2] : default, t[3]),
                    Bytes = 3 * bytes,
                    Small = small,
                };
                yield return new OperatorCase
                {
                    Name = "activation.swiglu_gradient",
                    Label = label,
                    Operands =
                    [
                        new("dy", matrix, Fill.Normal, Activation: true),
                        new("gate", matrix, Fill.Custom, PadColumns: pad, Initialize: From(WideNormal), Activation: true),
                        new("up", matrix, Fill.Normal, PadColumns: pad, Activation: true),
                        new("rowScale", new Shape(rows), Fill.Positive),
                        new("dgate", matrix, Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                        new("dup", matrix, Fill.Poison, Compare: true, Activation: true),
                        new("drowScale", new Shape(rows), Fill.Poison, Compare: scaled),
                    ],
                    Run = (device, t) => device.Activation.SwiGluGradient(
                        t[0], t[1], t[2], scaled ? t[3] : default, t[4], t[5], scaled ? t[6] : default),
                    Bytes = 5 * bytes,
                    Small = small,
                };
            }

            yield return new OperatorCase
            {
                Name = "activation.swiglu_gradient",
                Label = $"M={rows} I={columns} pad={pad} in place",
                Operands =
                [
                    new("dy", matrix, Fill.Normal, PadColumns: pad, Activation: true),
                    new("gate", matrix, Fill.Normal, Compare: true, PadColumns: pad, Activation: true),
                    new("up", matrix, Fill.Normal, Compare: true, Activation: true),
                ],
                Run = static (device, t) => device.Activation.SwiGluGradient(t[0], t[1], t[2], default, t[1], t[2], default),
                Bytes = 5 * bytes,
                Small = small,
            };
        }
    }

    // Every twentieth is so far out that the exponential over- or underflows.
    private static float WideNormal(long index, Random random) => OperatorCase.Normal(random) * (index % 20 == 19 ? 60 : 2);
}

using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private static readonly (int Rows, int Columns, int Pad, bool Small)[] NormShapes =
    [
        (0, 8, 0, true), (1, 1, 0, true), (3, 17, 5, true), (5, 64, 3, true), (130, 70, 0, true), (65, 384, 0, true), (2, 7168, 0, true), (3, 2501, 3, true),
        (2, 20_000, 0, true),
        (4096, 384, 0, false), (4096, 7168, 0, false),
    ];

    // Of what linear layers take; the last rows' widths are those of V3: both latents, one of them beside its rotary key, and the hidden size.
    private static readonly (int Rows, int Columns, int Pad, bool Small)[] QuantizedNormShapes =
    [
        (0, 8, 0, true), (1, 1, 0, true), (3, 17, 5, true), (1, 8, 0, true), (5, 136, 8, true), (130, 264, 0, true), (7, 2504, 24, true), (2, 20_000, 0, true),
        (5, 1536, 0, true), (5, 512, 64, true), (3, 7168, 0, true), (4096, 7168, 0, false),
    ];

    /// <summary>Rows of <see cref="Operators.INormOperators"/>.</summary>
    public static IEnumerable<OperatorCase> Norms()
    {
        foreach ((int rows, int columns, int pad, bool small) in NormShapes)
        {
            var matrix = new Shape(rows, columns);
            string label = $"M={rows} D={columns} pad={pad}";
            double bytes = 4.0 * rows * columns;
            foreach (DType weight in (DType[])[DType.F32, DType.BF16])
            {
                yield return new OperatorCase
                {
                    Name = "norm.forward",
                    Label = $"{label} weight={weight}",
                    Operands =
                    [
                        new("x", matrix, Fill.Normal, PadColumns: pad, Activation: true),
                        new("weight", new Shape(columns), Fill.Positive, weight),
                        new("y", matrix, Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                        new("rstd", new Shape(rows), Fill.Poison, Compare: true),
                    ],
                    Run = static (device, t) => device.Norm.RmsNorm(t[0], t[1], 1e-6f, t[2], t[3]),
                    Bytes = 2 * bytes,
                    Small = small,
                };
            }

            foreach (string added in (string[])["nothing", "dx", "another"])
            {
                bool adds = added != "nothing", another = added == "another";
                yield return new OperatorCase
                {
                    Name = "norm.input_gradient",
                    Label = $"{label} added={added}",
                    Operands =
                    [
                        new("dy", matrix, Fill.Normal, PadColumns: pad, Activation: true, Addend: true),
                        new("x", matrix, Fill.Normal, Activation: true),
                        new("weight", new Shape(columns), Fill.Positive),
                        new("rstd", new Shape(rows), Fill.Positive),
                        adds && !another
                            ? new("dx", matrix, Fill.Normal, Compare: true, PadColumns: pad, Activation: true, Addend: true)
                            : new("dx", matrix, Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                        .. another ? [new Operand("added", matrix, Fill.Normal, PadColumns: pad, Activation: true, Addend: true)] : (Operand[])[],
                    ],
                    Run = (device, t) => device.Norm.RmsNormInputGradient(t[0], t[1], t[2], t[3], t[4], another ? t[5] : adds ? t[4] : default),
                    Bytes = (adds ? 4 : 3) * bytes,
                    Small = small,
                };
            }

            yield return new OperatorCase
            {
                Name = "norm.input_gradient",
                Label = $"{label} dx is dy",
                Operands =
                [
                    new("dy", matrix, Fill.Normal, Compare: true, PadColumns: pad, Activation: true, Addend: true),
                    new("x", matrix, Fill.Normal, Activation: true),
                    new("weight", new Shape(columns), Fill.Positive),
                    new("rstd", new Shape(rows), Fill.Positive),
                ],
                Run = static (device, t) => device.Norm.RmsNormInputGradient(t[0], t[1], t[2], t[3], t[0]),
                Bytes = 3 * bytes,
                Small = small,
            };
            foreach (bool accumulate in (bool[])[false, true])
            {
                yield return new OperatorCase
                {
                    Name = "norm.weight_gradient",
                    Label = $"{label} accumulate={accumulate}",
                    Operands =
                    [
                        new("dy", matrix, Fill.Normal, Activation: true),
                        new("x", matrix, Fill.Normal, PadColumns: pad, Activation: true),
                        new("rstd", new Shape(rows), Fill.Positive),
                        new("dweight", new Shape(columns), accumulate ? Fill.Normal : Fill.Poison, Compare: true, Addend: accumulate),
                    ],
                    Run = (device, t) => device.Norm.RmsNormWeightGradient(t[0], t[1], t[2], t[3], accumulate),
                    Bytes = 2 * bytes,
                    Small = small,
                };
            }
        }

        foreach ((int rows, int columns, int pad, bool small) in QuantizedNormShapes)
        {
            foreach (DType weight in (DType[])[DType.F32, DType.BF16]) yield return NormQuantized(rows, columns, pad, weight, small);
        }
    }

    // As of SwiGLU's result, the codes are of a value that a device may round to BF16 first.
    private static OperatorCase NormQuantized(int rows, int columns, int pad, DType weight, bool small)
    {
        Shape matrix = new(rows, columns);
        return new OperatorCase
        {
            Name = "norm.forward_quantized",
            Label = $"M={rows} D={columns} pad={pad} weight={weight}",
            Operands =
            [
                new("x", matrix, Fill.Normal, PadColumns: pad, Activation: true),
                new("weight", new Shape(columns), Fill.Positive, weight),
                new("codes", matrix, Fill.Poison, DType.F8E4M3, PadColumns: pad),
                new("scales", ScaledTensor.ScaleShape(matrix, ScaleLayout.RowTile), Fill.Poison),
                new("rstd", new Shape(rows), Fill.Poison, Compare: true),
                new("y", matrix, Fill.Poison, Compare: true),
                new("values", matrix, Fill.Poison, Activation: true),
            ],
            Run = (device, t) =>
            {
                var y = new ScaledTensor(t[2], t[3], ScaleLayout.RowTile);
                if (device.Traits.FusesNormQuantization(t[0].DType, columns, t[0].RowStride))
                {
                    device.Norm.RmsNormQuantized(t[0], t[1], 1e-6f, new(y), t[4]);
                }
                else
                {
                    device.Norm.RmsNorm(t[0], t[1], 1e-6f, t[6], t[4]);
                    device.Quantization.Quantize(t[6], y);
                }

                device.Quantization.Dequantize(y, t[5]);
            },
            Bytes = 3.0 * rows * columns,
            Tolerance = RoundedStepOfE4M3,
            RoundedTolerance = RoundedStepOfE4M3,
            Small = small,
        };
    }
}

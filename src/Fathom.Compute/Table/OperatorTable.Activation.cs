// Rows of the activation family, values and codes.
using Fathom.Compute.Operators;
using Fathom.Numerics;

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
                    LargestTerm = t => LargestGateTerm(t[0], t[1], t[2]),
                    Bytes = 5 * bytes,
                    Small = small,
                };
            }

            foreach (bool scaled in (bool[])[false, true])
            {
                int whole = (pad + 7) / 8 * 8; // rows of BF16 that begin on 16 bytes
                yield return SwiGluQuantized(rows, columns, whole, scaled, small, ofResult: false);
                yield return SwiGluQuantized(rows, columns, whole, scaled, small, ofResult: true);
                yield return SwiGluGradientQuantized(rows, columns, whole, scaled, small);
            }

            if (rows > 0) yield return SwiGluGradientOperands(rows, columns, small);

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
                LargestTerm = t => LargestGateTerm(t[0], t[1], t[2]),
                Bytes = 5 * bytes,
                Small = small,
            };
        }
    }

    // SwiGLU's slope is σ(g) + g σ(g) (1 - σ(g)), which is zero near g = -1.28.
    private static double LargestGateTerm(Tensor dy, Tensor gate, Tensor up)
    {
        double largest = 0;
        for (long r = 0; r < dy.Rows; r++)
        {
            for (int c = 0; c < dy.Columns; c++)
            {
                double sigmoid = 1 / (1 + Math.Exp(-gate.Row<float>(r)[c]));
                largest = Math.Max(largest, Math.Abs(dy.Row<float>(r)[c] * up.Row<float>(r)[c] * sigmoid));
            }
        }

        return largest;
    }

    // Codes of the inputs are exact, in rows of their own. Those of the result are of a value that a device may round to BF16 first: that they are
    // to the bit those of the device's own composition is for its tests to say. Here, a value and its rounding are 2^-9 apart, as are their tiles'
    // scales, and each comes back within half of a step, of which there are 14 in the largest of a tile.
    private const double RoundingOfBFloat16 = 1.0 / 512, RoundedStepOfE4M3 = (1 + RoundingOfBFloat16) / 14 + RoundingOfBFloat16;

    private static OperatorCase SwiGluQuantized(int rows, int columns, int pad, bool scaled, bool small, bool ofResult)
    {
        Shape matrix = new(rows, columns), scales = ScaledTensor.ScaleShape(matrix, ScaleLayout.RowTile);
        return new OperatorCase
        {
            Name = "activation.swiglu_quantized",
            Label = $"M={rows} I={columns} pad={pad} scaled={scaled}{(ofResult ? " result" : " inputs")}",
            Operands =
            [
                new("gate", matrix, Fill.Custom, PadColumns: pad, Initialize: From(WideNormal), Activation: true),
                new("up", matrix, Fill.Normal, Activation: true),
                new("rowScale", new Shape(rows), Fill.Positive),
                new("y codes", matrix, Fill.Poison, DType.F8E4M3), new("y scales", scales, Fill.Poison),
                new("gate codes", matrix, Fill.Poison, DType.F8E4M3, Compare: !ofResult), new("gate scales", scales, Fill.Poison, Compare: !ofResult),
                new("up codes", matrix, Fill.Poison, DType.F8E4M3, Compare: !ofResult), new("up scales", scales, Fill.Poison, Compare: !ofResult),
                new("y", matrix, Fill.Poison, Compare: ofResult), new("values", matrix, Fill.Poison, Activation: true),
            ],
            Run = (device, t) =>
            {
                ScaledTensor y = new(t[3], t[4], ScaleLayout.RowTile), gate = new(t[5], t[6], ScaleLayout.RowTile), up = new(t[7], t[8], ScaleLayout.RowTile);
                Tensor rowScale = scaled ? t[2] : default;
                if (device.Traits.FusesSwiGluQuantization(t[0].DType, columns))
                {
                    device.Activation.SwiGluQuantized(t[0], t[1], rowScale, new(y), new(gate), new(up));
                }
                else
                {
                    device.Activation.SwiGlu(t[0], t[1], rowScale, t[10]);
                    device.Quantization.Quantize(t[10], y);
                    device.Quantization.Quantize(t[0], gate);
                    device.Quantization.Quantize(t[1], up);
                }

                device.Quantization.Dequantize(y, t[9]);
            },
            Bytes = 7.0 * rows * columns,
            Tolerance = ofResult ? RoundedStepOfE4M3 : 0,
            RoundedTolerance = ofResult ? RoundedStepOfE4M3 : 0,
            Small = small,
        };
    }

    private static OperatorCase SwiGluGradientQuantized(int rows, int columns, int pad, bool scaled, bool small)
    {
        Shape matrix = new(rows, columns), scales = ScaledTensor.ScaleShape(matrix, ScaleLayout.RowTile);
        return new OperatorCase
        {
            Name = "activation.swiglu_gradient_quantized",
            Label = $"M={rows} I={columns} pad={pad} scaled={scaled}",
            Operands =
            [
                new("dy", matrix, Fill.Normal, Activation: true),
                new("gate", matrix, Fill.Custom, Initialize: ScaledByPowers, Activation: true),
                new("up", matrix, Fill.Custom, PadColumns: pad, Initialize: ScaledByPowers, Activation: true),
                new("rowScale", new Shape(rows), Fill.Positive),
                new("dgate", matrix, Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                new("dup", matrix, Fill.Poison, Compare: true, Activation: true),
                new("drowScale", new Shape(rows), Fill.Poison, Compare: scaled),
                new("y", matrix, Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                new("gate codes", matrix, Fill.Poison, DType.F8E4M3), new("gate scales", scales, Fill.Poison),
                new("up codes", matrix, Fill.Poison, DType.F8E4M3), new("up scales", scales, Fill.Poison),
                new("recalled gate", matrix, Fill.Poison, Activation: true), new("recalled up", matrix, Fill.Poison, Activation: true),
            ],
            Run = (device, t) =>
            {
                ScaledTensor gate = new(t[8], t[9], ScaleLayout.RowTile), up = new(t[10], t[11], ScaleLayout.RowTile);
                Tensor rowScale = scaled ? t[3] : default, drowScale = scaled ? t[6] : default;
                device.Quantization.Quantize(t[1], gate);
                device.Quantization.Quantize(t[2], up);
                if (device.Traits.FusesSwiGluQuantization(t[0].DType, columns))
                {
                    device.Activation.SwiGluGradientQuantized(t[0], gate, up, rowScale, t[4], t[5], drowScale, t[7]);
                    return;
                }

                device.Quantization.Dequantize(gate, t[12]);
                device.Quantization.Dequantize(up, t[13]);
                device.Activation.SwiGlu(t[12], t[13], rowScale, t[7]);
                device.Activation.SwiGluGradient(t[0], t[12], t[13], rowScale, t[4], t[5], drowScale);
            },
            LargestTerm = t => LargestGateTerm(t[0], t[1], t[2]),
            Bytes = 12.0 * rows * columns,
            Small = small,
        };
    }

    // The gradients as the input gradients' products take them; codes over rows have no values that a product does not make, and are compared
    // with those of the device's own composition by its tests.
    private static OperatorCase SwiGluGradientOperands(int rows, int columns, bool small)
    {
        Shape matrix = new(rows, columns), scales = ScaledTensor.ScaleShape(matrix, ScaleLayout.RowTile);
        long tiles = ScaledTensor.Tiles(rows);
        Operand[] overRows = [.. ((string[])["dgate", "dup", "y"]).SelectMany(name => new Operand[]
        {
            new($"{name} over rows", new Shape(columns, tiles * ScaledTensor.TileSize), Fill.Poison, DType.F8E4M3), new($"scales of {name} over rows", new Shape(tiles, columns), Fill.Poison),
        })];
        return new OperatorCase
        {
            Name = "activation.swiglu_gradient_operands",
            Label = $"M={rows} I={columns}",
            Operands =
            [
                new("dy", matrix, Fill.Normal, Activation: true),
                new("gate", matrix, Fill.Custom, Initialize: ScaledByPowers, Activation: true),
                new("up", matrix, Fill.Custom, Initialize: ScaledByPowers, Activation: true),
                new("dgate", matrix, Fill.Poison, Compare: true),
                new("dup", matrix, Fill.Poison, Compare: true),
                new("values", matrix, Fill.Poison, Activation: true), new("more values", matrix, Fill.Poison, Activation: true),
                .. Enumerable.Range(0, 4).SelectMany(i => new Operand[] { new($"codes {i}", matrix, Fill.Poison, DType.F8E4M3), new($"scales {i}", scales, Fill.Poison) }),
                .. overRows,
            ],
            Run = (device, t) =>
            {
                ScaledTensor gate = Codes(7), up = Codes(9), dgate = Codes(11), dup = Codes(13);
                device.Quantization.Quantize(t[1], gate);
                device.Quantization.Quantize(t[2], up);
                if (device.Traits.FusesSwiGluQuantization(t[0].DType, columns))
                {
                    device.Activation.SwiGluGradientOperands(t[0], gate, up, new(new(dgate), OverRows(15)), new(new(dup), OverRows(17)), OverRows(19), leastGradientAmax: 1e-30f);
                }
                else
                {
                    device.Quantization.Dequantize(gate, t[5]);
                    device.Quantization.Dequantize(up, t[6]);
                    device.Activation.SwiGluGradient(t[0], t[5], t[6], default, t[5], t[6], default);
                    device.Quantization.Quantize(t[5], dgate, leastAmax: 1e-30f);
                    device.Quantization.Quantize(t[6], dup, leastAmax: 1e-30f);
                }

                device.Quantization.Dequantize(dgate, t[3]);
                device.Quantization.Dequantize(dup, t[4]);

                ScaledTensor Codes(int at) => new(t[at], t[at + 1], ScaleLayout.RowTile);
                CodesTarget OverRows(int at) => new(new ScaledTensor(t[at], t[at + 1], ScaleLayout.TransposedColumnTile));
            },
            Bytes = 9.0 * rows * columns,
            Tolerance = RoundedStepOfE4M3,
            RoundedTolerance = RoundedStepOfE4M3,
            Small = small,
        };
    }

    // The largest of each tile is 448 times a power of two, which is then its scale: what comes back from codes are numbers of BF16, rounded or not.
    private static void ScaledByPowers(Tensor tensor, Random random)
    {
        for (long r = 0; r < tensor.Rows; r++)
        {
            Span<float> row = tensor.Row<float>(r);
            for (int first = 0; first < row.Length; first += ScaledTensor.TileSize)
            {
                Span<float> tile = row[first..Math.Min(first + ScaledTensor.TileSize, row.Length)];
                float largest = MathF.ScaleB(448, random.Next(-9, -1));
                foreach (ref float value in tile) value = Math.Clamp(OperatorCase.Normal(random) * largest / 4, -largest, largest);
                tile[random.Next(tile.Length)] = largest;
            }
        }
    }

    // Every twentieth is so far out that the exponential over- or underflows.
    private static float WideNormal(long index, Random random) => OperatorCase.Normal(random) * (index % 20 == 19 ? 60 : 2);
}

// Rows of the quantisation family: every format and layout at ragged shapes, exact in elements, scales and restored values; and the
// products of a linear layer over operands that were quantised as the recipe of [P] §3.3 does.
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private static readonly DType[] TileFormats = [DType.F8E4M3, DType.F8E5M2, DType.HiF8, DType.E5M6Pair];

    /// <summary>Rows of <see cref="Operators.IQuantizationOperators"/>.</summary>
    public static IEnumerable<OperatorCase> Quantizations()
    {
        (int M, int N, int Pad)[] shapes = [(1, 2, 0), (3, 128, 2), (5, 130, 0), (130, 258, 2), (257, 64, 0), (40, 1100, 4)];
        foreach (DType format in TileFormats)
        {
            foreach (ScaleLayout layout in (ScaleLayout[])[ScaleLayout.RowTile, ScaleLayout.ColumnTile, ScaleLayout.Block, ScaleLayout.Tensor])
            {
                if (format == DType.E5M6Pair && layout == ScaleLayout.ColumnTile) continue;
                foreach (DType scales in (DType[])[DType.F32, DType.F8E8M0])
                {
                    foreach ((int m, int n, int pad) in shapes) yield return Quantize(m, n, pad, format, layout, scales, Spread);
                    yield return Quantize(140, 260, 0, format, layout, scales, Broken);
                }
            }
        }

        // V3's output of attention is 16,384 wide.
        foreach ((int m, int n, int pad) in ((int, int, int)[])[.. shapes, (0, 8, 0), (5, 136, 8), (3, 16_384, 0)])
        {
            yield return QuantizeTwice(m, n, pad, DType.E5M6Pair, DType.F8E8M0, DType.F8E4M3, Spread);
            yield return QuantizeTwice(m, n, pad, DType.E5M6Pair, DType.F32, DType.F8E4M3, Spread);
        }

        yield return QuantizeTwice(140, 264, 0, DType.E5M6Pair, DType.F8E8M0, DType.F8E4M3, Broken);
        yield return QuantizeTwice(37, 272, 0, DType.F8E4M3, DType.F32, DType.HiF8, Broken);
        yield return QuantizeTwice(4096, 16_384, 0, DType.E5M6Pair, DType.F8E8M0, DType.F8E4M3, Spread, small: false);
        foreach (DType format in (DType[])[DType.F8E4M3, DType.HiF8])
        {
            foreach (int[] counts in (int[][])[[3], [0, 0], [128, 0, 129, 1], [5, 127, 128, 0, 300]])
                yield return QuantizeGroups(counts, counts.Sum() + 2, 70, format);
        }

        foreach ((int[] counts, int left, int n, int pad) in ((int[], int, int, int)[])[([300], 0, 272, 0), ([1], 0, 8, 0), ([70], 0, 37, 3), ([3, 0, 128, 129, 0, 60, 256], 5, 264, 8), ([0, 0], 2, 16, 0)])
        {
            yield return QuantizeTransposed(counts, left, n, pad);
            yield return QuantizeTransposed(counts, 0, n, pad, bothWays: true);
        }

        foreach (bool bothWays in (bool[])[false, true]) yield return QuantizeTransposed([.. Enumerable.Repeat(512, 8)], 0, 2048, 0, bothWays, small: false);
        yield return ToBFloat16(37, 129, 3);
        yield return RoundToBFloat16(37, 129, 3);
    }

    // About 14 bits of a running sum are kept (HopperAccumulator), promoted to F32 every 128 elements.
    internal const double HopperSums = 1.0 / 2048;

    /// <summary>Rows of <see cref="Operators.ILinearOperators"/> over quantised operands.</summary>
    public static IEnumerable<OperatorCase> QuantizedLinears()
    {
        foreach ((int m, int n, int k) in ((int, int, int)[])[(1, 130, 257), (3, 64, 128), (17, 200, 300), (70, 144, 384), (300, 272, 400), (70, 144, 390), (130, 128, 1030)])
        {
            foreach (DType format in (DType[])[DType.F8E4M3, DType.HiF8])
            {
                yield return QuantizedForward(m, n, k, format);
                yield return QuantizedInputGradient(m, n, k, format);
                yield return QuantizedWeightGradient(m, n, k, format);
            }
        }

        foreach (int[] counts in (int[][])[[3], [1, 0, 17, 140, 66]])
        {
            foreach (DType scales in (DType[])[DType.F32, DType.F8E8M0])
            {
                foreach ((int n, int k) in ((int, int)[])[(130, 200), (136, 272)])
                {
                    yield return QuantizedGroupedForward(counts, n, k, scales);
                    yield return QuantizedGroupedInputGradient(counts, n, k, scales);
                }
            }

            foreach (bool accumulate in (bool[])[false, true])
            {
                yield return QuantizedGroupedWeightGradient(counts, 130, 200, accumulate);
                yield return QuantizedGroupedWeightGradient(counts, 136, 200, accumulate);
            }
        }
    }

    // Magnitudes from 2^-20 to 2^20, some zeros: every tile has another scale, and every format meets its subnormals.
    private static void Spread(Tensor tensor, Random random)
    {
        for (long r = 0; r < tensor.Rows; r++)
        {
            foreach (ref float value in tensor.Row<float>(r))
                value = random.Next(20) == 0 ? 0 : OperatorCase.Normal(random) * MathF.ScaleB(1, random.Next(-6, 6) + (int)(r % 28) - 14);
        }
    }

    private static void Broken(Tensor tensor, Random random)
    {
        Spread(tensor, random);
        for (int i = 0; i < 6; i++)
        {
            Span<float> row = tensor.Row<float>(random.Next((int)tensor.Rows));
            row[random.Next(row.Length)] = (i % 3) switch { 0 => float.NaN, 1 => float.PositiveInfinity, _ => float.NegativeInfinity };
        }
    }

    private static OperatorCase Quantize(int m, int n, int pad, DType format, ScaleLayout layout, DType scales, Action<Tensor, Random> fill) => new()
    {
        Name = "quantization.quantize",
        Label = $"{m} x {n}{(pad > 0 ? $" pad={pad}" : "")} {format} {layout} {scales}{(fill == Broken ? " not finite" : "")}",
        Operands =
        [
            new("x", new Shape(m, n), Fill.Custom, PadColumns: pad, Initialize: fill, Activation: true),
            new("elements", ScaledTensor.ElementShape(new Shape(m, n), format), Fill.Poison, format, Compare: true, PadColumns: pad),
            new("scales", ScaledTensor.ScaleShape(new Shape(m, n), layout), Fill.Poison, scales, Compare: true),
            new("y", new Shape(m, n), Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
            Fault(),
        ],
        Run = (device, t) =>
        {
            var quantized = new ScaledTensor(t[1], t[2], layout);
            device.Quantization.Quantize(t[0], quantized, t[4]);
            device.Quantization.Dequantize(quantized, t[3]);
        },
        Bytes = 4.0 * m * n,
        Tolerance = 0,
    };

    private static OperatorCase QuantizeTwice(int m, int n, int pad, DType first, DType firstScales, DType second, Action<Tensor, Random> fill, bool small = true)
    {
        Shape shape = new(m, n), tiles = ScaledTensor.ScaleShape(shape, ScaleLayout.RowTile);
        return new OperatorCase
        {
            Name = "quantization.quantize_twice",
            Label = $"{m} x {n}{(pad > 0 ? $" pad={pad}" : "")} {first} {firstScales}, {second}{(fill == Broken ? " not finite" : "")}",
            Operands =
            [
                new("x", shape, Fill.Custom, PadColumns: pad, Initialize: fill, Activation: true),
                new("first elements", ScaledTensor.ElementShape(shape, first), Fill.Poison, first, Compare: true, PadColumns: pad),
                new("first scales", tiles, Fill.Poison, firstScales, Compare: true),
                Fault(),
                new("second elements", shape, Fill.Poison, second, Compare: true, PadColumns: pad),
                new("second scales", tiles, Fill.Poison, Compare: true),
                Fault(),
            ],
            Run = static (device, t) => device.Quantization.QuantizeTwice(
                t[0], new(new ScaledTensor(t[1], t[2], ScaleLayout.RowTile), t[3]), new(new ScaledTensor(t[4], t[5], ScaleLayout.RowTile), t[6])),
            Bytes = m * ((4.0 + second.SizeInBytes()) * n + first.SizeInBytes() * ScaledTensor.ElementShape(shape, first).Columns),
            Tolerance = 0,
            Small = small,
        };
    }

    private static OperatorCase QuantizeGroups(int[] counts, int rows, int n, DType format) => new()
    {
        Name = "quantization.quantizeGroups",
        Label = $"{counts.Length} groups, {rows} x {n} {format}",
        Operands =
        [
            new("x", new Shape(rows, n), Fill.Custom, Initialize: Spread, Activation: true),
            RowOffsets(counts),
            new("elements", ScaledTensor.ElementShape(new Shape(rows, n), format), Fill.Poison, format, Compare: true),
            new("scales", new Shape(ScaledTensor.GroupedTileRows(rows, counts.Length), n), Fill.Positive, Compare: true),
            new("y", new Shape(rows, n), Fill.Normal, Compare: true, Activation: true),
            Fault(),
        ],
        Run = static (device, t) =>
        {
            var quantized = new ScaledTensor(t[2], t[3], ScaleLayout.ColumnTile);
            device.Quantization.Quantize(t[0], quantized, t[5], t[1], leastAmax: 1e-30f);
            device.Quantization.Dequantize(quantized, t[4], t[1]);
        },
        Bytes = 4.0 * rows * n,
        Tolerance = 0,
    };

    private static OperatorCase QuantizeTransposed(int[] counts, int left, int n, int pad, bool bothWays = false, bool small = true)
    {
        int rows = counts.Sum() + left;
        Shape matrix = new(rows, n);
        bool grouped = counts.Length > 1;
        long tiles = grouped ? ScaledTensor.GroupedTileRows(rows, counts.Length) : ScaledTensor.Tiles(rows);
        return new OperatorCase
        {
            Name = bothWays ? "quantization.quantize_both_ways" : "quantization.quantize_transposed",
            Label = $"{counts.Length} groups, {rows} x {n}{(pad > 0 ? $" pad={pad}" : "")}",
            Operands =
            [
                new("x", matrix, Fill.Custom, PadColumns: pad, Initialize: Spread, Activation: true),
                RowOffsets(counts),
                new("elements", new Shape(n, tiles * ScaledTensor.TileSize), Fill.Poison, DType.F8E4M3, Compare: true),
                new("scales", new Shape(tiles, n), Fill.Positive, Compare: true),
                Fault(),
                new("rows' elements", matrix, Fill.Poison, DType.F8E4M3, Compare: bothWays, PadColumns: pad),
                new("rows' scales", ScaledTensor.ScaleShape(matrix, ScaleLayout.RowTile), Fill.Poison, Compare: bothWays),
                Fault(),
            ],
            Run = (device, t) =>
            {
                var quantized = new ScaledTensor(t[2], t[3], ScaleLayout.TransposedColumnTile);
                Tensor offsets = grouped ? t[1] : default;
                var ofRows = new ScaledTensor(t[5], t[6], ScaleLayout.RowTile);
                if (device.IsHost)
                {
                    TransposeHere(device, t[0], quantized, t[4], offsets);
                    device.Quantization.Quantize(t[0], ofRows, t[7]);
                }
                else if (bothWays)
                {
                    device.Quantization.QuantizeBothWays(t[0], new GradientTarget(new(ofRows, t[7]), new(quantized, t[4])), offsets);
                }
                else
                {
                    device.Quantization.QuantizeTransposed(t[0], quantized, t[4], offsets);
                    device.Quantization.Quantize(t[0], ofRows, t[7]);
                }
            },
            Bytes = (bothWays ? 6.0 : 5.0) * rows * n,
            Tolerance = 0,
            Small = small,
        };
    }

    // What the operator is defined to be; tiles end in zeros.
    private static void TransposeHere(Device device, Tensor x, in ScaledTensor quantized, Tensor fault, Tensor rowOffsets)
    {
        var codes = new ScaledTensor(device.Allocate(new Shape(x.Rows, x.Columns), DType.F8E4M3, MemoryKind.Workspace), quantized.Scales, ScaleLayout.ColumnTile);
        device.Quantization.Quantize(x, codes, fault, rowOffsets);
        int[] offsets = rowOffsets.IsEmpty ? [0, (int)x.Rows] : [.. rowOffsets.AsSpan<int>()];
        for (int g = 0; g + 1 < offsets.Length; g++)
        {
            int first = offsets[g], count = offsets[g + 1] - first, at = (first / ScaledTensor.TileSize + g) * ScaledTensor.TileSize;
            for (long n = 0; n < x.Columns; n++)
            {
                Span<byte> line = quantized.Elements.Row<byte>(n).Slice(at, (int)ScaledTensor.Tiles(count) * ScaledTensor.TileSize);
                line.Clear();
                for (int r = 0; r < count; r++) line[r] = codes.Elements.Row<byte>(first + r)[(int)n];
            }
        }
    }

    private static OperatorCase ToBFloat16(int m, int n, int pad) => new()
    {
        Name = "quantization.toBFloat16",
        Label = $"{m} x {n}",
        Operands =
        [
            new("x", new Shape(m, n), Fill.Custom, PadColumns: pad, Initialize: Spread, Activation: true),
            new("elements", new Shape(m, n), Fill.Poison, DType.BF16, Compare: true, PadColumns: pad),
            new("y", new Shape(m, n), Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
        ],
        Run = static (device, t) =>
        {
            device.Quantization.Quantize(t[0], t[1]);
            device.Quantization.Dequantize(t[1], t[2]);
        },
        Tolerance = 0,
    };

    private static OperatorCase RoundToBFloat16(int m, int n, int pad) => new()
    {
        Name = "quantization.roundToBFloat16",
        Label = $"{m} x {n}",
        Operands = [new("x", new Shape(m, n), Fill.Custom, Compare: true, PadColumns: pad, Initialize: Broken, Activation: true)],
        Run = static (device, t) => device.Quantization.RoundToBFloat16(t[0]),
        Tolerance = 0,
    };

    private static OperatorCase QuantizedForward(int m, int n, int k, DType format) => new()
    {
        Name = "linear.forwardQuantized",
        NarrowSumTolerance = HopperSums,
        Label = $"M={m} N={n} K={k} {format}",
        Operands =
        [
            new("x", new Shape(m, k), Fill.Normal, Activation: true), new("w", new Shape(n, k), Fill.Weight),
            new("y", new Shape(m, n), Fill.Poison, Compare: true, Activation: true),
        ],
        Run = (device, t) => device.Linear.Forward(
            Quantized(device, t[0], format, ScaleLayout.RowTile), Quantized(device, t[1], format, ScaleLayout.Block), t[2]),
        Flops = 2.0 * m * n * k,
    };

    private static OperatorCase QuantizedInputGradient(int m, int n, int k, DType format) => new()
    {
        Name = "linear.inputGradientQuantized",
        NarrowSumTolerance = HopperSums,
        Label = $"M={m} N={n} K={k} {format}",
        Operands =
        [
            new("dy", new Shape(m, n), Fill.Normal, Activation: true), new("w", new Shape(n, k), Fill.Weight),
            new("dx", new Shape(m, k), Fill.Normal, Compare: true, Activation: true),
        ],
        Run = (device, t) => device.Linear.InputGradient(
            Quantized(device, t[0], format, ScaleLayout.RowTile), Quantized(device, t[1], format, ScaleLayout.Block), t[2], accumulate: true),
        Flops = 2.0 * m * n * k,
    };

    private static OperatorCase QuantizedWeightGradient(int m, int n, int k, DType format) => new()
    {
        Name = "linear.weightGradientQuantized",
        NarrowSumTolerance = HopperSums,
        Label = $"M={m} N={n} K={k} {format}",
        Operands =
        [
            new("dy", new Shape(m, n), Fill.Normal, Activation: true), new("x", new Shape(m, k), Fill.Normal, Activation: true),
            new("dw", new Shape(n, k), Fill.Normal, Compare: true),
        ],
        Run = (device, t) => device.Linear.WeightGradient(
            OverTokens(device, t[0], format, n, k), OverTokens(device, t[1], format, n, k), t[2]),
        Flops = 2.0 * m * n * k,
    };

    private static OperatorCase QuantizedGroupedForward(int[] counts, int n, int k, DType scales) => new()
    {
        Name = "linear.groupedForwardQuantized",
        NarrowSumTolerance = HopperSums,
        Label = $"E={counts.Length} rows={counts.Sum()} N={n} K={k} {scales}",
        Operands =
        [
            new("x", new Shape(counts.Sum(), k), Fill.Normal, Activation: true), RowOffsets(counts), new("w", new Shape(counts.Length, n, k), Fill.Weight),
            new("y", new Shape(counts.Sum(), n), Fill.Poison, Compare: true, Activation: true),
        ],
        Run = (device, t) => device.Linear.GroupedForward(
            Quantized(device, t[0], DType.F8E4M3, ScaleLayout.RowTile, scaleType: scales), t[1], QuantizedExperts(device, t[2]), t[3]),
        Flops = 2.0 * counts.Sum() * n * k,
    };

    private static OperatorCase QuantizedGroupedInputGradient(int[] counts, int n, int k, DType scales) => new()
    {
        Name = "linear.groupedInputGradientQuantized",
        NarrowSumTolerance = HopperSums,
        Label = $"E={counts.Length} rows={counts.Sum()} N={n} K={k} {scales}",
        Operands =
        [
            new("dy", new Shape(counts.Sum(), n), Fill.Normal, Activation: true), RowOffsets(counts), new("w", new Shape(counts.Length, n, k), Fill.Weight),
            new("dx", new Shape(counts.Sum(), k), Fill.Poison, Compare: true, Activation: true),
        ],
        Run = (device, t) => device.Linear.GroupedInputGradient(
            Quantized(device, t[0], DType.F8E4M3, ScaleLayout.RowTile, scaleType: scales), t[1], QuantizedExperts(device, t[2]), t[3]),
        Flops = 2.0 * counts.Sum() * n * k,
    };

    // Codes that lie contiguous, as in training.
    private static ExpertWeights QuantizedExperts(Device device, Tensor w)
    {
        var stacked = new ScaledTensor(
            device.Allocate(w.Shape, DType.F8E4M3, MemoryKind.Workspace),
            device.Allocate(ScaledTensor.ScaleShape(w.Shape, ScaleLayout.Block), DType.F32, MemoryKind.Workspace), ScaleLayout.Block);
        for (long e = 0; e < w.Shape[0]; e++) device.Quantization.Quantize(w.At(e), stacked.At(e));
        return new ExpertWeights(stacked);
    }

    private static OperatorCase QuantizedGroupedWeightGradient(int[] counts, int n, int k, bool accumulate) => new()
    {
        Name = "linear.groupedWeightGradientQuantized",
        NarrowSumTolerance = HopperSums,
        Label = $"E={counts.Length} rows={counts.Sum()} N={n} K={k}{(accumulate ? " accumulate" : "")}",
        Operands =
        [
            new("dy", new Shape(counts.Sum(), n), Fill.Normal, Activation: true), new("x", new Shape(counts.Sum(), k), Fill.Normal, Activation: true), RowOffsets(counts),
            new("dw", new Shape(counts.Length, n, k), accumulate ? Fill.Normal : Fill.Poison, Compare: true),
        ],
        Run = (device, t) => device.Linear.GroupedWeightGradient(
            OverTokens(device, t[0], DType.F8E4M3, n, k, t[2]), OverTokens(device, t[1], DType.F8E4M3, n, k, t[2]), t[2], t[3], accumulate),
        Flops = 2.0 * counts.Sum() * n * k,
    };

    private static ScaledTensor Quantized(Device device, Tensor x, DType format, ScaleLayout layout, Tensor rowOffsets = default, DType scaleType = DType.F32)
    {
        Shape shape = new(x.Rows, x.Columns), scales = ScaledTensor.ScaleShape(shape, layout);
        if (!rowOffsets.IsEmpty) scales = new Shape(ScaledTensor.GroupedTileRows(x.Rows, (int)rowOffsets.Elements - 1), x.Columns);
        var quantized = new ScaledTensor(
            device.Allocate(ScaledTensor.ElementShape(shape, format), format, MemoryKind.Workspace), device.Allocate(scales, scaleType, MemoryKind.Workspace), layout);
        device.Quantization.Quantize(x, quantized, rowOffsets: rowOffsets);
        return quantized;
    }

    // As the device's weight gradients take it.
    private static ScaledTensor OverTokens(Device device, Tensor x, DType format, long outputs, long inputs, Tensor rowOffsets = default)
    {
        if (device.Traits.TokenLayout(format, DType.F32, outputs, inputs) == ScaleLayout.ColumnTile) return Quantized(device, x, format, ScaleLayout.ColumnTile, rowOffsets);
        long tiles = rowOffsets.IsEmpty ? ScaledTensor.Tiles(x.Rows) : ScaledTensor.GroupedTileRows(x.Rows, (int)rowOffsets.Elements - 1);
        var quantized = new ScaledTensor(
            device.Allocate(new Shape(x.Columns, tiles * ScaledTensor.TileSize), format, MemoryKind.Workspace),
            device.Allocate(new Shape(tiles, x.Columns), DType.F32, MemoryKind.Workspace), ScaleLayout.TransposedColumnTile);
        device.Quantization.QuantizeTransposed(x, quantized, rowOffsets: rowOffsets);
        return quantized;
    }

    private static Operand Fault() => new("fault", new Shape(1), Fill.Custom, DType.I64, Compare: true, Initialize: static (tensor, _) => tensor.AsSpan<long>()[0] = -1);
}

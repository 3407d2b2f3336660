// Rows of forward products with weights as an FP8 or HiF8 checkpoint stores them: codes with a scale a 128x128 block, F32 or UE8M0
// (DeepSeek-V3 and V3.1). Few rows read them as they lie, many write out slabs; shapes end within blocks, vectors and slabs. Codes are
// uniform over all finite patterns, so that the smallest and largest values of a format meet, and scales differ by block.
using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private static readonly DType[] StoredFormats = [DType.F8E4M3, DType.HiF8];

    /// <summary>Rows of <see cref="Operators.ILinearOperators"/> over stored weights.</summary>
    public static IEnumerable<OperatorCase> StoredLinears()
    {
        (int M, int N, int K, int Pad)[] shapes =
        [
            (1, 1, 1, 0), (1, 3, 64, 0), (1, 130, 257, 3), (2, 64, 63, 0), (3, 260, 128, 5), (4, 128, 384, 0), (5, 7, 79, 1), (9, 129, 1030, 0),
            (16, 500, 96, 64), (63, 70, 200, 0), (64, 144, 130, 2), (65, 144, 130, 2), (130, 33, 515, 0),
        ];
        foreach (DType format in StoredFormats)
        {
            foreach (DType scales in (DType[])[DType.F32, DType.F8E8M0])
            {
                foreach ((int m, int n, int k, int pad) in shapes) yield return StoredForward(m, n, k, pad, format, scales, accumulate: pad % 2 > 0, Codes(format));
            }

            yield return StoredForward(3, 40, 200, 0, format, DType.F32, false, CodesWithNaN(format));
            yield return StoredForward(70, 40, 200, 0, format, DType.F32, false, CodesWithNaN(format));
        }

        // More than one slab, and empty dimensions.
        yield return StoredForward(65, 130, 16400, 0, DType.F8E4M3, DType.F32, true, Codes(DType.F8E4M3));
        foreach ((int m, int n, int k) in ((int, int, int)[])[(0, 5, 7), (4, 0, 7), (4, 5, 0), (70, 50, 0)])
            yield return StoredForward(m, n, k, 0, DType.F8E4M3, DType.F32, false, Codes(DType.F8E4M3));

        foreach (DType format in StoredFormats)
        {
            yield return StoredForward(1, 18432, 7168, 0, format, DType.F32, false, Codes(format), small: false);
            yield return StoredForward(4, 18432, 7168, 0, format, DType.F32, false, Codes(format), small: false);
        }

        foreach ((int m, int n, int k) in ((int, int, int)[])[(1, 7168, 18432), (1, 576, 7168), (2, 7168, 2048), (16, 7168, 2048), (64, 7168, 2048), (128, 7168, 2048)])
            yield return StoredForward(m, n, k, 0, DType.F8E4M3, DType.F32, false, Codes(DType.F8E4M3), small: false);
    }

    /// <summary>Rows of the grouped products of <see cref="Operators.ILinearOperators"/> over stored weights.</summary>
    public static IEnumerable<OperatorCase> GroupedStoredLinears()
    {
        (int[] Counts, int Left, int N, int K, int Pad)[] groups =
        [
            ([3], 0, 5, 4, 0), ([0, 0], 2, 8, 8, 0), ([1, 0, 17, 66, 64], 3, 130, 129, 0), ([5, 0, 1], 0, 70, 64, 3), ([0, 0, 70, 0, 65, 1, 130], 1, 40, 200, 6),
            ([.. Enumerable.Range(0, 300).Select(e => e % 5 == 0 ? e % 3 : 0)], 0, 20, 70, 0), // more experts than are listed at once
            ([66, 0, 65, 1, 65], 0, 1000, 900, 0), // experts that are written out a few at a time
            ([65, 0, 1], 0, 1030, 2050, 0), // larger than what is written out at once
        ];
        foreach ((int[] counts, int left, int n, int k, int pad) in groups)
        {
            yield return GroupedStoredForward(counts, left, n, k, pad, DType.F8E4M3, DType.F32);
            if (n > 500) continue;
            yield return GroupedStoredForward(counts, left, n, k, pad, DType.HiF8, DType.F8E8M0);
            yield return GroupedStoredInputGradient(counts, left, n, k, pad, DType.F8E4M3);
        }

        yield return GroupedStoredInputGradient([3, 0, 2, 1], 0, 1000, 900, 0, DType.F8E4M3);
        yield return GroupedStoredForward([.. Enumerable.Range(0, 24).Select(e => e % 3 == 0 ? 1 : 0)], 0, 2048, 7168, 0, DType.F8E4M3, DType.F32, small: false);
        yield return GroupedStoredForward([.. Enumerable.Range(0, 64).Select(e => e % 3 == 0 ? 2 : 0)], 0, 1408, 2048, 0, DType.F8E4M3, DType.F32, small: false);
    }

    private static OperatorCase StoredForward(
        int m, int n, int k, int pad, DType format, DType scales, bool accumulate, Action<Tensor, Random> codes, bool small = true) => new()
        {
            Name = "linear.forwardStored",
            Label = $"{LinearLabel(m, n, k, pad, DType.F32, accumulate)} {format} {scales}{(codes == CodesWithNaN(format) ? " not finite" : "")}",
            Operands =
            [
                new("x", new Shape(m, k), Fill.Normal, PadColumns: pad, Activation: true),
                new("w", new Shape(n, k), Fill.Custom, format, PadColumns: pad, Initialize: codes),
                StoredScales(new Shape(n, k), format, scales, pad),
                new("y", new Shape(m, n), accumulate ? Fill.Normal : Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
            ],
            Run = (device, t) => device.Linear.Forward(t[0], new ScaledTensor(t[1], t[2], ScaleLayout.Block), t[3], accumulate),
            Flops = 2.0 * m * n * k,
            Bytes = 4.0 * (m * k + m * n) + (double)n * k + 4.0 * n * k / ScaledTensor.TileSize / ScaledTensor.TileSize,
            Small = small,
        };

    private static OperatorCase GroupedStoredForward(int[] counts, int left, int n, int k, int pad, DType format, DType scales, bool small = true) => new()
    {
        Name = "linear.groupedForwardStored",
        Label = $"{GroupedLabel(counts, n, k, pad, DType.F32, false)} {format} {scales}",
        Operands =
        [
            new("x", new Shape(counts.Sum() + left, k), Fill.Normal, PadColumns: pad, Activation: true),
            RowOffsets(counts),
            new("w", new Shape(counts.Length, n, k), Fill.Custom, format, PadColumns: pad, Initialize: Codes(format)),
            StoredScales(new Shape(counts.Length, n, k), format, scales, pad),
            new("y", new Shape(counts.Sum() + left, n), Fill.Normal, Compare: true, PadColumns: pad, Activation: true),
        ],
        Run = static (device, t) => device.Linear.GroupedForward(t[0], t[1], StoredExperts(t[2], t[3]), t[4]),
        Flops = 2.0 * counts.Sum() * n * k,
        Bytes = 4.0 * counts.Sum() * (k + n) + (double)counts.Count(c => c > 0) * n * k,
        Small = small,
    };

    private static OperatorCase GroupedStoredInputGradient(int[] counts, int left, int n, int k, int pad, DType format) => new()
    {
        Name = "linear.groupedInputGradientStored",
        Label = $"{GroupedLabel(counts, n, k, pad, DType.F32, true)} {format}",
        Operands =
        [
            new("dy", new Shape(counts.Sum() + left, n), Fill.Normal, PadColumns: pad, Activation: true),
            RowOffsets(counts),
            new("w", new Shape(counts.Length, n, k), Fill.Custom, format, PadColumns: pad, Initialize: Codes(format)),
            StoredScales(new Shape(counts.Length, n, k), format, DType.F32, pad),
            new("dx", new Shape(counts.Sum() + left, k), Fill.Normal, Compare: true, PadColumns: pad, Activation: true),
        ],
        Run = static (device, t) => device.Linear.GroupedInputGradient(t[0], t[1], StoredExperts(t[2], t[3]), t[4], accumulate: true),
        Flops = 2.0 * counts.Sum() * n * k,
    };

    // Matrices of a mapped checkpoint are a list of views, each where its file has it.
    private static ExpertWeights StoredExperts(Tensor codes, Tensor scales) =>
        new([.. Enumerable.Range(0, (int)codes.Shape[0]).Select(e => new ScaledTensor(codes.At(e), scales.At(e), ScaleLayout.Block))]);

    // Such that the largest weight is about 0.04 in either format.
    private static Operand StoredScales(Shape weights, DType format, DType type, int pad) => new(
        "scales", ScaledTensor.ScaleShape(weights, ScaleLayout.Block), Fill.Custom, type, PadColumns: pad,
        Initialize: (tensor, random) => BlockScales(tensor, random, format == DType.F8E4M3 ? -13 : -19));

    private static void BlockScales(Tensor tensor, Random random, int exponent)
    {
        for (long r = 0; r < tensor.Rows; r++)
        {
            for (int c = 0; c < tensor.Columns; c++)
            {
                if (tensor.DType == DType.F32) tensor.Row<float>(r)[c] = MathF.ScaleB(0.5f + random.NextSingle(), exponent);
                else tensor.Row<byte>(r)[c] = (byte)(127 + exponent + random.Next(-2, 2));
            }
        }
    }

    private static Action<Tensor, Random> Codes(DType format) => format == DType.F8E4M3 ? E4M3Codes : HiF8Codes;

    private static Action<Tensor, Random> CodesWithNaN(DType format) => format == DType.F8E4M3 ? E4M3CodesWithNaN : HiF8CodesWithNaN;

    private static void E4M3Codes(Tensor tensor, Random random) => FillCodes(tensor, random, static code => (code & 0x7F) != 0x7F);

    private static void HiF8Codes(Tensor tensor, Random random) => FillCodes(tensor, random, static code => code != 0x80 && (code & 0x7F) != 0x6F);

    private static void E4M3CodesWithNaN(Tensor tensor, Random random)
    {
        E4M3Codes(tensor, random);
        tensor.Row<byte>(7)[3] = 0x7F;
        tensor.Row<byte>(20)[^1] = 0xFF;
    }

    private static void HiF8CodesWithNaN(Tensor tensor, Random random)
    {
        HiF8Codes(tensor, random);
        tensor.Row<byte>(7)[3] = 0x80;
        tensor.Row<byte>(20)[^1] = 0x80;
        tensor.Row<byte>(31)[100] = 0x6F;
        tensor.Row<byte>(32)[66] = 0xEF;
    }

    private static void FillCodes(Tensor tensor, Random random, Predicate<byte> wanted)
    {
        for (long r = 0; r < tensor.Rows; r++)
        {
            Span<byte> row = tensor.Row<byte>(r);
            random.NextBytes(row);
            foreach (ref byte code in row)
            {
                while (!wanted(code)) code = (byte)random.Next(256);
            }
        }
    }
}

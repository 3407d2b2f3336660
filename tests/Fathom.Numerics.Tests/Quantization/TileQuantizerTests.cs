// Tiles against an independent program's scales and codes, and every driver (vectors, strips, transposition, packing) against the
// plain formula code = nearest(x / scale) written with the value types alone.
using Fathom.Numerics.Quantization;
using Xunit;

namespace Fathom.Numerics.Tests.Quantization;

public sealed class TileQuantizerTests(ITestOutputHelper output)
{
    public static TheoryData<QuantizedFormat, ScaleKind> Cases => new(
        from format in Enum.GetValues<QuantizedFormat>() from kind in Enum.GetValues<ScaleKind>() select (format, kind));

    [Theory]
    [InlineData(ScaleKind.Single, "gemm.xq", "gemm.xs")]
    [InlineData(ScaleKind.PowerOfTwo, "gemm.xq_pow2", "gemm.xs_pow2")]
    public void Row_tiles_are_the_golden_ones(ScaleKind kind, string codes, string scales)
    {
        const int Rows = 37, Columns = 300, Tiles = 3;
        float[] x = Widened("gemm.x"), expectedScales = GoldenTensors.Products<float>(scales);
        byte[] expected = GoldenTensors.Products<byte>(codes);
        byte[] actual = new byte[Columns];
        float[] actualScales = new float[Tiles];
        for (int row = 0; row < Rows; row++)
        {
            Assert.Equal(-1, TileQuantizer.QuantizeRow(x.AsSpan(row * Columns, Columns), actual, actualScales, QuantizedFormat.E4M3, kind));
            Assert.Equal(expectedScales[(row * Tiles)..((row + 1) * Tiles)], actualScales);
            Assert.Equal(expected[(row * Columns)..((row + 1) * Columns)], actual);
        }

        output.WriteLine($"{codes}: {x.Length} codes and {expectedScales.Length} scales exact");
    }

    [Fact]
    public void Blocks_are_the_golden_ones()
    {
        const int Rows = 200, Columns = 300, Tiles = 3;
        float[] w = Widened("gemm.w"), scales = GoldenTensors.Products<float>("gemm.ws");
        byte[] actual = new byte[w.Length];
        for (int row = 0; row < Rows; row += 128)
        {
            for (int column = 0; column < Columns; column += 128)
            {
                int at = row * Columns + column;
                int bad = TileQuantizer.QuantizeBlock(
                    w.AsSpan(at), Columns, Math.Min(128, Rows - row), Math.Min(128, Columns - column),
                    actual.AsSpan(at), Columns, out float scale, QuantizedFormat.E4M3, ScaleKind.Single);
                Assert.Equal(-1, bad);
                Assert.Equal(scales[row / 128 * Tiles + column / 128], scale);
            }
        }

        Assert.Equal(GoldenTensors.Products<byte>("gemm.wq"), actual);
        output.WriteLine($"gemm.wq: {w.Length} codes and {scales.Length} scales exact");
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Rows_of_every_length_follow_the_formula(QuantizedFormat format, ScaleKind kind)
    {
        for (int length = 0; length < 300; length += length < 40 ? 1 : 13)
        {
            float[] x = Normal(length, length);
            byte[] codes = new byte[format.Bytes(length)];
            float[] scales = new float[TileQuantizer.TileCount(length)], back = new float[length];
            Assert.Equal(-1, TileQuantizer.QuantizeRow(x, codes, scales, format, kind));
            TileQuantizer.DequantizeRow(codes, scales, back, format);
            for (int i = 0; i < length; i++)
            {
                float scale = ReferenceTiles.Scale(x.AsSpan(i / 128 * 128, Math.Min(128, length - i / 128 * 128)), format, kind);
                Assert.Equal(scale, scales[i / 128]);
                AssertBits(ReferenceTiles.Round(x[i] / scale, format) * scale, back[i], $"{format} {kind} {i} of {length}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Blocks_of_every_shape_follow_the_formula(QuantizedFormat format, ScaleKind kind)
    {
        foreach (var (rows, columns) in new[] { (1, 1), (3, 17), (128, 128), (5, 127), (100, 33) })
        {
            int stride = columns + 3, codeStride = format.Bytes(columns) + 1;
            float[] x = Normal(rows * stride, rows), back = new float[x.Length];
            byte[] codes = new byte[rows * codeStride];
            Assert.Equal(-1, TileQuantizer.QuantizeBlock(x, stride, rows, columns, codes, codeStride, out float scale, format, kind));
            float[] inside = [.. Enumerable.Range(0, rows * columns).Select(i => x[i / columns * stride + i % columns])];
            Assert.Equal(ReferenceTiles.Scale(inside, format, kind), scale);
            TileQuantizer.DequantizeBlock(codes, codeStride, scale, rows, columns, back, stride, format);
            for (int i = 0; i < inside.Length; i++)
                AssertBits(ReferenceTiles.Round(inside[i] / scale, format) * scale, back[i / columns * stride + i % columns], $"{format} {kind} {rows}x{columns} {i}");
            for (int row = 0; row + 1 < rows; row++) Assert.Equal(0, codes[row * codeStride + codeStride - 1]);
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Column_tiles_follow_the_formula_in_both_orders(QuantizedFormat format, ScaleKind kind)
    {
        foreach (var (rows, columns) in new[] { (1, 1), (128, 128), (77, 37), (16, 16), (17, 301), (128, 15) })
        {
            float[] x = Normal(rows * columns, rows + columns);
            byte[] codes = new byte[rows * format.Bytes(columns)], transposed = new byte[columns * format.Bytes(rows)];
            float[] scales = new float[columns], transposedScales = new float[columns], back = new float[x.Length], line = new float[rows];
            Assert.Equal(-1, TileQuantizer.QuantizeColumns(x, columns, rows, columns, codes, format.Bytes(columns), scales, CodeOrder.RowMajor, format, kind));
            Assert.Equal(-1, TileQuantizer.QuantizeColumns(x, columns, rows, columns, transposed, format.Bytes(rows), transposedScales, CodeOrder.Transposed, format, kind));
            TileQuantizer.DequantizeColumns(codes, format.Bytes(columns), scales, rows, columns, back, columns, format);
            Assert.Equal(scales, transposedScales);
            for (int column = 0; column < columns; column++)
            {
                float[] values = [.. Enumerable.Range(0, rows).Select(row => x[row * columns + column])];
                float scale = ReferenceTiles.Scale(values, format, kind);
                Assert.Equal(scale, scales[column]);
                TileQuantizer.Dequantize(transposed.AsSpan(column * format.Bytes(rows)), scale, line, format);
                for (int row = 0; row < rows; row++)
                {
                    float expected = ReferenceTiles.Round(values[row] / scale, format) * scale;
                    AssertBits(expected, back[row * columns + column], $"{format} {kind} [{row}, {column}] of {rows}x{columns}");
                    AssertBits(expected, line[row], $"{format} {kind} [{row}, {column}] of {rows}x{columns} transposed");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Requantising_is_restoring_and_quantising(QuantizedFormat format, ScaleKind kind)
    {
        foreach (var (rows, columns) in new[] { (1, 1), (128, 128), (77, 301), (17, 130) })
        {
            var (codes, scales) = QuantizeRows(Normal(rows * columns, 5), rows, columns, format, kind);
            int stride = format.Bytes(columns), tiles = TileQuantizer.TileCount(columns);
            float[] restored = new float[rows * columns];
            for (int row = 0; row < rows; row++)
                TileQuantizer.DequantizeRow(codes.AsSpan(row * stride), scales.AsSpan(row * tiles), restored.AsSpan(row * columns, columns), format);
            foreach (QuantizedFormat to in Enum.GetValues<QuantizedFormat>())
            {
                foreach (CodeOrder order in Enum.GetValues<CodeOrder>())
                {
                    int codeStride = to.Bytes(order == CodeOrder.RowMajor ? columns : rows), lines = order == CodeOrder.RowMajor ? rows : columns;
                    byte[] expected = new byte[lines * codeStride], actual = new byte[expected.Length];
                    float[] expectedScales = new float[columns], actualScales = new float[columns];
                    TileQuantizer.QuantizeColumns(restored, columns, rows, columns, expected, codeStride, expectedScales, order, to, kind);
                    int bad = TileQuantizer.Requantize(codes, stride, scales, tiles, rows, columns, format, actual, codeStride, actualScales, order, to, kind);
                    Assert.Equal(-1, bad);
                    Assert.Equal(expectedScales, actualScales);
                    Assert.Equal(expected, actual);
                }
            }
        }
    }

    [Fact]
    public void E5M6_with_power_of_two_scales_changes_tiles_without_error()
    {
        const int Rows = 128, Columns = 384;
        const QuantizedFormat Format = QuantizedFormat.E5M6;
        float[] x = Normal(Rows * Columns, 11);
        for (int i = 0; i < x.Length; i++) x[i] *= MathF.Exp(2 * MathF.Sin(i / Columns) + 2 * MathF.Cos(i % Columns)); // rows and columns of unlike size
        var (codes, scales) = QuantizeRows(x, Rows, Columns, Format, ScaleKind.PowerOfTwo);
        float[] first = new float[x.Length], second = new float[x.Length], columnScales = new float[Columns];
        byte[] columnCodes = new byte[codes.Length];
        int stride = Format.Bytes(Columns), changed = 0, moved = 0;
        for (int row = 0; row < Rows; row++)
            TileQuantizer.DequantizeRow(codes.AsSpan(row * stride), scales.AsSpan(row * 3, 3), first.AsSpan(row * Columns, Columns), Format);
        TileQuantizer.Requantize(codes, stride, scales, 3, Rows, Columns, Format, columnCodes, stride, columnScales, CodeOrder.RowMajor, Format, ScaleKind.PowerOfTwo);
        TileQuantizer.DequantizeColumns(columnCodes, stride, columnScales, Rows, Columns, second, Columns, Format);
        for (int i = 0; i < x.Length; i++)
        {
            if (scales[i / Columns * 3 + i % Columns / 128] != columnScales[i % Columns]) moved++;
            if (first[i] == second[i]) continue;
            changed++;
            Assert.True(MathF.Abs(first[i]) < columnScales[i % Columns] * MathF.ScaleB(1, -14), $"{i}: {first[i]:R} became {second[i]:R} above the subnormals");
        }

        output.WriteLine($"{x.Length} values, {moved} with another scale, {changed} changed (all of them subnormal under their column's scale)");
        Assert.True(moved > x.Length / 2 && changed < x.Length / 1000);
    }

    [Fact]
    public void Tiles_with_a_value_that_is_not_finite_are_named()
    {
        foreach (float bad in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
        {
            for (int at = 0; at < 300; at += 7)
            {
                float[] x = Normal(300, 1);
                x[at] = x[299] = bad;
                byte[] codes = new byte[300], wholeCodes = new byte[300];
                float[] scales = new float[3], wholeScales = new float[3];
                TileQuantizer.QuantizeRow(Normal(300, 1), wholeCodes, wholeScales, QuantizedFormat.E4M3, ScaleKind.Single);
                Assert.Equal(at / 128, TileQuantizer.QuantizeRow(x, codes, scales, QuantizedFormat.E4M3, ScaleKind.Single));
                Assert.Equal(wholeCodes[..(at / 128 * 128)], codes[..(at / 128 * 128)]); // those before it are written
                Assert.Equal(wholeScales[..(at / 128)], scales[..(at / 128)]);
                Assert.Equal(at / 30, TileQuantizer.QuantizeBlock(x, 30, 10, 30, new byte[300], 30, out _, QuantizedFormat.E4M3, ScaleKind.Single));
                foreach (CodeOrder order in Enum.GetValues<CodeOrder>())
                {
                    int column = TileQuantizer.QuantizeColumns(
                        x, 30, 10, 30, new byte[300], order == CodeOrder.RowMajor ? 30 : 10, new float[30], order, QuantizedFormat.HiF8, ScaleKind.Single);
                    Assert.Equal(at % 30, column);
                }

                Assert.False(float.IsFinite(TileQuantizer.MaxMagnitude(x)));
            }
        }

        Assert.Equal(3f, TileQuantizer.MaxMagnitude([1, -3, 2]));
        Assert.Equal(0f, TileQuantizer.MaxMagnitude([]));
    }

    [Fact]
    public void Fifteen_is_the_better_target_for_HiF8()
    {
        float[] x = Normal(128 * 1000, 2);
        double chosen = Error(x, 15), largest = Error(x, 32768);
        output.WriteLine($"relative error of HiF8 tiles of normal numbers: {chosen:P2} with the largest value at 15, {largest:P2} at 32768");
        Assert.True(chosen < largest / 2);
        Assert.Equal(15f, QuantizedFormat.HiF8.ScaleTarget());

        static double Error(float[] x, float target)
        {
            double error = 0, norm = 0;
            for (int tile = 0; tile < x.Length; tile += 128)
            {
                ReadOnlySpan<float> values = x.AsSpan(tile, 128);
                float scale = TileQuantizer.MaxMagnitude(values) / target;
                foreach (float v in values)
                {
                    error += Math.Pow(ReferenceTiles.Round(v / scale, QuantizedFormat.HiF8) * scale - v, 2);
                    norm += v * (double)v;
                }
            }

            return Math.Sqrt(error / norm);
        }
    }

    [Fact]
    public void Views_that_do_not_fit_are_refused()
    {
        byte[] codes = new byte[100];
        float[] x = new float[100], scales = new float[1];
        Assert.Throws<ArgumentException>(() => TileQuantizer.QuantizeRow(x, codes.AsSpan(1), scales, QuantizedFormat.E4M3, ScaleKind.Single));
        Assert.Throws<ArgumentException>(() => TileQuantizer.QuantizeRow(x, codes, scales, QuantizedFormat.E5M6, ScaleKind.Single));
        Assert.Throws<ArgumentException>(() => TileQuantizer.QuantizeRow(x, codes, [], QuantizedFormat.E4M3, ScaleKind.Single));
        Assert.Throws<ArgumentException>(() => TileQuantizer.QuantizeBlock(x, 10, 11, 10, codes, 10, out _, QuantizedFormat.E4M3, ScaleKind.Single));
        Assert.Throws<ArgumentException>(() => TileQuantizer.QuantizeBlock(x, 9, 10, 10, codes, 10, out _, QuantizedFormat.E4M3, ScaleKind.Single));
        Assert.Throws<ArgumentException>(() => TileQuantizer.QuantizeColumns(
            new float[129], 1, 129, 1, new byte[129], 1, scales, CodeOrder.RowMajor, QuantizedFormat.E4M3, ScaleKind.Single));
    }

    private static (byte[] Codes, float[] Scales) QuantizeRows(float[] x, int rows, int columns, QuantizedFormat format, ScaleKind kind)
    {
        int stride = format.Bytes(columns), tiles = TileQuantizer.TileCount(columns);
        var (codes, scales) = (new byte[rows * stride], new float[rows * tiles]);
        for (int row = 0; row < rows; row++)
            Assert.Equal(-1, TileQuantizer.QuantizeRow(x.AsSpan(row * columns, columns), codes.AsSpan(row * stride), scales.AsSpan(row * tiles), format, kind));
        return (codes, scales);
    }

    private static float[] Normal(int count, int seed)
    {
        float[] x = new float[count];
        new Philox((ulong)seed, "tiles").FillNormal(x, 0, 3);
        return x;
    }

    private static float[] Widened(string name)
    {
        ushort[] bits = GoldenTensors.Products<ushort>(name);
        float[] x = new float[bits.Length];
        NumberFormats.ConvertBFloat16ToSingle(bits, x);
        return x;
    }

    private static void AssertBits(float expected, float actual, string what) => Assert.True(
        BitConverter.SingleToUInt32Bits(expected) == BitConverter.SingleToUInt32Bits(actual), $"{what}: {actual:R}, expected {expected:R}");
}

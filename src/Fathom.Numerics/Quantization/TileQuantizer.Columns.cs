// 128x1 tiles: one scale for each column of up to 128 rows, which the weight gradient's operands have, whose products are summed over
// tokens. The source is singles or 1x128 tiles; the latter is the transposing requantisation of the backward pass, which restores
// the values and quantises them anew. Work goes by strips of 16 columns, so that a strip's values stay in the first-level
// cache and the column's maxima in one vector. For a transposed result the strip is transposed as singles: then each column is
// a row, and quantised like one.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Fathom.Numerics.Quantization;

/// <summary>How the codes of column tiles are written.</summary>
public enum CodeOrder
{
    /// <summary>As the source: [rows, columns].</summary>
    RowMajor,

    /// <summary>Transposed: [columns, rows], each column's codes contiguous.</summary>
    Transposed,
}

public static partial class TileQuantizer
{
    private const int StripWidth = 16;

    /// <summary>Quantises up to 128 rows in 128x1 tiles: one scale a column.</summary>
    /// <param name="x">The values; [rows, columns] at a stride.</param>
    /// <param name="rowStride">Elements from row to row of <paramref name="x"/>.</param>
    /// <param name="rows">Rows, at most <see cref="TileLength"/>.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="codes">Receives the codes; [rows, columns] or [columns, rows] at a stride.</param>
    /// <param name="codeStride">Bytes from row to row of <paramref name="codes"/>, in its own order.</param>
    /// <param name="scales">Receives the scales; [columns].</param>
    /// <param name="order">The order of the codes.</param>
    /// <param name="format">The codes' format.</param>
    /// <param name="kind">The scales' kind.</param>
    /// <param name="smallestAmax">What a tile's largest magnitude is taken for at least; not below 1e-30, so that no scale is subnormal.</param>
    /// <returns><see cref="AllFinite"/>, or the first column with a value that is not finite; what is written then is meaningless.</returns>
    /// <exception cref="ArgumentException">The spans do not hold such a matrix, or it has more than 128 rows.</exception>
    public static int QuantizeColumns(
        ReadOnlySpan<float> x, int rowStride, int rows, int columns,
        Span<byte> codes, int codeStride, Span<float> scales, CodeOrder order, QuantizedFormat format, ScaleKind kind, float smallestAmax = SmallestAmax)
    {
        RequireMatrix(x.Length, rowStride, rows, columns);
        RequireColumnTiles(rows, columns, codes.Length, codeStride, scales.Length, order, format);
        var source = new SingleSource(x, rowStride);
        ref byte to = ref MemoryMarshal.GetReference(codes);
        ref float scaleTo = ref MemoryMarshal.GetReference(scales);
        return Columns(source, rows, columns, ref to, codeStride, ref scaleTo, order, format, kind, smallestAmax);
    }

    /// <summary>
    /// Quantises up to 128 rows of 1x128 tiles anew in 128x1 tiles. Where both scales are powers of two this adds no error but to
    /// values so far below their column's largest that they become subnormal or zero in the format.
    /// </summary>
    /// <param name="codes">The codes of the row tiles; [rows, columns] at a stride.</param>
    /// <param name="codeStride">Bytes from row to row of <paramref name="codes"/>.</param>
    /// <param name="scales">The scales of the row tiles; [rows, <see cref="TileCount"/>(columns)] at a stride.</param>
    /// <param name="scaleStride">Elements from row to row of <paramref name="scales"/>.</param>
    /// <param name="rows">Rows, at most <see cref="TileLength"/>.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="format">The format of the row tiles.</param>
    /// <param name="columnCodes">Receives the codes; [rows, columns] or [columns, rows] at a stride. It may not overlap <paramref name="codes"/>.</param>
    /// <param name="columnCodeStride">Bytes from row to row of <paramref name="columnCodes"/>, in its own order.</param>
    /// <param name="columnScales">Receives the scales; [columns].</param>
    /// <param name="order">The order of the codes.</param>
    /// <param name="columnFormat">The format of the column tiles.</param>
    /// <param name="kind">The kind of the column tiles' scales.</param>
    /// <param name="smallestAmax">What a tile's largest magnitude is taken for at least; not below 1e-30, so that no scale is subnormal.</param>
    /// <returns><see cref="AllFinite"/>, or the first column with a value that is not finite; what is written then is meaningless.</returns>
    /// <exception cref="ArgumentException">The spans do not hold such a matrix, or it has more than 128 rows.</exception>
    public static int Requantize(
        ReadOnlySpan<byte> codes, int codeStride, ReadOnlySpan<float> scales, int scaleStride, int rows, int columns, QuantizedFormat format,
        Span<byte> columnCodes, int columnCodeStride, Span<float> columnScales, CodeOrder order, QuantizedFormat columnFormat, ScaleKind kind, float smallestAmax = SmallestAmax)
    {
        RequireCodes(codes.Length, codeStride, rows, columns, format);
        RequireMatrix(scales.Length, scaleStride, rows, TileCount(columns));
        RequireColumnTiles(rows, columns, columnCodes.Length, columnCodeStride, columnScales.Length, order, columnFormat);
        ref byte to = ref MemoryMarshal.GetReference(columnCodes);
        ref float scaleTo = ref MemoryMarshal.GetReference(columnScales);
        return format switch
        {
            QuantizedFormat.E4M3 => Columns(
                new RowTileSource<SmallFloatCodec<E4M3Layout>, ByteCodes>(codes, codeStride, scales, scaleStride), rows, columns, ref to, columnCodeStride, ref scaleTo, order, columnFormat, kind, smallestAmax),
            QuantizedFormat.E5M2 => Columns(
                new RowTileSource<SmallFloatCodec<E5M2Layout>, ByteCodes>(codes, codeStride, scales, scaleStride), rows, columns, ref to, columnCodeStride, ref scaleTo, order, columnFormat, kind, smallestAmax),
            QuantizedFormat.HiF8 => Columns(
                new RowTileSource<HiFloat8Codec, ByteCodes>(codes, codeStride, scales, scaleStride), rows, columns, ref to, columnCodeStride, ref scaleTo, order, columnFormat, kind, smallestAmax),
            _ => Columns(
                new RowTileSource<SmallFloatCodec<E5M6Layout>, PackedCodes>(codes, codeStride, scales, scaleStride), rows, columns, ref to, columnCodeStride, ref scaleTo, order, columnFormat, kind, smallestAmax),
        };
    }

    /// <summary>Restores up to 128 rows of 128x1 tiles.</summary>
    /// <param name="codes">The codes; [rows, columns] at a stride.</param>
    /// <param name="codeStride">Bytes from row to row of <paramref name="codes"/>.</param>
    /// <param name="scales">The scales; [columns].</param>
    /// <param name="rows">Rows, at most <see cref="TileLength"/>.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="x">Receives the values; [rows, columns] at a stride.</param>
    /// <param name="rowStride">Elements from row to row of <paramref name="x"/>.</param>
    /// <param name="format">The codes' format.</param>
    /// <exception cref="ArgumentException">The spans do not hold such a matrix, or it has more than 128 rows.</exception>
    public static void DequantizeColumns(
        ReadOnlySpan<byte> codes, int codeStride, ReadOnlySpan<float> scales, int rows, int columns, Span<float> x, int rowStride, QuantizedFormat format)
    {
        RequireMatrix(x.Length, rowStride, rows, columns);
        RequireColumnTiles(rows, columns, codes.Length, codeStride, scales.Length, CodeOrder.RowMajor, format);
        ref byte from = ref MemoryMarshal.GetReference(codes);
        ref float values = ref MemoryMarshal.GetReference(x);
        var products = new ElementProducts(ref MemoryMarshal.GetReference(scales));
        for (int row = 0; row < rows; row++)
            Decode(ref Unsafe.Add(ref from, (nint)row * codeStride), ref Unsafe.Add(ref values, (nint)row * rowStride), (nuint)columns, products, format);
    }

    private static int Columns<TSource>(
        TSource source, int rows, int columns, ref byte codes, int codeStride, ref float scales, CodeOrder order, QuantizedFormat format, ScaleKind kind, float smallestAmax)
        where TSource : struct, IStripSource, allows ref struct
        => format switch
        {
            QuantizedFormat.E4M3 => Strips<TSource, SmallFloatCodec<E4M3Layout>, ByteCodes>(source, rows, columns, ref codes, codeStride, ref scales, order, format, kind, smallestAmax),
            QuantizedFormat.E5M2 => Strips<TSource, SmallFloatCodec<E5M2Layout>, ByteCodes>(source, rows, columns, ref codes, codeStride, ref scales, order, format, kind, smallestAmax),
            QuantizedFormat.HiF8 => Strips<TSource, HiFloat8Codec, ByteCodes>(source, rows, columns, ref codes, codeStride, ref scales, order, format, kind, smallestAmax),
            _ => Strips<TSource, SmallFloatCodec<E5M6Layout>, PackedCodes>(source, rows, columns, ref codes, codeStride, ref scales, order, format, kind, smallestAmax),
        };

    [SkipLocalsInit]
    private static int Strips<TSource, TCodec, TStorage>(
        TSource source, int rows, int columns, ref byte codes, int codeStride, ref float scales, CodeOrder order, QuantizedFormat format, ScaleKind kind, float smallestAmax)
        where TSource : struct, IStripSource, allows ref struct
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
    {
        Span<float> strip = stackalloc float[TileLength * StripWidth]; // [row, column]
        Span<float> transposed = stackalloc float[StripWidth * TileLength]; // [column, row]
        Span<uint> maxima = stackalloc uint[StripWidth];
        Span<float> divisors = stackalloc float[StripWidth];
        ref float values = ref MemoryMarshal.GetReference(strip);
        float target = format.ScaleTarget();
        for (int column = 0; column < columns; column += StripWidth)
        {
            int width = Math.Min(StripWidth, columns - column);
            source.Load(rows, column, width, ref values);
            ColumnMaxima(ref values, rows, maxima);
            for (int j = 0; j < width; j++)
            {
                if (maxima[j] >= Infinity) return column + j;
                divisors[j] = Unsafe.Add(ref scales, column + j) = Scale(BitConverter.UInt32BitsToSingle(maxima[j]), target, kind, smallestAmax);
            }

            ref float divisor = ref MemoryMarshal.GetReference(divisors);
            if (order == CodeOrder.RowMajor)
            {
                EncodeRows<TCodec, TStorage>(ref values, rows, column, width, ref divisor, ref codes, codeStride);
                continue;
            }

            ref float line = ref MemoryMarshal.GetReference(transposed);
            StripTranspose.Run(ref values, rows, ref line, TileLength);
            for (int j = 0; j < width; j++)
            {
                Lanes.Encode<TCodec, TStorage, Quotient>(
                    ref Unsafe.Add(ref line, j * TileLength), ref Unsafe.Add(ref codes, (nint)(column + j) * codeStride), 0, (nuint)rows,
                    new Quotient(divisors[j]), saturate: true);
            }
        }

        return AllFinite;
    }

    private static void EncodeRows<TCodec, TStorage>(ref float strip, int rows, int column, int width, ref float divisors, ref byte codes, int codeStride)
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
    {
        ref byte to = ref Unsafe.Add(ref codes, TStorage.Bytes((nuint)column)); // strips start at even columns
        if (width == StripWidth && Vector512.IsHardwareAccelerated)
        {
            Vector512<float> divisor = Vector512.LoadUnsafe(ref divisors);
            for (int row = 0; row < rows; row++)
            {
                Vector512<float> quotient = Vector512.LoadUnsafe(ref strip, (nuint)(row * StripWidth)) / divisor;
                TStorage.Store(TCodec.Encode(quotient, true), ref Unsafe.Add(ref to, (nint)row * codeStride), 0);
            }

            return;
        }

        var quotients = new ElementQuotients(ref divisors);
        for (int row = 0; row < rows; row++)
        {
            Lanes.Encode<TCodec, TStorage, ElementQuotients>(
                ref Unsafe.Add(ref strip, row * StripWidth), ref Unsafe.Add(ref to, (nint)row * codeStride), 0, (nuint)width, quotients, saturate: true);
        }
    }

    private static void ColumnMaxima(ref float strip, int rows, Span<uint> maxima)
    {
        ref uint bits = ref Unsafe.As<float, uint>(ref strip);
        if (Vector512.IsHardwareAccelerated)
        {
            Vector512<uint> max = Vector512<uint>.Zero, mask = Vector512.Create(0x7FFFFFFFu);
            for (int row = 0; row < rows; row++) max = Vector512.Max(max, Vector512.LoadUnsafe(ref bits, (nuint)(row * StripWidth)) & mask);
            max.CopyTo(maxima);
            return;
        }

        Vector256<uint> low = Vector256<uint>.Zero, high = low, magnitude = Vector256.Create(0x7FFFFFFFu);
        for (int row = 0; row < rows; row++)
        {
            low = Vector256.Max(low, Vector256.LoadUnsafe(ref bits, (nuint)(row * StripWidth)) & magnitude);
            high = Vector256.Max(high, Vector256.LoadUnsafe(ref bits, (nuint)(row * StripWidth + 8)) & magnitude);
        }

        low.CopyTo(maxima);
        high.CopyTo(maxima[8..]);
    }

    private static void RequireColumnTiles(int rows, int columns, int codes, int codeStride, int scales, CodeOrder order, QuantizedFormat format)
    {
        if (rows > TileLength) throw new ArgumentException($"{rows} rows; a column tile has at most {TileLength}");
        if (order == CodeOrder.RowMajor) RequireCodes(codes, codeStride, rows, columns, format);
        else RequireCodes(codes, codeStride, columns, rows, format);
        RequireScales(scales, columns);
    }

    // Where a strip's values come from: 16 in each row, or fewer followed by zeros.
    private interface IStripSource
    {
        void Load(int rows, int column, int width, ref float strip);
    }

    private readonly ref struct SingleSource(ReadOnlySpan<float> x, int rowStride) : IStripSource
    {
        private readonly ref float x = ref MemoryMarshal.GetReference(x);

        public void Load(int rows, int column, int width, ref float strip)
        {
            for (int row = 0; row < rows; row++)
            {
                ref float from = ref Unsafe.Add(ref x, (nint)row * rowStride + column);
                Span<float> to = MemoryMarshal.CreateSpan(ref Unsafe.Add(ref strip, row * StripWidth), StripWidth);
                if (width == StripWidth)
                {
                    MemoryMarshal.CreateReadOnlySpan(ref from, StripWidth).CopyTo(to);
                    continue;
                }

                MemoryMarshal.CreateReadOnlySpan(ref from, width).CopyTo(to);
                to[width..].Clear();
            }
        }
    }

    private readonly ref struct RowTileSource<TCodec, TStorage>(ReadOnlySpan<byte> codes, int codeStride, ReadOnlySpan<float> scales, int scaleStride) : IStripSource
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
    {
        private readonly ref byte codes = ref MemoryMarshal.GetReference(codes);
        private readonly ref float scales = ref MemoryMarshal.GetReference(scales);

        public void Load(int rows, int column, int width, ref float strip)
        {
            ref float scale = ref Unsafe.Add(ref scales, column / TileLength); // a strip lies in one tile
            ref byte from = ref Unsafe.Add(ref codes, TStorage.Bytes((nuint)column));
            for (int row = 0; row < rows; row++)
            {
                ref float to = ref Unsafe.Add(ref strip, row * StripWidth);
                if (width == StripWidth && Vector512.IsHardwareAccelerated)
                {
                    (TCodec.Decode(TStorage.Load512(ref from, 0)) * scale).StoreUnsafe(ref to);
                }
                else
                {
                    Lanes.Decode<TCodec, TStorage, Product>(ref from, 0, ref to, (nuint)width, new Product(scale));
                    MemoryMarshal.CreateSpan(ref to, StripWidth)[width..].Clear();
                }

                from = ref Unsafe.Add(ref from, codeStride);
                scale = ref Unsafe.Add(ref scale, scaleStride);
            }
        }
    }
}

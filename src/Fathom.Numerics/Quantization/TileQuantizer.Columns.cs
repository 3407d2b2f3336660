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
    /// <param name="smallestAmax">What a tile's largest magnitude is taken for at least.</param>
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
    /// <param name="smallestAmax">What a tile's largest magnitude is taken for at least.</param>
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
        for (int row = 0; row < rows; row++)
        {
            Span<float> values = x.Slice(row * rowStride, columns);
            DecodeTile(ref Unsafe.Add(ref from, (nint)row * codeStride), 0, ref MemoryMarshal.GetReference(values), (nuint)columns, 1, format);
            Multiply(values, scales);
        }
    }

    private static void Multiply(Span<float> values, ReadOnlySpan<float> factors)
    {
        ref float value = ref MemoryMarshal.GetReference(values);
        ref float factor = ref MemoryMarshal.GetReference(factors);
        nuint i = 0, count = (nuint)values.Length, width = (nuint)System.Numerics.Vector<float>.Count;
        for (; i + width <= count; i += width)
        {
            System.Numerics.Vector<float> product = System.Numerics.Vector.LoadUnsafe(ref value, i) * System.Numerics.Vector.LoadUnsafe(ref factor, i);
            System.Numerics.Vector.StoreUnsafe(product, ref value, i);
        }

        for (; i < count; i++) Unsafe.Add(ref value, i) *= Unsafe.Add(ref factor, i);
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
        ref float values = ref MemoryMarshal.GetReference(strip);
        for (int column = 0; column < columns; column += StripWidth)
        {
            int width = Math.Min(StripWidth, columns - column);
            for (int row = 0; row < rows; row++) source.Load(row, column, width, ref Unsafe.Add(ref values, row * StripWidth));
            int bad;
            if (order == CodeOrder.Transposed)
            {
                StripTranspose.Run(ref values, rows, ref MemoryMarshal.GetReference(transposed), TileLength);
                bad = AllFinite;
                for (int j = 0; j < width && bad == AllFinite; j++)
                {
                    ref float line = ref Unsafe.Add(ref MemoryMarshal.GetReference(transposed), j * TileLength);
                    ref byte to = ref Unsafe.Add(ref codes, (nint)(column + j) * codeStride);
                    if (Row<TCodec, TStorage>(ref line, rows, ref to, ref Unsafe.Add(ref scales, column + j), format, kind, smallestAmax) != AllFinite) bad = j;
                }
            }
            else
            {
                bad = Strip<TCodec, TStorage>(ref values, rows, column, width, ref codes, codeStride, ref Unsafe.Add(ref scales, column), format, kind, smallestAmax);
            }

            if (bad != AllFinite) return column + bad;
        }

        return AllFinite;
    }

    // Quantises a strip in the source's order. Lanes past the width hold zeros.
    [SkipLocalsInit]
    private static int Strip<TCodec, TStorage>(
        ref float strip, int rows, int column, int width, ref byte codes, int codeStride, ref float scales, QuantizedFormat format, ScaleKind kind, float smallestAmax)
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
    {
        Span<uint> maxima = stackalloc uint[StripWidth];
        Span<float> divisors = stackalloc float[StripWidth];
        Span<byte> line = stackalloc byte[2 * StripWidth];
        ColumnMaxima(ref strip, rows, maxima);
        float target = format.ScaleTarget();
        for (int j = 0; j < StripWidth; j++)
        {
            if (maxima[j] >= Infinity) return j;
            divisors[j] = Scale(BitConverter.UInt32BitsToSingle(maxima[j]), target, kind, smallestAmax);
            if (j < width) Unsafe.Add(ref scales, j) = divisors[j];
        }

        for (int row = 0; row < rows; row++)
        {
            ref float values = ref Unsafe.Add(ref strip, row * StripWidth);
            ref byte to = ref Unsafe.Add(ref codes, (nint)row * codeStride);
            if (width == StripWidth)
            {
                EncodeLine<TCodec, TStorage>(ref values, divisors, ref to, (nuint)column);
            }
            else
            {
                EncodeLine<TCodec, TStorage>(ref values, divisors, ref MemoryMarshal.GetReference(line), 0);
                int bytes = (int)TStorage.Bytes((nuint)width);
                line[..bytes].CopyTo(MemoryMarshal.CreateSpan(ref Unsafe.Add(ref to, TStorage.Bytes((nuint)column)), bytes));
            }
        }

        return AllFinite;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void EncodeLine<TCodec, TStorage>(ref float values, ReadOnlySpan<float> divisors, ref byte codes, nuint first)
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
    {
        ref float divisor = ref MemoryMarshal.GetReference(divisors);
        if (Vector512.IsHardwareAccelerated)
        {
            TStorage.Store(TCodec.Encode(Vector512.LoadUnsafe(ref values) / Vector512.LoadUnsafe(ref divisor), true), ref codes, first);
        }
        else if (Vector256.IsHardwareAccelerated)
        {
            TStorage.Store(TCodec.Encode(Vector256.LoadUnsafe(ref values) / Vector256.LoadUnsafe(ref divisor), true), ref codes, first);
            TStorage.Store(TCodec.Encode(Vector256.LoadUnsafe(ref values, 8) / Vector256.LoadUnsafe(ref divisor, 8), true), ref codes, first + 8);
        }
        else
        {
            for (nuint j = 0; j < StripWidth; j++) TStorage.Store(TCodec.Encode(Unsafe.Add(ref values, j) / Unsafe.Add(ref divisor, j), true), ref codes, first + j);
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

    // Where a strip's values come from: 16 of them, or fewer followed by zeros.
    private interface IStripSource
    {
        void Load(int row, int column, int width, ref float values);
    }

    private readonly ref struct SingleSource(ReadOnlySpan<float> x, int rowStride) : IStripSource
    {
        private readonly ReadOnlySpan<float> x = x;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Load(int row, int column, int width, ref float values)
        {
            ref float from = ref Unsafe.Add(ref MemoryMarshal.GetReference(x), (nint)row * rowStride + column);
            if (width == StripWidth)
            {
                Unsafe.WriteUnaligned(ref Unsafe.As<float, byte>(ref values), Unsafe.ReadUnaligned<Vector512<float>>(ref Unsafe.As<float, byte>(ref from)));
                return;
            }

            Span<float> line = MemoryMarshal.CreateSpan(ref values, StripWidth);
            MemoryMarshal.CreateReadOnlySpan(ref from, width).CopyTo(line);
            line[width..].Clear();
        }
    }

    private readonly ref struct RowTileSource<TCodec, TStorage>(ReadOnlySpan<byte> codes, int codeStride, ReadOnlySpan<float> scales, int scaleStride) : IStripSource
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
    {
        private readonly ReadOnlySpan<byte> codes = codes;
        private readonly ReadOnlySpan<float> scales = scales;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Load(int row, int column, int width, ref float values)
        {
            float scale = scales[row * scaleStride + column / TileLength];
            ref byte from = ref Unsafe.Add(ref MemoryMarshal.GetReference(codes), (nint)row * codeStride);
            if (width == StripWidth && Vector512.IsHardwareAccelerated)
            {
                (TCodec.Decode(TStorage.Load512(ref from, (nuint)column)) * scale).StoreUnsafe(ref values);
                return;
            }

            Lanes.Decode<TCodec, TStorage, Product>(ref from, (nuint)column, ref values, (nuint)width, new Product(scale));
            MemoryMarshal.CreateSpan(ref values, StripWidth)[width..].Clear();
        }
    }
}

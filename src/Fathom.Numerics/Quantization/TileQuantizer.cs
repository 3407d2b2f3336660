// Fine-grained quantisation of DeepSeek-V3 (report §3.3.2): one scale for each 1x128 tile of activations, 128x1 tile of weight-gradient
// operands or 128x128 block of weights. value = code * scale, scale = max(amax, 1e-4) / target, code = nearest(value / scale),
// saturating. This part holds what all shapes share and the shapes whose scale does not change along a row; column tiles are in
// TileQuantizer.Columns.cs. The trap: quotients are real divisions, a product with the reciprocal differs in the last bit.
//
// A value that is not finite has no scale. Nothing throws for it here, inside worker threads: the methods say which tile it is in.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Fathom.Numerics.Quantization;

/// <summary>
/// Quantises and restores tiles. No method allocates, and all are safe on any thread. Matrices are row-major views: strides count
/// elements for singles and bytes for codes, and the last row need not be complete beyond its columns.
/// </summary>
public static partial class TileQuantizer
{
    /// <summary>Values that share a scale along a tiled dimension.</summary>
    public const int TileLength = 128;

    /// <summary>What every method that quantises returns when all values are finite.</summary>
    public const int AllFinite = -1;

    /// <summary>The least largest magnitude that a scale is computed from, so that a tile of zeros has a scale.</summary>
    public const float SmallestAmax = 1e-4f;

    /// <summary>Tiles that a length is cut into, the last one possibly short.</summary>
    public static int TileCount(int length) => (int)(((long)length + TileLength - 1) / TileLength);

    /// <summary>The largest magnitude of some values: zero for none; infinite or NaN if a value is.</summary>
    public static float MaxMagnitude(ReadOnlySpan<float> x) =>
        BitConverter.UInt32BitsToSingle(Lanes.MaxMagnitude(ref MemoryMarshal.GetReference(x), (nuint)x.Length));

    /// <summary>
    /// The scale for a finite largest magnitude: max(amax, <see cref="SmallestAmax"/>) / target, rounded up to a power of two where
    /// that is wanted. Of a tensor in pieces, take the largest of the pieces' <see cref="MaxMagnitude"/>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Scale(float amax, QuantizedFormat format, ScaleKind kind, float smallestAmax = SmallestAmax) => Scale(amax, format.ScaleTarget(), kind, smallestAmax);

    /// <summary>Quantises values by one given scale, saturating; how per-tensor scales are used.</summary>
    /// <param name="x">The values, all finite; [n].</param>
    /// <param name="scale">The scale, positive.</param>
    /// <param name="codes">Receives the codes; <see cref="QuantizedFormats.Bytes"/>(n).</param>
    /// <param name="format">The codes' format.</param>
    /// <exception cref="ArgumentException">The codes are too few.</exception>
    public static void Quantize(ReadOnlySpan<float> x, float scale, Span<byte> codes, QuantizedFormat format)
    {
        RequireCodes(codes.Length, 0, 1, x.Length, format);
        ref float values = ref MemoryMarshal.GetReference(x);
        ref byte to = ref MemoryMarshal.GetReference(codes);
        Encode(ref values, ref to, (nuint)x.Length, new Quotient(scale), format);
    }

    /// <summary>value = code · scale, for one scale.</summary>
    /// <param name="codes">The codes; <see cref="QuantizedFormats.Bytes"/>(n).</param>
    /// <param name="scale">The scale.</param>
    /// <param name="x">Receives the values; [n].</param>
    /// <param name="format">The codes' format.</param>
    /// <exception cref="ArgumentException">The codes are too few.</exception>
    public static void Dequantize(ReadOnlySpan<byte> codes, float scale, Span<float> x, QuantizedFormat format)
    {
        RequireCodes(codes.Length, 0, 1, x.Length, format);
        Decode(ref MemoryMarshal.GetReference(codes), ref MemoryMarshal.GetReference(x), (nuint)x.Length, new Product(scale), format);
    }

    /// <summary>Quantises one row in 1x128 tiles; the last tile may be short.</summary>
    /// <param name="x">The row; [n].</param>
    /// <param name="codes">Receives the codes; <see cref="QuantizedFormats.Bytes"/>(n).</param>
    /// <param name="scales">Receives the scales; [<see cref="TileCount"/>(n)].</param>
    /// <param name="format">The codes' format.</param>
    /// <param name="kind">The scales' kind.</param>
    /// <param name="smallestAmax">What a tile's largest magnitude is taken for at least; not below 1e-30, so that no scale is subnormal.</param>
    /// <returns><see cref="AllFinite"/>, or the first tile with a value that is not finite; nothing is written from there on.</returns>
    /// <exception cref="ArgumentException">Codes or scales are too few.</exception>
    public static int QuantizeRow(ReadOnlySpan<float> x, Span<byte> codes, Span<float> scales, QuantizedFormat format, ScaleKind kind, float smallestAmax = SmallestAmax)
    {
        RequireCodes(codes.Length, 0, 1, x.Length, format);
        RequireScales(scales.Length, TileCount(x.Length));
        ref float values = ref MemoryMarshal.GetReference(x);
        ref byte to = ref MemoryMarshal.GetReference(codes);
        ref float scaleTo = ref MemoryMarshal.GetReference(scales);
        return format switch
        {
            QuantizedFormat.E4M3 => Row<SmallFloatCodec<E4M3Layout>, ByteCodes>(ref values, x.Length, ref to, ref scaleTo, format, kind, smallestAmax),
            QuantizedFormat.E5M2 => Row<SmallFloatCodec<E5M2Layout>, ByteCodes>(ref values, x.Length, ref to, ref scaleTo, format, kind, smallestAmax),
            QuantizedFormat.HiF8 => Row<HiFloat8Codec, ByteCodes>(ref values, x.Length, ref to, ref scaleTo, format, kind, smallestAmax),
            _ => Row<SmallFloatCodec<E5M6Layout>, PackedCodes>(ref values, x.Length, ref to, ref scaleTo, format, kind, smallestAmax),
        };
    }

    /// <summary>Restores one row of 1x128 tiles.</summary>
    /// <param name="codes">The codes; <see cref="QuantizedFormats.Bytes"/>(n).</param>
    /// <param name="scales">The scales; [<see cref="TileCount"/>(n)].</param>
    /// <param name="x">Receives the values; [n].</param>
    /// <param name="format">The codes' format.</param>
    /// <exception cref="ArgumentException">Codes or scales are too few.</exception>
    public static void DequantizeRow(ReadOnlySpan<byte> codes, ReadOnlySpan<float> scales, Span<float> x, QuantizedFormat format)
    {
        RequireCodes(codes.Length, 0, 1, x.Length, format);
        RequireScales(scales.Length, TileCount(x.Length));
        ref byte from = ref MemoryMarshal.GetReference(codes);
        ref float values = ref MemoryMarshal.GetReference(x);
        var products = new TileProducts(ref MemoryMarshal.GetReference(scales));
        Decode(ref from, ref values, (nuint)x.Length, products, format);
    }

    /// <summary>Quantises a block of up to 128x128 values, or of any shape, by one scale.</summary>
    /// <param name="x">The block; [rows, columns] at a stride.</param>
    /// <param name="rowStride">Elements from row to row of <paramref name="x"/>.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="codes">Receives the codes; <see cref="QuantizedFormats.Bytes"/>(columns) a row, at a stride.</param>
    /// <param name="codeStride">Bytes from row to row of <paramref name="codes"/>.</param>
    /// <param name="scale">The scale; meaningless unless <see cref="AllFinite"/> is returned.</param>
    /// <param name="format">The codes' format.</param>
    /// <param name="kind">The scale's kind.</param>
    /// <param name="smallestAmax">What a tile's largest magnitude is taken for at least; not below 1e-30, so that no scale is subnormal.</param>
    /// <returns><see cref="AllFinite"/>, or the first row with a value that is not finite; nothing is written then.</returns>
    /// <exception cref="ArgumentException">The spans do not hold such a block.</exception>
    public static int QuantizeBlock(
        ReadOnlySpan<float> x, int rowStride, int rows, int columns, Span<byte> codes, int codeStride, out float scale, QuantizedFormat format, ScaleKind kind, float smallestAmax = SmallestAmax)
    {
        RequireMatrix(x.Length, rowStride, rows, columns);
        RequireCodes(codes.Length, codeStride, rows, columns, format);
        ref float values = ref MemoryMarshal.GetReference(x);
        ref byte to = ref MemoryMarshal.GetReference(codes);
        uint max = 0;
        scale = float.NaN;
        for (int row = 0; row < rows; row++)
        {
            max = Math.Max(max, Lanes.MaxMagnitude(ref Unsafe.Add(ref values, (nint)row * rowStride), (nuint)columns));
            if (max >= Infinity) return row;
        }

        scale = Scale(BitConverter.UInt32BitsToSingle(max), format, kind, smallestAmax);
        for (int row = 0; row < rows; row++)
            Encode(ref Unsafe.Add(ref values, (nint)row * rowStride), ref Unsafe.Add(ref to, (nint)row * codeStride), (nuint)columns, new Quotient(scale), format);
        return AllFinite;
    }

    /// <summary>Restores a block of one scale.</summary>
    /// <param name="codes">The codes; <see cref="QuantizedFormats.Bytes"/>(columns) a row, at a stride.</param>
    /// <param name="codeStride">Bytes from row to row of <paramref name="codes"/>.</param>
    /// <param name="scale">The scale.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="x">Receives the values; [rows, columns] at a stride.</param>
    /// <param name="rowStride">Elements from row to row of <paramref name="x"/>.</param>
    /// <param name="format">The codes' format.</param>
    /// <exception cref="ArgumentException">The spans do not hold such a block.</exception>
    public static void DequantizeBlock(
        ReadOnlySpan<byte> codes, int codeStride, float scale, int rows, int columns, Span<float> x, int rowStride, QuantizedFormat format)
    {
        RequireMatrix(x.Length, rowStride, rows, columns);
        RequireCodes(codes.Length, codeStride, rows, columns, format);
        ref byte from = ref MemoryMarshal.GetReference(codes);
        ref float values = ref MemoryMarshal.GetReference(x);
        for (int row = 0; row < rows; row++)
            Decode(ref Unsafe.Add(ref from, (nint)row * codeStride), ref Unsafe.Add(ref values, (nint)row * rowStride), (nuint)columns, new Product(scale), format);
    }

    private const uint Infinity = 0x7F800000;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Scale(float amax, float target, ScaleKind kind, float smallestAmax)
    {
        float scale = Math.Max(amax, smallestAmax) / target;
        return kind == ScaleKind.PowerOfTwo ? ScaleE8M0.RoundUp(scale) : scale;
    }

    // Scales first and codes afterwards, some tiles at a time: the scales' long chains of dependent instructions then overlap, and
    // the values are still in the first-level cache.
    private static int Row<TCodec, TStorage>(ref float x, int length, ref byte codes, ref float scales, QuantizedFormat format, ScaleKind kind, float smallestAmax)
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
    {
        const int Group = 16 * TileLength;
        float target = format.ScaleTarget();
        for (int start = 0; start < length; start += Group)
        {
            int end = Math.Min(length, start + Group), bad = AllFinite;
            ref float scale = ref Unsafe.Add(ref scales, start / TileLength);
            for (int i = start, tile = 0; i < end; i += TileLength, tile++)
            {
                uint max = Lanes.MaxMagnitude(ref Unsafe.Add(ref x, i), (nuint)Math.Min(TileLength, end - i));
                if (max >= Infinity)
                {
                    (end, bad) = (i, i / TileLength); // the tiles before it are written
                    break;
                }

                Unsafe.Add(ref scale, tile) = Scale(BitConverter.UInt32BitsToSingle(max), target, kind, smallestAmax);
            }

            Lanes.Encode<TCodec, TStorage, TileQuotients>(
                ref Unsafe.Add(ref x, start), ref codes, (nuint)start, (nuint)(end - start), new TileQuotients(ref scale), saturate: true);
            if (bad != AllFinite) return bad;
        }

        return AllFinite;
    }

    private static void Encode<TScaling>(ref float x, ref byte codes, nuint count, TScaling scaling, QuantizedFormat format)
        where TScaling : struct, IScaling, allows ref struct
    {
        switch (format)
        {
            case QuantizedFormat.E4M3: Lanes.Encode<SmallFloatCodec<E4M3Layout>, ByteCodes, TScaling>(ref x, ref codes, 0, count, scaling, saturate: true); break;
            case QuantizedFormat.E5M2: Lanes.Encode<SmallFloatCodec<E5M2Layout>, ByteCodes, TScaling>(ref x, ref codes, 0, count, scaling, saturate: true); break;
            case QuantizedFormat.HiF8: Lanes.Encode<HiFloat8Codec, ByteCodes, TScaling>(ref x, ref codes, 0, count, scaling, saturate: true); break;
            default: Lanes.Encode<SmallFloatCodec<E5M6Layout>, PackedCodes, TScaling>(ref x, ref codes, 0, count, scaling, saturate: true); break;
        }
    }

    private static void Decode<TScaling>(ref byte codes, ref float x, nuint count, TScaling scaling, QuantizedFormat format)
        where TScaling : struct, IScaling, allows ref struct
    {
        switch (format)
        {
            case QuantizedFormat.E4M3: Lanes.DecodeBytes<SmallFloatCodec<E4M3Layout>, TScaling>(ref codes, ref x, count, scaling); break;
            case QuantizedFormat.E5M2: Lanes.DecodeBytes<SmallFloatCodec<E5M2Layout>, TScaling>(ref codes, ref x, count, scaling); break;
            case QuantizedFormat.HiF8: Lanes.DecodeBytes<HiFloat8Codec, TScaling>(ref codes, ref x, count, scaling); break;
            default: Lanes.Decode<SmallFloatCodec<E5M6Layout>, PackedCodes, TScaling>(ref codes, 0, ref x, count, scaling); break;
        }
    }

    private static void RequireMatrix(int length, int rowStride, int rows, int columns)
    {
        if (rows < 0 || columns < 0 || (rows > 1 && rowStride < columns) || (rows > 0 && (long)(rows - 1) * rowStride + columns > length))
            throw new ArgumentException($"{length} elements do not hold {rows} rows of {columns} at a stride of {rowStride}");
    }

    private static void RequireCodes(int length, int codeStride, int rows, int columns, QuantizedFormat format)
    {
        int bytes = format.Bytes(columns);
        if ((rows > 1 && codeStride < bytes) || (rows > 0 && (long)(rows - 1) * codeStride + bytes > length))
            throw new ArgumentException($"{length} bytes do not hold the codes of {rows} rows of {columns} {format} values at a stride of {codeStride} bytes");
    }

    private static void RequireScales(int length, int needed)
    {
        if (length < needed) throw new ArgumentException($"{length} scales for {needed} tiles");
    }
}

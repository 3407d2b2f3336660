// The formats that tiles are quantised to, and where in a format the largest value of a tile should land.

namespace Fathom.Numerics.Quantization;

/// <summary>The element format of a quantised tile.</summary>
public enum QuantizedFormat
{
    /// <summary>E4M3, a byte each: every FP8 operand of DeepSeek-V3.</summary>
    E4M3,

    /// <summary>E5M2, a byte each.</summary>
    E5M2,

    /// <summary>HiFloat8, a byte each.</summary>
    HiF8,

    /// <summary>E5M6, two values in three bytes: the cached input of the attention output projection.</summary>
    E5M6,
}

/// <summary>How scales are chosen.</summary>
public enum ScaleKind
{
    /// <summary>Any single: the tile's largest magnitude becomes exactly <see cref="QuantizedFormats.ScaleTarget"/>.</summary>
    Single,

    /// <summary>The next power of two from there upwards, so that scaling rounds nothing and the scale fits UE8M0.</summary>
    PowerOfTwo,
}

/// <summary>Facts of <see cref="QuantizedFormat"/> values.</summary>
public static class QuantizedFormats
{
    /// <summary>
    /// The magnitude that the largest value of a tile is scaled to (with a power-of-two scale, at most to). It is the format's
    /// largest value (448, 57344, 65024), except for HiFloat8: there it is 15, the end of the seven binades with three mantissa
    /// bits. At its largest value, 32768, HiFloat8 has one mantissa bit and most of a tile would have one or two.
    /// </summary>
    public static float ScaleTarget(this QuantizedFormat format) => format switch
    {
        QuantizedFormat.E4M3 => Float8E4M3.MaxValue,
        QuantizedFormat.E5M2 => Float8E5M2.MaxValue,
        QuantizedFormat.HiF8 => 15,
        QuantizedFormat.E5M6 => Float12E5M6.MaxValue,
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "no such format"),
    };

    /// <summary>Bytes of consecutive values; a row of an E5M6 matrix starts at a byte of its own.</summary>
    public static int Bytes(this QuantizedFormat format, int values) =>
        format == QuantizedFormat.E5M6 ? (int)NumberFormats.PackedE5M6Bytes(values) : values;

    /// <summary>The element type of a tensor that holds the codes.</summary>
    public static DType StorageType(this QuantizedFormat format) => format switch
    {
        QuantizedFormat.E4M3 => DType.F8E4M3,
        QuantizedFormat.E5M2 => DType.F8E5M2,
        QuantizedFormat.HiF8 => DType.HiF8,
        QuantizedFormat.E5M6 => DType.E5M6Pair,
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "no such format"),
    };

    /// <summary>The format of a tensor of codes.</summary>
    /// <exception cref="ArgumentException">The elements are no codes of a tile.</exception>
    public static QuantizedFormat TileFormat(this DType type) => type switch
    {
        DType.F8E4M3 => QuantizedFormat.E4M3,
        DType.F8E5M2 => QuantizedFormat.E5M2,
        DType.HiF8 => QuantizedFormat.HiF8,
        DType.E5M6Pair => QuantizedFormat.E5M6,
        _ => throw new ArgumentException($"{type} is not a format of tiles; they are F8E4M3, F8E5M2, HiF8 and E5M6Pair", nameof(type)),
    };
}

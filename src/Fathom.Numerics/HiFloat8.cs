// Ascend HiFloat8 (arXiv 2409.16626): a prefix code, the dot field, says how many exponent bits follow, so precision tapers from
// three mantissa bits around 1 to one bit at the ends. The traps: it rounds half away from zero, and it has no negative zero
// (0x80 is NaN).

namespace Fathom.Numerics;

/// <summary>
/// An 8-bit float of tapered precision: 3 mantissa bits for 2^-3 to 15, 2 for 2^-7 to 224, 1 for 2^-15 to 32768, and below
/// that powers of two down to 2^-22. 0x80 is NaN; 0x6F and 0xEF are infinities.
/// </summary>
public readonly struct HiFloat8 : IEquatable<HiFloat8>
{
    private HiFloat8(byte bits) => Bits = bits;

    /// <summary>The largest finite value: 32768.</summary>
    public static HiFloat8 MaxValue => new(0x6E);

    /// <summary>The bit pattern.</summary>
    public byte Bits { get; }

    /// <summary>Whether this is the NaN.</summary>
    public bool IsNaN => Bits == 0x80;

    /// <summary>The value with this bit pattern.</summary>
    public static HiFloat8 FromBits(byte bits) => new(bits);

    /// <summary>
    /// Rounds to nearest, ties away from zero. From 40960 on, where the next value would be nearer than 32768, comes infinity,
    /// or 32768 when <paramref name="saturate"/>. Below 2^-23 comes zero, always positive. A NaN stays NaN and loses its sign.
    /// </summary>
    public static HiFloat8 FromSingle(float value, bool saturate) => new((byte)HiFloat8Codec.Encode(value, saturate));

    /// <summary>Rounds to nearest, ties away from zero, without saturation.</summary>
    public static explicit operator HiFloat8(float value) => FromSingle(value, saturate: false);

    /// <summary>The same value as a single; exact.</summary>
    public static implicit operator float(HiFloat8 value) => HiFloat8Codec.Decode(value.Bits);

    /// <summary>Whether both have the same bits (so that NaN equals itself).</summary>
    public static bool operator ==(HiFloat8 left, HiFloat8 right) => left.Bits == right.Bits;

    /// <summary>Whether the bits differ.</summary>
    public static bool operator !=(HiFloat8 left, HiFloat8 right) => left.Bits != right.Bits;

    /// <inheritdoc/>
    public bool Equals(HiFloat8 other) => Bits == other.Bits;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is HiFloat8 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => Bits;

    /// <inheritdoc/>
    public override string ToString() => ((float)this).ToString(System.Globalization.CultureInfo.InvariantCulture);
}

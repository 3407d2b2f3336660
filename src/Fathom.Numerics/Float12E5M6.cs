// E5M6, the 12-bit format in which DeepSeek-V3 keeps the input of the attention output projection (report §3.3.3): the exponent
// range of a half with six mantissa bits. The report gives no bit layout; this one follows IEEE 754, so it is a half without its
// last four mantissa bits, rounded once. In memory two values take three bytes (PackedE5M6); a value alone is a ushort.

namespace Fathom.Numerics;

/// <summary>
/// A 12-bit float with 5 exponent and 6 mantissa bits, bias 15, with infinities (0x7C0) and NaNs (above) as IEEE 754 has them. A
/// saturating conversion, which is what quantisation uses, gives neither for finite input.
/// </summary>
public readonly struct Float12E5M6 : IEquatable<Float12E5M6>
{
    private Float12E5M6(ushort bits) => Bits = bits;

    /// <summary>The largest finite value: 65024.</summary>
    public static Float12E5M6 MaxValue => new(0x7BF);

    /// <summary>The bit pattern in the lower 12 bits.</summary>
    public ushort Bits { get; }

    /// <summary>Whether this is a NaN.</summary>
    public bool IsNaN => (Bits & 0x7FF) > 0x7C0;

    /// <summary>The value with this bit pattern; the upper four bits are ignored.</summary>
    public static Float12E5M6 FromBits(ushort bits) => new((ushort)(bits & 0xFFF));

    /// <summary>
    /// Rounds to nearest, ties to even. What lies past the largest finite value, infinity included, becomes that value when
    /// <paramref name="saturate"/>, else infinity. A NaN stays NaN; the sign stays.
    /// </summary>
    public static Float12E5M6 FromSingle(float value, bool saturate) => new((ushort)SmallFloat<E5M6Layout>.Encode(value, saturate));

    /// <summary>Rounds to nearest, ties to even, without saturation.</summary>
    public static explicit operator Float12E5M6(float value) => FromSingle(value, saturate: false);

    /// <summary>The same value as a single; exact.</summary>
    public static implicit operator float(Float12E5M6 value) => SmallFloat<E5M6Layout>.Decode(value.Bits);

    /// <summary>Whether both have the same bits (so that NaN equals itself, and the two zeros differ).</summary>
    public static bool operator ==(Float12E5M6 left, Float12E5M6 right) => left.Bits == right.Bits;

    /// <summary>Whether the bits differ.</summary>
    public static bool operator !=(Float12E5M6 left, Float12E5M6 right) => left.Bits != right.Bits;

    /// <inheritdoc/>
    public bool Equals(Float12E5M6 other) => Bits == other.Bits;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Float12E5M6 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => Bits;

    /// <inheritdoc/>
    public override string ToString() => ((float)this).ToString(System.Globalization.CultureInfo.InvariantCulture);
}

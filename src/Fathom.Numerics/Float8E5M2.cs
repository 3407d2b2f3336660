// E5M2: a half with 8 mantissa bits cut off, rounded once. Going through a half would round twice and differ on ties.

namespace Fathom.Numerics;

/// <summary>An 8-bit float with 5 exponent and 2 mantissa bits, bias 15, with infinities and NaNs as IEEE 754 has them.</summary>
public readonly struct Float8E5M2 : IEquatable<Float8E5M2>
{
    private Float8E5M2(byte bits) => Bits = bits;

    /// <summary>The largest finite value: 57344.</summary>
    public static Float8E5M2 MaxValue => new(0x7B);

    /// <summary>The bit pattern.</summary>
    public byte Bits { get; }

    /// <summary>Whether this is a NaN.</summary>
    public bool IsNaN => (Bits & 0x7F) > 0x7C;

    /// <summary>The value with this bit pattern.</summary>
    public static Float8E5M2 FromBits(byte bits) => new(bits);

    /// <summary>
    /// Rounds to nearest, ties to even. What lies past the largest finite value, infinity included, becomes that value when
    /// <paramref name="saturate"/>, else infinity. A NaN stays NaN; the sign stays.
    /// </summary>
    public static Float8E5M2 FromSingle(float value, bool saturate) => new((byte)SmallFloat<E5M2Layout>.Encode(value, saturate));

    /// <summary>Rounds to nearest, ties to even, without saturation.</summary>
    public static explicit operator Float8E5M2(float value) => FromSingle(value, saturate: false);

    /// <summary>The same value as a single; exact.</summary>
    public static implicit operator float(Float8E5M2 value) => SmallFloat<E5M2Layout>.Decode(value.Bits);

    /// <summary>Whether both have the same bits (so that NaN equals itself, and the two zeros differ).</summary>
    public static bool operator ==(Float8E5M2 left, Float8E5M2 right) => left.Bits == right.Bits;

    /// <summary>Whether the bits differ.</summary>
    public static bool operator !=(Float8E5M2 left, Float8E5M2 right) => left.Bits != right.Bits;

    /// <inheritdoc/>
    public bool Equals(Float8E5M2 other) => Bits == other.Bits;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Float8E5M2 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => Bits;

    /// <inheritdoc/>
    public override string ToString() => ((float)this).ToString(System.Globalization.CultureInfo.InvariantCulture);
}

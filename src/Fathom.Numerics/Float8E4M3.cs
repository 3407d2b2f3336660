// E4M3FN, the format of every FP8 operand in DeepSeek-V3 (report §3.3). It has no infinity: the pattern that IEEE rules would
// give to 480 is NaN instead, so an unsaturated overflow loses the value. Quantisation therefore saturates.

namespace Fathom.Numerics;

/// <summary>An 8-bit float with 4 exponent and 3 mantissa bits, bias 7, finite only: 0x7F and 0xFF are NaN.</summary>
public readonly struct Float8E4M3 : IEquatable<Float8E4M3>
{
    private Float8E4M3(byte bits) => Bits = bits;

    /// <summary>The largest finite value: 448.</summary>
    public static Float8E4M3 MaxValue => new(0x7E);

    /// <summary>The bit pattern.</summary>
    public byte Bits { get; }

    /// <summary>Whether this is a NaN.</summary>
    public bool IsNaN => (Bits & 0x7F) == 0x7F;

    /// <summary>The value with this bit pattern.</summary>
    public static Float8E4M3 FromBits(byte bits) => new(bits);

    /// <summary>
    /// Rounds to nearest, ties to even. What lies past the largest finite value, infinity included, becomes that value when
    /// <paramref name="saturate"/>, else NaN. A NaN stays NaN; the sign stays.
    /// </summary>
    public static Float8E4M3 FromSingle(float value, bool saturate) => new((byte)SmallFloat<E4M3Layout>.Encode(value, saturate));

    /// <summary>Rounds to nearest, ties to even, without saturation.</summary>
    public static explicit operator Float8E4M3(float value) => FromSingle(value, saturate: false);

    /// <summary>The same value as a single; exact.</summary>
    public static implicit operator float(Float8E4M3 value) => SmallFloat<E4M3Layout>.Decode(value.Bits);

    /// <summary>Whether both have the same bits (so that NaN equals itself, and the two zeros differ).</summary>
    public static bool operator ==(Float8E4M3 left, Float8E4M3 right) => left.Bits == right.Bits;

    /// <summary>Whether the bits differ.</summary>
    public static bool operator !=(Float8E4M3 left, Float8E4M3 right) => left.Bits != right.Bits;

    /// <inheritdoc/>
    public bool Equals(Float8E4M3 other) => Bits == other.Bits;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Float8E4M3 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => Bits;

    /// <inheritdoc/>
    public override string ToString() => ((float)this).ToString(System.Globalization.CultureInfo.InvariantCulture);
}

// bfloat16: the upper half of a single, so widening is a shift and only narrowing rounds. The trap is narrowing a NaN: rounding
// its low bits can carry into the exponent and make it infinite, so NaNs take a branch of their own.
using System.Runtime.CompilerServices;

namespace Fathom.Numerics;

/// <summary>A 16-bit float with the exponent range of a single: 1 sign, 8 exponent and 7 mantissa bits.</summary>
public readonly struct BFloat16 : IEquatable<BFloat16>
{
    private BFloat16(ushort bits) => Bits = bits;

    /// <summary>The bit pattern.</summary>
    public ushort Bits { get; }

    /// <summary>Whether this is any NaN.</summary>
    public bool IsNaN => (Bits & 0x7FFF) > 0x7F80;

    /// <summary>The value with this bit pattern.</summary>
    public static BFloat16 FromBits(ushort bits) => new(bits);

    /// <summary>Rounds to nearest, ties to even; past the largest finite value comes infinity. A NaN becomes quiet.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static explicit operator BFloat16(float value) => new(Narrow(BitConverter.SingleToUInt32Bits(value)));

    /// <summary>The same value as a single; exact.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static implicit operator float(BFloat16 value) => BitConverter.UInt32BitsToSingle((uint)value.Bits << 16);

    /// <summary>Whether both have the same bits (so that NaN equals itself, and the two zeros differ).</summary>
    public static bool operator ==(BFloat16 left, BFloat16 right) => left.Bits == right.Bits;

    /// <summary>Whether the bits differ.</summary>
    public static bool operator !=(BFloat16 left, BFloat16 right) => left.Bits != right.Bits;

    /// <inheritdoc/>
    public bool Equals(BFloat16 other) => Bits == other.Bits;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is BFloat16 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => Bits;

    /// <inheritdoc/>
    public override string ToString() => ((float)this).ToString(System.Globalization.CultureInfo.InvariantCulture);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static ushort Narrow(uint single) =>
        (single & 0x7FFFFFFF) > 0x7F800000
            ? (ushort)(single >> 16 | 0x40)
            : (ushort)((single + 0x7FFF + (single >> 16 & 1)) >> 16);
}

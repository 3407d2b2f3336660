// UE8M0, the scale of the microscaling formats and of DeepSeek-V3.1's checkpoints: the exponent of a single and nothing else. A scale
// is rounded up, never to nearest: a scale that is too small makes the largest value of its tile overflow.
using System.Runtime.CompilerServices;

namespace Fathom.Numerics;

/// <summary>A power of two in 8 bits: 2^(bits - 127). 255 is NaN; there is no zero and no sign.</summary>
public readonly struct ScaleE8M0 : IEquatable<ScaleE8M0>
{
    private ScaleE8M0(byte bits) => Bits = bits;

    /// <summary>The largest value: 2^127.</summary>
    public static ScaleE8M0 MaxValue => new(254);

    /// <summary>The bit pattern: the biased exponent.</summary>
    public byte Bits { get; }

    /// <summary>Whether this is the NaN.</summary>
    public bool IsNaN => Bits == 255;

    /// <summary>The value with this bit pattern.</summary>
    public static ScaleE8M0 FromBits(byte bits) => new(bits);

    /// <summary>The smallest power of two that is not below a value; 2^-127 for zero, NaN past 2^127 and for what is negative or NaN.</summary>
    public static ScaleE8M0 FromSingle(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        if (bits <= 0x00400000) return new ScaleE8M0(0); // 2^-127 is a subnormal single
        return new ScaleE8M0((byte)Math.Min(((ulong)bits + 0x7FFFFF) >> 23, 255));
    }

    /// <summary>Rounds up to a power of two.</summary>
    public static explicit operator ScaleE8M0(float value) => FromSingle(value);

    /// <summary>The same value as a single; exact.</summary>
    public static implicit operator float(ScaleE8M0 value) => value.Bits switch
    {
        0 => BitConverter.UInt32BitsToSingle(0x00400000),
        255 => float.NaN,
        _ => BitConverter.UInt32BitsToSingle((uint)value.Bits << 23),
    };

    /// <summary>Rounds a positive normal single up to a power of two, without a logarithm; at most 2^127.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float RoundUp(float value) =>
        BitConverter.UInt32BitsToSingle((BitConverter.SingleToUInt32Bits(value) + 0x7FFFFF) & 0x7F800000);

    /// <summary>Whether both have the same bits (so that NaN equals itself).</summary>
    public static bool operator ==(ScaleE8M0 left, ScaleE8M0 right) => left.Bits == right.Bits;

    /// <summary>Whether the bits differ.</summary>
    public static bool operator !=(ScaleE8M0 left, ScaleE8M0 right) => left.Bits != right.Bits;

    /// <inheritdoc/>
    public bool Equals(ScaleE8M0 other) => Bits == other.Bits;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is ScaleE8M0 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => Bits;

    /// <inheritdoc/>
    public override string ToString() => ((float)this).ToString(System.Globalization.CultureInfo.InvariantCulture);
}

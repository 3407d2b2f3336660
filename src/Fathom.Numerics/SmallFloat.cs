// Conversion between singles and any narrower IEEE-like format, written once over the format's numbers.
//   narrowing  the hardware rounds: a power of two whose last mantissa bit weighs as much as the format's last bit in the value's
//              binade (the lowest binade for subnormal results) is added, and the sum's lower bits count the steps. The single
//              value takes another way, so that each checks the other: rebiased bits, plus half of the last kept bit (less one
//              if that bit is even), shifted down
//   widening   the code shifted into place is a single that is too small by the difference of the biases; one product with a
//              power of two repairs that, subnormals included. It needs subnormal singles: flush-to-zero must be off
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Fathom.Numerics;

/// <summary>The numbers that define a narrow float format with a sign bit above exponent and mantissa.</summary>
internal interface ISmallFloatLayout
{
    /// <summary>Bits in all: 8, 12 or 16.</summary>
    static abstract int Bits { get; }

    /// <summary>Stored mantissa bits.</summary>
    static abstract int MantissaBits { get; }

    /// <summary>Exponent bias.</summary>
    static abstract int Bias { get; }

    /// <summary>Magnitude code of the largest finite value; the code after it is what an unsaturated overflow gives.</summary>
    static abstract uint MaxCode { get; }

    /// <summary>Magnitude code that a NaN is narrowed to.</summary>
    static abstract uint NaNCode { get; }
}

/// <summary>E4M3FN.</summary>
internal readonly struct E4M3Layout : ISmallFloatLayout
{
    public static int Bits => 8;

    public static int MantissaBits => 3;

    public static int Bias => 7;

    public static uint MaxCode => 0x7E;

    public static uint NaNCode => 0x7F;
}

/// <summary>E5M2.</summary>
internal readonly struct E5M2Layout : ISmallFloatLayout
{
    public static int Bits => 8;

    public static int MantissaBits => 2;

    public static int Bias => 15;

    public static uint MaxCode => 0x7B;

    public static uint NaNCode => 0x7F;
}

/// <summary>E5M6.</summary>
internal readonly struct E5M6Layout : ISmallFloatLayout
{
    public static int Bits => 12;

    public static int MantissaBits => 6;

    public static int Bias => 15;

    public static uint MaxCode => 0x7BF;

    public static uint NaNCode => 0x7E0;
}

/// <summary>IEEE 754 half.</summary>
internal readonly struct HalfLayout : ISmallFloatLayout
{
    public static int Bits => 16;

    public static int MantissaBits => 10;

    public static int Bias => 15;

    public static uint MaxCode => 0x7BFF;

    public static uint NaNCode => 0x7E00;
}

/// <summary>Conversions of one format, one value or one vector of codes in 32-bit lanes at a time.</summary>
internal static class SmallFloat<TLayout> where TLayout : struct, ISmallFloatLayout
{
    private const uint SingleInfinity = 0x7F800000;

    // The compiler folds these into constants where they are inlined, and would otherwise call them in the vector loops.
    private static int Shift
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => 23 - TLayout.MantissaBits;
    }

    private static uint MagnitudeMask
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (1u << (TLayout.Bits - 1)) - 1;
    }

    // 2^(127 - bias): the factor that undoes the difference of the biases.
    private static uint Rescale
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (uint)(254 - TLayout.Bias) << 23;
    }

    private static uint Rebias
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (uint)(127 - TLayout.Bias) << 23;
    }

    // The smallest single whose result is normal.
    private static uint SmallestNormal
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Rebias + (1u << 23);
    }

    // The single that is the largest finite value, as bits.
    private static uint Largest
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (TLayout.MaxCode << Shift) + Rebias;
    }

    private static uint SubnormalMagic
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (uint)(127 - TLayout.Bias + Shift + 1) << 23;
    }

    /// <summary>The code nearest to a value, ties to even.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Encode(float value, bool saturate)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        uint magnitude = bits & 0x7FFFFFFF;
        uint code;
        if (magnitude < SmallestNormal)
        {
            float magic = BitConverter.UInt32BitsToSingle(SubnormalMagic);
            code = BitConverter.SingleToUInt32Bits(BitConverter.UInt32BitsToSingle(magnitude) + magic) - SubnormalMagic;
        }
        else
        {
            uint rebiased = magnitude - Rebias;
            code = (rebiased + (1u << (Shift - 1)) - 1 + (rebiased >> Shift & 1)) >> Shift;
        }

        code = Math.Min(code, saturate ? TLayout.MaxCode : TLayout.MaxCode + 1);
        if (magnitude > SingleInfinity) code = TLayout.NaNCode;
        return code | bits >> 31 << (TLayout.Bits - 1);
    }

    /// <summary>
    /// One of the two codes beside a value, the upper one with the probability of the distance from the lower one, in steps of
    /// 2^-<see cref="Shift"/>: what a subnormal result has below that is cut off.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Encode(float value, uint random, bool saturate)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value), magnitude = bits & 0x7FFFFFFF;
        if (magnitude >= SingleInfinity) return Encode(value, saturate);
        // The code with Shift more bits: the rebiased single, or for a subnormal result the value in units of its smallest step.
        uint precise = magnitude < SmallestNormal
            ? (uint)(BitConverter.UInt32BitsToSingle(magnitude) * BitConverter.UInt32BitsToSingle((uint)(127 + 22 + TLayout.Bias) << 23))
            : magnitude - Rebias;
        uint code = (precise + (random & ((1u << Shift) - 1))) >> Shift;
        return Math.Min(code, saturate ? TLayout.MaxCode : TLayout.MaxCode + 1) | bits >> 31 << (TLayout.Bits - 1);
    }

    /// <inheritdoc cref="Encode(float, bool)"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> Encode(Vector256<float> value, bool saturate)
    {
        Vector256<uint> bits = value.AsUInt32();
        Vector256<uint> magnitude = bits & Vector256.Create(0x7FFFFFFFu);
        Vector256<uint> bounded = Vector256.Min(magnitude, Vector256.Create(saturate ? Largest : Largest + (1u << Shift)));
        Vector256<uint> binade = Vector256.Max(bounded & Vector256.Create(SingleInfinity), Vector256.Create(SmallestNormal));
        Vector256<uint> magic = binade + Vector256.Create((uint)Shift << 23);
        Vector256<uint> steps = (bounded.AsSingle() + magic.AsSingle()).AsUInt32() - magic;
        Vector256<uint> code = steps + ((binade >>> Shift) - Vector256.Create(SmallestNormal >> Shift));
        code = Vector256.ConditionalSelect(Vector256.GreaterThan(magnitude, Vector256.Create(SingleInfinity)), Vector256.Create(TLayout.NaNCode), code);
        return code | (bits >>> (32 - TLayout.Bits) & Vector256.Create(1u << (TLayout.Bits - 1)));
    }

    /// <inheritdoc cref="Encode(float, bool)"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Encode(Vector512<float> value, bool saturate)
    {
        Vector512<uint> bits = value.AsUInt32();
        Vector512<uint> magnitude = bits & Vector512.Create(0x7FFFFFFFu);
        Vector512<uint> bounded = Vector512.Min(magnitude, Vector512.Create(saturate ? Largest : Largest + (1u << Shift)));
        Vector512<uint> binade = Vector512.Max(bounded & Vector512.Create(SingleInfinity), Vector512.Create(SmallestNormal));
        Vector512<uint> magic = binade + Vector512.Create((uint)Shift << 23);
        Vector512<uint> steps = (bounded.AsSingle() + magic.AsSingle()).AsUInt32() - magic;
        Vector512<uint> code = steps + ((binade >>> Shift) - Vector512.Create(SmallestNormal >> Shift));
        code = Vector512.ConditionalSelect(Vector512.GreaterThan(magnitude, Vector512.Create(SingleInfinity)), Vector512.Create(TLayout.NaNCode), code);
        return code | (bits >>> (32 - TLayout.Bits) & Vector512.Create(1u << (TLayout.Bits - 1)));
    }

    /// <summary>The value of a code; exact.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Decode(uint code)
    {
        uint magnitude = code & MagnitudeMask;
        float scaled = BitConverter.UInt32BitsToSingle(magnitude << Shift) * BitConverter.UInt32BitsToSingle(Rescale);
        uint bits = BitConverter.SingleToUInt32Bits(scaled);
        if (magnitude > TLayout.MaxCode) bits |= SingleInfinity;
        return BitConverter.UInt32BitsToSingle(bits | code >> (TLayout.Bits - 1) << 31);
    }

    /// <inheritdoc cref="Decode(uint)"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Decode(Vector256<uint> code)
    {
        Vector256<uint> magnitude = code & Vector256.Create(MagnitudeMask);
        Vector256<uint> bits = ((magnitude << Shift).AsSingle() * Vector256.Create(Rescale).AsSingle()).AsUInt32();
        bits |= Vector256.GreaterThan(magnitude, Vector256.Create(TLayout.MaxCode)) & Vector256.Create(SingleInfinity);
        return (bits | code >>> (TLayout.Bits - 1) << 31).AsSingle();
    }

    /// <inheritdoc cref="Decode(uint)"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Decode(Vector512<uint> code)
    {
        Vector512<uint> magnitude = code & Vector512.Create(MagnitudeMask);
        Vector512<uint> bits = ((magnitude << Shift).AsSingle() * Vector512.Create(Rescale).AsSingle()).AsUInt32();
        bits |= Vector512.GreaterThan(magnitude, Vector512.Create(TLayout.MaxCode)) & Vector512.Create(SingleInfinity);
        return (bits | code >>> (TLayout.Bits - 1) << 31).AsSingle();
    }
}

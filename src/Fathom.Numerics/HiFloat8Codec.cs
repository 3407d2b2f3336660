// HiFloat8 (arXiv 2409.16626). A value's exponent E alone decides how many mantissa bits it has: 3 for |E| up to 3, 2 up to 7, 1 up
// to 15, none for the powers of two from 2^-22 to 2^-16. Narrowing adds half of the last kept bit to the single's magnitude,
// which rounds half away from zero, and reads exponent and mantissa off the sum; a carry into the next binade needs no care,
// since its exponent is read afterwards.
//   code    1..7        0x08     0x10/0x18   0x20-0x3F     0x40-0x5F     0x60-0x7F
//   value   2^(code-23) E = 0    E = 1/-1    |E| = 2, 3    |E| = 4..7    |E| = 8..15     (the upper half of each: E < 0)
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Numerics;

/// <summary>Conversions of HiFloat8.</summary>
internal readonly struct HiFloat8Codec : ICodec
{
    private const uint SingleInfinity = 0x7F800000;
    private const uint NaN = 0x80;
    private const uint Largest = (127 + 15) << 23; // 2^15
    private const uint Beyond = Largest + (1 << 22); // 1.5 * 2^15: its code is infinity's
    private const uint SmallestHalf = (127 - 23) << 23; // 2^-23 and more rounds up to the smallest value
    private const uint Smallest = (127 - 22) << 23;

    // Of each magnitude code the upper half of the single, which is all of it.
    private static readonly ushort[] UpperHalves =
        [.. Enumerable.Range(0, 128).Select(code => (ushort)(BitConverter.SingleToUInt32Bits(Magnitude((uint)code)) >> 16))];

    private static readonly Vector512<ushort> Table0 = Vector512.Create(UpperHalves, 0), Table1 = Vector512.Create(UpperHalves, 32);
    private static readonly Vector512<ushort> Table2 = Vector512.Create(UpperHalves, 64), Table3 = Vector512.Create(UpperHalves, 96);

    // By the lower six bits of the biased exponent: the upper half of what rounding adds; and the first code of the binade with, in
    // the upper byte, how far its mantissa is shifted.
    private static readonly Vector512<ushort> Halves0 = ByExponent(0, e => (ushort)(1 << (3 + Narrower(e)))), Halves1 = ByExponent(32, e => (ushort)(1 << (3 + Narrower(e))));
    private static readonly Vector512<ushort> Starts0 = ByExponent(0, Start), Starts1 = ByExponent(32, Start);

    public static uint Encode(float value, bool saturate)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value), magnitude = bits & 0x7FFFFFFF;
        if (magnitude > SingleInfinity) return NaN;
        if (magnitude < SmallestHalf) return 0;
        magnitude = Math.Clamp(magnitude, Smallest, saturate ? Largest : Beyond);
        int size = Math.Abs((int)(magnitude >> 23) - 127);
        uint rounded = magnitude + (size < 4 ? 1u << 19 : size < 8 ? 1u << 20 : size < 16 ? 1u << 21 : 1u << 22);
        int exponent = (int)(rounded >> 23) - 127;
        uint minus = exponent < 0 ? 0x10u : 0, e = (uint)Math.Abs(exponent);
        uint code = e switch
        {
            0 => 0x08 | (rounded >> 20 & 7),
            1 => 0x10 | minus >> 1 | (rounded >> 20 & 7),
            < 4 => 0x10 + minus + (e << 3) | (rounded >> 20 & 7),
            < 8 => 0x30 + minus + (e << 2) | (rounded >> 21 & 3),
            < 16 => 0x50 + minus + (e << 1) | (rounded >> 22 & 1),
            _ => 23 - e,
        };
        return code | bits >> 31 << 7;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> Encode(Vector256<float> value, bool saturate)
    {
        Vector256<uint> bits = value.AsUInt32(), magnitude = bits & Vector256.Create(0x7FFFFFFFu);
        Vector256<uint> clamped = Vector256.Min(Vector256.Max(magnitude, Vector256.Create(Smallest)), Vector256.Create(saturate ? Largest : Beyond));
        Vector256<int> size = Vector256.Abs((clamped >>> 23).AsInt32() - Vector256.Create(127));
        Vector256<uint> to4 = Vector256.GreaterThan(size, Vector256.Create(3)).AsUInt32();
        Vector256<uint> to8 = Vector256.GreaterThan(size, Vector256.Create(7)).AsUInt32();
        Vector256<uint> to16 = Vector256.GreaterThan(size, Vector256.Create(15)).AsUInt32();
        // The halves double from step to step: 2^19, and what each step adds.
        Vector256<uint> half = Vector256.Create(1u << 19) + (to4 & Vector256.Create(1u << 19)) + (to8 & Vector256.Create(1u << 20)) + (to16 & Vector256.Create(1u << 21));
        Vector256<uint> rounded = clamped + half;
        Vector256<int> exponent = (rounded >>> 23).AsInt32() - Vector256.Create(127);
        Vector256<uint> negative = Vector256.LessThan(exponent, Vector256<int>.Zero).AsUInt32(), minus = negative & Vector256.Create(0x10u);
        Vector256<int> e = Vector256.Abs(exponent);
        Vector256<uint> ue = e.AsUInt32(), three = rounded >>> 20 & Vector256.Create(7u);
        Vector256<uint> code = Vector256.Create(0x08u) | three;
        code = Vector256.ConditionalSelect(Vector256.Equals(e, Vector256<int>.One).AsUInt32(), Vector256.Create(0x10u) | minus >>> 1 | three, code);
        code = Vector256.ConditionalSelect(
            Vector256.GreaterThan(e, Vector256<int>.One).AsUInt32(), (Vector256.Create(0x10u) + minus + (ue << 3)) | three, code);
        code = Vector256.ConditionalSelect(
            Vector256.GreaterThan(e, Vector256.Create(3)).AsUInt32(), (Vector256.Create(0x30u) + minus + (ue << 2)) | (three >>> 1), code);
        code = Vector256.ConditionalSelect(
            Vector256.GreaterThan(e, Vector256.Create(7)).AsUInt32(), (Vector256.Create(0x50u) + minus + (ue << 1)) | (three >>> 2), code);
        code = Vector256.ConditionalSelect(Vector256.GreaterThan(e, Vector256.Create(15)).AsUInt32(), Vector256.Create(23u) - ue, code);
        code |= bits >>> 31 << 7;
        code = Vector256.ConditionalSelect(Vector256.LessThan(magnitude, Vector256.Create(SmallestHalf)), Vector256<uint>.Zero, code);
        return Vector256.ConditionalSelect(Vector256.GreaterThan(magnitude, Vector256.Create(SingleInfinity)), Vector256.Create(NaN), code);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Encode(Vector512<float> value, bool saturate)
    {
        if (!Avx512BW.IsSupported) return Vector512.Create(Encode(value.GetLower(), saturate), Encode(value.GetUpper(), saturate));
        Vector512<uint> bits = value.AsUInt32(), magnitude = bits & Vector512.Create(0x7FFFFFFFu);
        Vector512<uint> clamped = Vector512.Min(Vector512.Max(magnitude, Vector512.Create(Smallest)), Vector512.Create(saturate ? Largest : Beyond));
        // Words are looked up by the lower six bits of the biased exponent, which differ for all exponents that are left.
        Vector512<uint> half = Avx512BW.PermuteVar32x16x2(Halves0, (clamped >>> 7).AsUInt16(), Halves1).AsUInt32() & Vector512.Create(0xFFFF0000u);
        Vector512<uint> rounded = clamped + half;
        Vector512<uint> start = Avx512BW.PermuteVar32x16x2(Starts0, (rounded >>> 23).AsUInt16(), Starts1).AsUInt32();
        Vector512<uint> mantissa = Avx512F.ShiftRightLogicalVariable(rounded & Vector512.Create(0x7FFFFFu), start >>> 8 & Vector512.Create(0xFFu));
        Vector512<uint> code = (start & Vector512.Create(0xFFu)) + mantissa | bits >>> 31 << 7;
        code = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(SmallestHalf)), Vector512<uint>.Zero, code);
        return Vector512.ConditionalSelect(Vector512.GreaterThan(magnitude, Vector512.Create(SingleInfinity)), Vector512.Create(NaN), code);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Decode(uint code) =>
        code == NaN ? float.NaN : BitConverter.UInt32BitsToSingle((uint)UpperHalves[code & 0x7F] << 16 | code >> 7 << 31);

    public static Vector256<float> Decode(Vector256<uint> code) => Vector256.Create(
        Decode(code[0]), Decode(code[1]), Decode(code[2]), Decode(code[3]), Decode(code[4]), Decode(code[5]), Decode(code[6]), Decode(code[7]));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Decode(Vector512<uint> code)
    {
        if (!Avx512BW.IsSupported) return Vector512.Create(Decode(code.GetLower()), Decode(code.GetUpper()));
        // The code selects each lane's upper half; its lower half selects entry 0, which is zero as it should be.
        Vector512<ushort> index = (code << 16).AsUInt16();
        Vector512<uint> low = Avx512BW.PermuteVar32x16x2(Table0, index, Table1).AsUInt32();
        Vector512<uint> high = Avx512BW.PermuteVar32x16x2(Table2, index, Table3).AsUInt32() & Vector512.Create(0xFFFF0000u);
        Vector512<uint> bits = Vector512.ConditionalSelect(Vector512.Equals(code & Vector512.Create(0x40u), Vector512<uint>.Zero), low, high);
        bits |= code >>> 7 << 31;
        return Vector512.ConditionalSelect(Vector512.Equals(code, Vector512.Create(NaN)), Vector512.Create(float.NaN).AsUInt32(), bits).AsSingle();
    }

    // Mantissa bits fewer than three.
    private static int Narrower(int exponent) => Math.Abs(exponent) < 4 ? 0 : Math.Abs(exponent) < 8 ? 1 : Math.Abs(exponent) < 16 ? 2 : 3;

    private static ushort Start(int exponent)
    {
        float value = MathF.ScaleB(1, exponent);
        return exponent is < -22 or > 15 ? (ushort)0 : (ushort)(Encode(value, saturate: true) | (uint)(20 + Narrower(exponent)) << 8);
    }

    private static Vector512<ushort> ByExponent(int first, Func<int, ushort> entry)
    {
        var table = new ushort[32];
        for (int i = 0; i < table.Length; i++)
        {
            int biased = first + i < 32 ? first + i + 128 : first + i + 64; // 128..159 and 96..127
            table[i] = entry(biased - 127);
        }

        return Vector512.Create(table);
    }

    private static float Magnitude(uint code)
    {
        if (code == 0) return 0;
        if (code == 0x6F) return float.PositiveInfinity;
        if (code < 0x08) return Power((int)code - 23, 0, 0);
        if (code < 0x10) return Power(0, code & 7, 3);
        if (code < 0x20) return Power((code & 0x08) == 0 ? 1 : -1, code & 7, 3);
        int width = code < 0x40 ? 3 : code < 0x60 ? 2 : 1;
        int e = (code < 0x40 ? 2 : code < 0x60 ? 4 : 8) + (int)((code & 0xF) >> width);
        return Power((code & 0x10) == 0 ? e : -e, code & ((1u << width) - 1), width);
    }

    private static float Power(int exponent, uint mantissa, int width) =>
        BitConverter.UInt32BitsToSingle((uint)(127 + exponent) << 23 | mantissa << (23 - width));
}

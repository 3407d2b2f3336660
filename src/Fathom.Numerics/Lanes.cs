// The iteration that all conversions share: 512-bit vectors, else 256-bit ones, then single values. What a
// value is multiplied with or divided by on the way is a type argument too: nothing at all is not a product with 1, which would
// make a signalling NaN quiet.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Fathom.Numerics;

/// <summary>Drivers over codes of one format in one storage.</summary>
internal static class Lanes
{
    /// <summary>value[i] = scaling(decode(code[first + i])) for i from <paramref name="done"/>.</summary>
    public static void Decode<TCodec, TStorage, TScaling>(ref byte codes, nuint first, ref float values, nuint count, TScaling scaling, nuint done = 0)
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
        where TScaling : struct, IScaling, allows ref struct
    {
        nuint i = done;
        if (Vector512.IsHardwareAccelerated)
        {
            for (; i + 16 <= count; i += 16) scaling.Apply(TCodec.Decode(TStorage.Load512(ref codes, first + i)), i).StoreUnsafe(ref values, i);
        }
        else if (Vector256.IsHardwareAccelerated)
        {
            for (; i + 8 <= count; i += 8) scaling.Apply(TCodec.Decode(TStorage.Load256(ref codes, first + i)), i).StoreUnsafe(ref values, i);
        }

        for (; i < count; i++) Unsafe.Add(ref values, i) = scaling.Apply(TCodec.Decode(TStorage.Load(ref codes, first + i)), i);
    }

    /// <summary>code[first + i] = encode(scaling(value[i])).</summary>
    public static void Encode<TCodec, TStorage, TScaling>(
        ref float values, ref byte codes, nuint first, nuint count, TScaling scaling, bool saturate)
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
        where TScaling : struct, IScaling, allows ref struct
    {
        // Two loops, each with a constant, instead of a choice for every vector.
        if (saturate) EncodeAll<TCodec, TStorage, TScaling>(ref values, ref codes, first, count, scaling, true);
        else EncodeAll<TCodec, TStorage, TScaling>(ref values, ref codes, first, count, scaling, false);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void EncodeAll<TCodec, TStorage, TScaling>(
        ref float values, ref byte codes, nuint first, nuint count, TScaling scaling, bool saturate)
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
        where TScaling : struct, IScaling, allows ref struct
    {
        nuint i = 0;
        if (Vector512.IsHardwareAccelerated)
        {
            if (TStorage.StoresFour)
            {
                for (; i + 64 <= count; i += 64)
                {
                    Vector512<uint> a = TCodec.Encode(scaling.Apply(Vector512.LoadUnsafe(ref values, i), i), saturate);
                    Vector512<uint> b = TCodec.Encode(scaling.Apply(Vector512.LoadUnsafe(ref values, i + 16), i + 16), saturate);
                    Vector512<uint> c = TCodec.Encode(scaling.Apply(Vector512.LoadUnsafe(ref values, i + 32), i + 32), saturate);
                    Vector512<uint> d = TCodec.Encode(scaling.Apply(Vector512.LoadUnsafe(ref values, i + 48), i + 48), saturate);
                    TStorage.Store(a, b, c, d, ref codes, first + i);
                }
            }

            for (; i + 16 <= count; i += 16)
                TStorage.Store(TCodec.Encode(scaling.Apply(Vector512.LoadUnsafe(ref values, i), i), saturate), ref codes, first + i);
        }
        else if (Vector256.IsHardwareAccelerated)
        {
            for (; i + 8 <= count; i += 8)
                TStorage.Store(TCodec.Encode(scaling.Apply(Vector256.LoadUnsafe(ref values, i), i), saturate), ref codes, first + i);
        }

        for (; i < count; i++) TStorage.Store(TCodec.Encode(scaling.Apply(Unsafe.Add(ref values, i), i), saturate), ref codes, first + i);
    }

    /// <summary>Decodes bytes, by table where the processor has the instructions.</summary>
    public static void DecodeBytes<TCodec, TScaling>(ref byte codes, ref float values, nuint count, TScaling scaling)
        where TCodec : struct, ICodec
        where TScaling : struct, IScaling, allows ref struct
    {
        nuint done = ByteTable<TCodec>.IsSupported ? ByteTable<TCodec>.ToSingle(ref codes, ref values, count, scaling) : 0;
        Decode<TCodec, ByteCodes, TScaling>(ref codes, 0, ref values, count, scaling, done);
    }

    /// <summary>Decodes bytes to BF16 (all their values are): the upper half of the single.</summary>
    public static void DecodeToBFloat16<TCodec>(ref byte codes, ref byte values, nuint count) where TCodec : struct, ICodec
    {
        nuint i = ByteTable<TCodec>.IsSupported ? ByteTable<TCodec>.ToBFloat16(ref codes, ref values, count) : 0;
        if (Vector512.IsHardwareAccelerated)
        {
            for (; i + 16 <= count; i += 16) WordCodes.Store(TCodec.Decode(ByteCodes.Load512(ref codes, i)).AsUInt32() >>> 16, ref values, i);
        }
        else if (Vector256.IsHardwareAccelerated)
        {
            for (; i + 8 <= count; i += 8) WordCodes.Store(TCodec.Decode(ByteCodes.Load256(ref codes, i)).AsUInt32() >>> 16, ref values, i);
        }

        for (; i < count; i++)
            WordCodes.Store(BitConverter.SingleToUInt32Bits(TCodec.Decode(ByteCodes.Load(ref codes, i))) >> 16, ref values, i);
    }

    /// <summary>
    /// Bits of the largest magnitude. As integers magnitudes are ordered like their values, and above all finite ones come
    /// infinity and NaN: what is at least 0x7F800000 says that a value is not finite.
    /// </summary>
    public static uint MaxMagnitude(ref float values, nuint count)
    {
        const uint Mask = 0x7FFFFFFF;
        ref uint bits = ref Unsafe.As<float, uint>(ref values);
        uint max = 0;
        nuint i = 0;
        if (Vector512.IsHardwareAccelerated && count >= 16)
        {
            Vector512<uint> mask = Vector512.Create(Mask), m0 = Vector512<uint>.Zero, m1 = m0, m2 = m0, m3 = m0;
            for (; i + 64 <= count; i += 64)
            {
                m0 = Vector512.Max(m0, Vector512.LoadUnsafe(ref bits, i) & mask);
                m1 = Vector512.Max(m1, Vector512.LoadUnsafe(ref bits, i + 16) & mask);
                m2 = Vector512.Max(m2, Vector512.LoadUnsafe(ref bits, i + 32) & mask);
                m3 = Vector512.Max(m3, Vector512.LoadUnsafe(ref bits, i + 48) & mask);
            }

            for (; i + 16 <= count; i += 16) m0 = Vector512.Max(m0, Vector512.LoadUnsafe(ref bits, i) & mask);
            m0 = Vector512.Max(Vector512.Max(m0, m1), Vector512.Max(m2, m3));
            max = Largest(Vector256.Max(m0.GetLower(), m0.GetUpper()));
        }
        else if (Vector256.IsHardwareAccelerated && count >= 8)
        {
            Vector256<uint> mask = Vector256.Create(Mask), m0 = Vector256<uint>.Zero, m1 = m0;
            for (; i + 16 <= count; i += 16)
            {
                m0 = Vector256.Max(m0, Vector256.LoadUnsafe(ref bits, i) & mask);
                m1 = Vector256.Max(m1, Vector256.LoadUnsafe(ref bits, i + 8) & mask);
            }

            for (; i + 8 <= count; i += 8) m0 = Vector256.Max(m0, Vector256.LoadUnsafe(ref bits, i) & mask);
            max = Largest(Vector256.Max(m0, m1));
        }

        for (; i < count; i++) max = Math.Max(max, Unsafe.Add(ref bits, i) & Mask);
        return max;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Largest(Vector256<uint> values)
    {
        Vector128<uint> four = Vector128.Max(values.GetLower(), values.GetUpper());
        Vector128<uint> two = Vector128.Max(four, Vector128.Shuffle(four, Vector128.Create(2u, 3, 0, 1)));
        return Math.Max(two[0], two[1]);
    }
}

// Widening bytes by table: all values of the 8-bit formats are BF16, so two 128-entry byte tables (upper and lower half of the
// BF16 of each magnitude code) give 64 values by two instructions, and interleaving their results gives BF16 or singles. What is
// left is limited by the stores. The codes are reordered first so that interleaving within 128-bit lanes puts them in order.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Numerics;

/// <summary>The tables of one 8-bit format.</summary>
internal static class ByteTable<TCodec> where TCodec : struct, ICodec
{
    private static readonly Vector512<byte> Low0 = Half(0, 0), Low1 = Half(64, 0), High0 = Half(0, 8), High1 = Half(64, 8);

    /// <summary>Whether the processor can look up bytes in two 64-byte tables (AVX-512 VBMI).</summary>
    public static bool IsSupported
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Avx512Vbmi.IsSupported && Vector512.IsHardwareAccelerated;
    }

    // HiFloat8 has its NaN where others have the negative zero.
    private static bool NegativeZeroIsNaN
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => typeof(TCodec) == typeof(HiFloat8Codec);
    }

    /// <summary>Widens to BF16 as far as whole vectors go.</summary>
    /// <returns>How many were widened.</returns>
    public static nuint ToBFloat16(ref byte codes, ref byte values, nuint count)
    {
        Vector512<ulong> order = Vector512.Create(0ul, 4, 1, 5, 2, 6, 3, 7);
        Vector512<byte> low0 = Low0, low1 = Low1, high0 = High0, high1 = High1;
        nuint i = 0;
        for (; i + 64 <= count; i += 64)
        {
            Vector512<byte> code = Avx512F.PermuteVar8x64(Vector512.LoadUnsafe(ref codes, i).AsUInt64(), order).AsByte();
            var (low, high) = Look(code, low0, low1, high0, high1);
            Avx512BW.UnpackLow(low, high).StoreUnsafe(ref values, 2 * i);
            Avx512BW.UnpackHigh(low, high).StoreUnsafe(ref values, 2 * i + 64);
        }

        return i;
    }

    /// <summary>Widens to scaled singles as far as whole vectors go.</summary>
    /// <returns>How many were widened.</returns>
    public static nuint ToSingle<TScaling>(ref byte codes, ref float values, nuint count, TScaling scaling) where TScaling : struct, IScaling, allows ref struct
    {
        // Dword 4·lane + d of the reordered codes is dword lane + 4·d: vector d of the four takes dword d of each lane.
        Vector512<uint> order = Vector512.Create(0u, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        Vector512<byte> low0 = Low0, low1 = Low1, high0 = High0, high1 = High1;
        nuint i = 0;
        for (; i + 64 <= count; i += 64)
        {
            Vector512<byte> code = Avx512F.PermuteVar16x32(Vector512.LoadUnsafe(ref codes, i).AsUInt32(), order).AsByte();
            var (low, high) = Look(code, low0, low1, high0, high1);
            Vector512<ushort> first = Avx512BW.UnpackLow(low, high).AsUInt16(), second = Avx512BW.UnpackHigh(low, high).AsUInt16();
            scaling.Apply(Avx512BW.UnpackLow(Vector512<ushort>.Zero, first).AsSingle(), i).StoreUnsafe(ref values, i);
            scaling.Apply(Avx512BW.UnpackHigh(Vector512<ushort>.Zero, first).AsSingle(), i + 16).StoreUnsafe(ref values, i + 16);
            scaling.Apply(Avx512BW.UnpackLow(Vector512<ushort>.Zero, second).AsSingle(), i + 32).StoreUnsafe(ref values, i + 32);
            scaling.Apply(Avx512BW.UnpackHigh(Vector512<ushort>.Zero, second).AsSingle(), i + 48).StoreUnsafe(ref values, i + 48);
        }

        return i;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<byte> Low, Vector512<byte> High) Look(
        Vector512<byte> code, Vector512<byte> low0, Vector512<byte> low1, Vector512<byte> high0, Vector512<byte> high1)
    {
        Vector512<byte> low = Avx512Vbmi.PermuteVar64x8x2(low0, code, low1);
        Vector512<byte> high = Avx512Vbmi.PermuteVar64x8x2(high0, code, high1) | code & Vector512.Create((byte)0x80);
        if (!NegativeZeroIsNaN) return (low, high);
        Vector512<byte> nan = Vector512.Equals(code, Vector512.Create((byte)0x80));
        uint bits = BitConverter.SingleToUInt32Bits(float.NaN);
        low = Vector512.ConditionalSelect(nan, Vector512.Create((byte)(bits >> 16)), low);
        return (low, Vector512.ConditionalSelect(nan, Vector512.Create((byte)(bits >> 24)), high));
    }

    private static Vector512<byte> Half(int first, int shift)
    {
        var table = new byte[64];
        for (int i = 0; i < table.Length; i++)
            table[i] = (byte)(BitConverter.SingleToUInt32Bits(TCodec.Decode((uint)(first + i))) >> (16 + shift));
        return Vector512.Create(table);
    }
}

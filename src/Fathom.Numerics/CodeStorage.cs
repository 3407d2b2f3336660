// How codes lie in memory, and their way into the 32-bit lanes in which codecs work. 12-bit codes are packed in pairs, three bytes
// each: the first value in the low bits, little-endian. An odd last value takes two bytes, whose upper four bits are zero.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Numerics;

/// <summary>Codes of one width in memory. Indices count values; vectors start at even ones.</summary>
internal interface ICodeStorage
{
    /// <summary>Bytes of some values.</summary>
    static abstract nuint Bytes(nuint values);

    static abstract uint Load(ref byte from, nuint index);

    static abstract Vector256<uint> Load256(ref byte from, nuint index);

    static abstract Vector512<uint> Load512(ref byte from, nuint index);

    static abstract void Store(uint code, ref byte to, nuint index);

    static abstract void Store(Vector256<uint> codes, ref byte to, nuint index);

    static abstract void Store(Vector512<uint> codes, ref byte to, nuint index);

    /// <summary>Stores four vectors one after the other, where that costs less than each alone.</summary>
    static virtual void Store(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c, Vector512<uint> d, ref byte to, nuint index) =>
        throw new NotSupportedException();

    /// <summary>Whether it costs less.</summary>
    static virtual bool StoresFour => false;
}

/// <summary>A byte a code.</summary>
internal readonly struct ByteCodes : ICodeStorage
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static nuint Bytes(nuint values) => values;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Load(ref byte from, nuint index) => Unsafe.Add(ref from, index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> Load256(ref byte from, nuint index)
    {
        ulong eight = Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref from, index));
        return Vector256.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(eight).AsByte()).ToVector256Unsafe());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Load512(ref byte from, nuint index)
    {
        Vector128<byte> codes = Vector128.LoadUnsafe(ref from, index);
        if (Avx512F.IsSupported) return Avx512F.ConvertToVector512UInt32(codes);
        return Vector512.WidenLower(Vector256.WidenLower(codes.ToVector256Unsafe()).ToVector512Unsafe());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(uint code, ref byte to, nuint index) => Unsafe.Add(ref to, index) = (byte)code;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector256<uint> codes, ref byte to, nuint index)
    {
        Vector128<ushort> half = Vector128.Narrow(codes.GetLower(), codes.GetUpper());
        Unsafe.WriteUnaligned(ref Unsafe.Add(ref to, index), Vector128.Narrow(half, half).AsUInt64().ToScalar());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector512<uint> codes, ref byte to, nuint index)
    {
        if (Avx512F.IsSupported)
        {
            Avx512F.ConvertToVector128Byte(codes).StoreUnsafe(ref to, index);
            return;
        }

        Vector256<ushort> half = Vector256.Narrow(codes.GetLower(), codes.GetUpper());
        Vector128.Narrow(half.GetLower(), half.GetUpper()).StoreUnsafe(ref to, index);
    }

    public static bool StoresFour
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Avx512BW.IsSupported;
    }

    // Packing works within 128-bit lanes: lane l then holds dword l of a, b, c and d.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c, Vector512<uint> d, ref byte to, nuint index)
    {
        Vector512<short> ab = Avx512BW.PackUnsignedSaturate(a.AsInt32(), b.AsInt32()).AsInt16();
        Vector512<short> cd = Avx512BW.PackUnsignedSaturate(c.AsInt32(), d.AsInt32()).AsInt16();
        Vector512<uint> order = Vector512.Create(0u, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        Avx512F.PermuteVar16x32(Avx512BW.PackUnsignedSaturate(ab, cd).AsUInt32(), order).AsByte().StoreUnsafe(ref to, index);
    }
}

/// <summary>Two bytes a code.</summary>
internal readonly struct WordCodes : ICodeStorage
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static nuint Bytes(nuint values) => 2 * values;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Load(ref byte from, nuint index) => Unsafe.ReadUnaligned<ushort>(ref Unsafe.Add(ref from, 2 * index));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> Load256(ref byte from, nuint index) =>
        Vector256.WidenLower(Vector128.LoadUnsafe(ref from, 2 * index).AsUInt16().ToVector256Unsafe());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Load512(ref byte from, nuint index) =>
        Vector512.WidenLower(Vector256.LoadUnsafe(ref from, 2 * index).AsUInt16().ToVector512Unsafe());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(uint code, ref byte to, nuint index) => Unsafe.WriteUnaligned(ref Unsafe.Add(ref to, 2 * index), (ushort)code);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector256<uint> codes, ref byte to, nuint index) =>
        Vector128.Narrow(codes.GetLower(), codes.GetUpper()).AsByte().StoreUnsafe(ref to, 2 * index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector512<uint> codes, ref byte to, nuint index) =>
        Vector256.Narrow(codes.GetLower(), codes.GetUpper()).AsByte().StoreUnsafe(ref to, 2 * index);
}

/// <summary>Two 12-bit codes in three bytes.</summary>
internal readonly struct PackedCodes : ICodeStorage
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static nuint Bytes(nuint values) => (3 * values + 1) / 2;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Load(ref byte from, nuint index)
    {
        uint word = Unsafe.ReadUnaligned<ushort>(ref Unsafe.Add(ref from, 3 * index / 2));
        return (index & 1) == 0 ? word & 0xFFF : word >> 4;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> Load256(ref byte from, nuint index)
    {
        ref byte at = ref Unsafe.Add(ref from, 3 * index / 2);
        Vector128<byte> twelve = Vector128.Create(Unsafe.ReadUnaligned<ulong>(ref at), Unsafe.ReadUnaligned<uint>(ref Unsafe.Add(ref at, 8))).AsByte();
        Vector128<byte> low = Vector128.Shuffle(twelve, Vector128.Create((byte)0, 1, 15, 15, 1, 2, 15, 15, 3, 4, 15, 15, 4, 5, 15, 15));
        Vector128<byte> high = Vector128.Shuffle(twelve, Vector128.Create((byte)6, 7, 15, 15, 7, 8, 15, 15, 9, 10, 15, 15, 10, 11, 15, 15));
        Vector256<uint> words = Vector256.Create(low, high).AsUInt32();
        return Vector256.ConditionalSelect(Vector256.Create(0xFFFFFFFFul).AsUInt32(), words & Vector256.Create(0xFFFu), words >>> 4);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Load512(ref byte from, nuint index)
    {
        if (!Avx512Vbmi.IsSupported) return Vector512.Create(Load256(ref from, index), Load256(ref from, index + 8));
        ref byte at = ref Unsafe.Add(ref from, 3 * index / 2);
        Vector128<byte> last = Vector128.CreateScalar(Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref at, 16))).AsByte();
        Vector512<byte> bytes = Vector256.Create(Vector128.LoadUnsafe(ref at), last).ToVector512();
        Vector512<byte> order = Vector512.Create(
            (byte)0, 1, 63, 63, 1, 2, 63, 63, 3, 4, 63, 63, 4, 5, 63, 63, 6, 7, 63, 63, 7, 8, 63, 63, 9, 10, 63, 63, 10, 11, 63, 63,
            12, 13, 63, 63, 13, 14, 63, 63, 15, 16, 63, 63, 16, 17, 63, 63, 18, 19, 63, 63, 19, 20, 63, 63, 21, 22, 63, 63, 22, 23, 63, 63);
        Vector512<uint> words = Avx512Vbmi.PermuteVar64x8(bytes, order).AsUInt32();
        return Vector512.ConditionalSelect(Vector512.Create(0xFFFFFFFFul).AsUInt32(), words & Vector512.Create(0xFFFu), words >>> 4);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(uint code, ref byte to, nuint index)
    {
        ref byte at = ref Unsafe.Add(ref to, 3 * index / 2);
        if ((index & 1) == 0)
        {
            Unsafe.WriteUnaligned(ref at, (ushort)code);
        }
        else
        {
            at = (byte)(at & 0xFu | code << 4);
            Unsafe.Add(ref at, 1) = (byte)(code >> 4);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector256<uint> codes, ref byte to, nuint index)
    {
        Vector256<byte> pairs = Pairs(codes.AsUInt64()).AsByte();
        Vector128<byte> six = Vector128.Create((byte)0, 1, 2, 8, 9, 10, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15);
        ulong low = Vector128.Shuffle(pairs.GetLower(), six).AsUInt64().ToScalar();
        ulong high = Vector128.Shuffle(pairs.GetUpper(), six).AsUInt64().ToScalar();
        ref byte at = ref Unsafe.Add(ref to, 3 * index / 2);
        Unsafe.WriteUnaligned(ref at, low | high << 48);
        Unsafe.WriteUnaligned(ref Unsafe.Add(ref at, 8), (uint)(high >> 16));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector512<uint> codes, ref byte to, nuint index)
    {
        if (!Avx512Vbmi.IsSupported)
        {
            Store(codes.GetLower(), ref to, index);
            Store(codes.GetUpper(), ref to, index + 8);
            return;
        }

        Vector512<ulong> pairs = codes.AsUInt64();
        pairs = (pairs | pairs >>> 20) & Vector512.Create(0xFFFFFFul);
        Vector512<byte> order = Vector512.Create(
            (byte)0, 1, 2, 8, 9, 10, 16, 17, 18, 24, 25, 26, 32, 33, 34, 40, 41, 42, 48, 49, 50, 56, 57, 58, 63, 63, 63, 63, 63, 63, 63, 63,
            63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63);
        Vector512<byte> packed = Avx512Vbmi.PermuteVar64x8(pairs.AsByte(), order);
        ref byte at = ref Unsafe.Add(ref to, 3 * index / 2);
        packed.GetLower().GetLower().StoreUnsafe(ref at);
        Unsafe.WriteUnaligned(ref Unsafe.Add(ref at, 16), packed.GetLower().GetUpper().AsUInt64().ToScalar());
    }

    // The upper code of a pair next to the lower one; bytes 3 and up are zero.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<ulong> Pairs(Vector256<ulong> codes) => (codes | codes >>> 20) & Vector256.Create(0xFFFFFFul);
}

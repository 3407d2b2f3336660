// Moving 8- and 16-bit codes into and out of the 32-bit lanes that the conversions work on, and the operations themselves as
// type arguments of the drivers in NumberFormats.cs.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Fathom.Numerics;

public static partial class NumberFormats
{
    /// <summary>One format's conversion of codes in 32-bit lanes; the upper bits of a lane are zero.</summary>
    private interface IConversion
    {
        static abstract float Decode(uint code);

        static abstract Vector256<float> Decode(Vector256<uint> code);

        static abstract Vector512<float> Decode(Vector512<uint> code);

        static abstract uint Encode(float value, bool saturate);

        static abstract Vector256<uint> Encode(Vector256<float> value, bool saturate);

        static abstract Vector512<uint> Encode(Vector512<float> value, bool saturate);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint ToCode<T>(T value) where T : unmanaged =>
        typeof(T) == typeof(byte) ? Unsafe.BitCast<T, byte>(value) : Unsafe.BitCast<T, ushort>(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T FromCode<T>(uint code) where T : unmanaged =>
        typeof(T) == typeof(byte) ? Unsafe.BitCast<byte, T>((byte)code) : Unsafe.BitCast<ushort, T>((ushort)code);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Load512<T>(ref T from, nuint index) where T : unmanaged
    {
        Vector256<ushort> half = typeof(T) == typeof(byte)
            ? Vector256.WidenLower(Vector128.LoadUnsafe(ref Unsafe.As<T, byte>(ref from), index).ToVector256Unsafe())
            : Vector256.LoadUnsafe(ref Unsafe.As<T, ushort>(ref from), index);
        return Vector512.WidenLower(half.ToVector512Unsafe());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> Load256<T>(ref T from, nuint index) where T : unmanaged
    {
        Vector128<ushort> half;
        if (typeof(T) == typeof(byte))
        {
            ulong eight = Unsafe.ReadUnaligned<ulong>(ref Unsafe.As<T, byte>(ref Unsafe.Add(ref from, index)));
            half = Vector128.WidenLower(Vector128.CreateScalarUnsafe(eight).AsByte());
        }
        else
        {
            half = Vector128.LoadUnsafe(ref Unsafe.As<T, ushort>(ref from), index);
        }

        return Vector256.WidenLower(half.ToVector256Unsafe());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<T>(Vector512<uint> codes, ref T to, nuint index) where T : unmanaged
    {
        Vector256<ushort> half = Vector256.Narrow(codes.GetLower(), codes.GetUpper());
        if (typeof(T) == typeof(byte))
            Vector128.Narrow(half.GetLower(), half.GetUpper()).StoreUnsafe(ref Unsafe.As<T, byte>(ref to), index);
        else
            half.StoreUnsafe(ref Unsafe.As<T, ushort>(ref to), index);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<T>(Vector256<uint> codes, ref T to, nuint index) where T : unmanaged
    {
        Vector128<ushort> half = Vector128.Narrow(codes.GetLower(), codes.GetUpper());
        if (typeof(T) == typeof(byte))
        {
            ulong eight = Vector128.Narrow(half, half).AsUInt64().ToScalar();
            Unsafe.WriteUnaligned(ref Unsafe.As<T, byte>(ref Unsafe.Add(ref to, index)), eight);
        }
        else
        {
            half.StoreUnsafe(ref Unsafe.As<T, ushort>(ref to), index);
        }
    }

    private readonly struct SmallFloatOperation<TLayout> : IConversion where TLayout : struct, ISmallFloatLayout
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static float Decode(uint code) => SmallFloat<TLayout>.Decode(code);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<float> Decode(Vector256<uint> code) => SmallFloat<TLayout>.Decode(code);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Decode(Vector512<uint> code) => SmallFloat<TLayout>.Decode(code);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static uint Encode(float value, bool saturate) => SmallFloat<TLayout>.Encode(value, saturate);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<uint> Encode(Vector256<float> value, bool saturate) => SmallFloat<TLayout>.Encode(value, saturate);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Encode(Vector512<float> value, bool saturate) => SmallFloat<TLayout>.Encode(value, saturate);
    }

    private readonly struct BFloat16Operation : IConversion
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static float Decode(uint code) => BitConverter.UInt32BitsToSingle(code << 16);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<float> Decode(Vector256<uint> code) => (code << 16).AsSingle();

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Decode(Vector512<uint> code) => (code << 16).AsSingle();

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static uint Encode(float value, bool saturate) => BFloat16.Narrow(BitConverter.SingleToUInt32Bits(value));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<uint> Encode(Vector256<float> value, bool saturate)
        {
            Vector256<uint> bits = value.AsUInt32();
            Vector256<uint> high = bits >>> 16;
            Vector256<uint> rounded = (bits + Vector256.Create(0x7FFFu) + (high & Vector256<uint>.One)) >>> 16;
            return Vector256.ConditionalSelect(Vector256.Equals(value, value).AsUInt32(), rounded, high | Vector256.Create(0x40u));
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Encode(Vector512<float> value, bool saturate)
        {
            Vector512<uint> bits = value.AsUInt32();
            Vector512<uint> high = bits >>> 16;
            Vector512<uint> rounded = (bits + Vector512.Create(0x7FFFu) + (high & Vector512<uint>.One)) >>> 16;
            return Vector512.ConditionalSelect(Vector512.Equals(value, value).AsUInt32(), rounded, high | Vector512.Create(0x40u));
        }
    }
}

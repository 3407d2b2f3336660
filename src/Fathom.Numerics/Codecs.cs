// What the drivers need to know of a number format: one value, eight or sixteen at a time, as type arguments that the compiler
// folds in. Codes stand in 32-bit lanes here; how they lie in memory is CodeStorage.cs.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Fathom.Numerics;

/// <summary>One format's conversion of codes in 32-bit lanes; the upper bits of a lane are zero.</summary>
internal interface ICodec
{
    static abstract float Decode(uint code);

    static abstract Vector256<float> Decode(Vector256<uint> code);

    static abstract Vector512<float> Decode(Vector512<uint> code);

    static abstract uint Encode(float value, bool saturate);

    static abstract Vector256<uint> Encode(Vector256<float> value, bool saturate);

    static abstract Vector512<uint> Encode(Vector512<float> value, bool saturate);
}

/// <summary>IEEE-like formats.</summary>
internal readonly struct SmallFloatCodec<TLayout> : ICodec where TLayout : struct, ISmallFloatLayout
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

/// <summary>BF16; it does not saturate.</summary>
internal readonly struct BFloat16Codec : ICodec
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

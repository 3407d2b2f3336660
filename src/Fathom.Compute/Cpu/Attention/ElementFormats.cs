// Element type as a type argument, so that weights and caches are read as F32 or BF16 by the same kernels.
using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Attention;

/// <summary>How elements of an operand are read as F32. Addresses are in bytes.</summary>
internal unsafe interface IElementFormat
{
    /// <summary>Bytes of an element.</summary>
    static abstract int Size { get; }

    /// <summary>Reads one vector of elements.</summary>
    static abstract TVector Load<TSimd, TVector>(byte* source) where TSimd : struct, ISimd<TVector> where TVector : struct;

    /// <summary>Reads one element.</summary>
    static abstract float Scalar(byte* source);
}

/// <summary>IEEE single precision.</summary>
internal readonly unsafe struct FormatF32 : IElementFormat
{
    public static int Size => sizeof(float);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TSimd, TVector>(byte* source) where TSimd : struct, ISimd<TVector> where TVector : struct =>
        TSimd.Load((float*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Scalar(byte* source) => *(float*)source;
}

/// <summary>bfloat16, the upper half of a single.</summary>
internal readonly unsafe struct FormatBF16 : IElementFormat
{
    public static int Size => sizeof(ushort);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TSimd, TVector>(byte* source) where TSimd : struct, ISimd<TVector> where TVector : struct =>
        TSimd.LoadBF16((ushort*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Scalar(byte* source) => BitConverter.UInt32BitsToSingle((uint)*(ushort*)source << 16);
}

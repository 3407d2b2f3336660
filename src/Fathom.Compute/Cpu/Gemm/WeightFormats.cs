// Element formats that weight matrices come in. BF16 is expanded as it is read, in packing or in a kernel's register, and so are 8-bit
// codes, in the kernels of few rows: their values are exact singles, NaN among them, and scales are none of the kernels' business.
using System.Runtime.CompilerServices;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Reads elements of one format as F32.</summary>
internal unsafe interface IWeightFormat
{
    /// <summary>Bytes of an element.</summary>
    static abstract int Size { get; }

    static abstract float LoadOne(byte* source);

    /// <summary>Reads one vector.</summary>
    static abstract TVector Load<TVector, TWidth>(byte* source)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector>;
}

/// <summary>Singles.</summary>
internal readonly unsafe struct SingleFormat : IWeightFormat
{
    public static int Size => sizeof(float);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source) => *(float*)source;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TVector, TWidth>(byte* source)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => TWidth.Load((float*)source);
}

/// <summary>The upper halves of singles.</summary>
internal readonly unsafe struct BFloat16Format : IWeightFormat
{
    public static int Size => sizeof(ushort);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source) => BitConverter.UInt32BitsToSingle((uint)*(ushort*)source << 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TVector, TWidth>(byte* source)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => TWidth.LoadBF16((ushort*)source);
}

/// <summary>A format of 8-bit codes.</summary>
internal interface ICodeFormat : IWeightFormat
{
    /// <summary>Whether the code 0x80 is NaN and not the negative zero.</summary>
    static abstract bool NegativeZeroIsNaN { get; }

    /// <summary>The value of a code.</summary>
    static abstract float Value(byte code);
}

/// <summary>E4M3.</summary>
internal readonly unsafe struct E4M3Format : ICodeFormat
{
    public static int Size => sizeof(byte);

    public static bool NegativeZeroIsNaN => false;

    public static float Value(byte code) => Float8E4M3.FromBits(code);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source) => CodeTable<E4M3Format>.Values[*source];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TVector, TWidth>(byte* source)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => TWidth.LoadE4M3(source);
}

/// <summary>HiFloat8.</summary>
internal readonly unsafe struct HiFloat8Format : ICodeFormat
{
    public static int Size => sizeof(byte);

    public static bool NegativeZeroIsNaN => true;

    public static float Value(byte code) => HiFloat8.FromBits(code);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source) => CodeTable<HiFloat8Format>.Values[*source];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TVector, TWidth>(byte* source)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => TWidth.LoadFromTable(CodeTable<HiFloat8Format>.Values, source);
}

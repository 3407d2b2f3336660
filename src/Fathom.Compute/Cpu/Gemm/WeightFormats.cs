// Element formats that weight matrices come in. BF16 is expanded as it is read, in packing or in a kernel's register.
using System.Runtime.CompilerServices;

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

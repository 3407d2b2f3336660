// Element formats that weight matrices come in. BF16 is expanded as it is read, in packing or in a kernel's register, and so are 8-bit
// codes, in the kernels of few rows.
using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Reads elements of one format as F32.</summary>
internal unsafe interface IWeightFormat
{
    /// <summary>Bytes of an element.</summary>
    static abstract int Size { get; }

    /// <summary>Elements are read as numbers that are too small by so many powers of two.</summary>
    static abstract int Shift { get; }

    /// <summary>Reads one element.</summary>
    static abstract float LoadOne(byte* source);

    /// <summary>Reads one vector.</summary>
    static abstract TVector Load<TVector, TWidth>(byte* source)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector>;

    /// <summary>Notes in a vector what must be looked at again, of a cache line of elements.</summary>
    static virtual TVector Watch<TVector, TWidth>(byte* line, TVector watch)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => watch;

    /// <summary>Whether the vector says that something must be looked at again.</summary>
    static virtual bool Saw<TVector, TWidth>(TVector watch)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => false;

    /// <summary>Whether a row holds a NaN that is read as a number.</summary>
    static virtual bool HoldsNaN(byte* row, nint elements) => false;
}

/// <summary>Singles.</summary>
internal readonly unsafe struct SingleFormat : IWeightFormat
{
    public static int Size => sizeof(float);

    public static int Shift => 0;

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

    public static int Shift => 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source) => BitConverter.UInt32BitsToSingle((uint)*(ushort*)source << 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TVector, TWidth>(byte* source)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => TWidth.LoadBF16((ushort*)source);
}

/// <summary>
/// E4M3 codes as numbers that are too small: the bits in a single's place, sign apart, are the value times 2^-120, subnormals included,
/// so expanding takes a shift and a mask. The code of NaN reads as 480, so kernels look out for it: doubled modulo 256 it is the
/// largest byte that there is, whatever its sign, and an addition and a maximum find it among 64 codes.
/// </summary>
internal readonly unsafe struct E4M3Format : IWeightFormat
{
    /// <summary>The code of NaN, without its sign.</summary>
    public const byte NaN = 0x7F;

    private const int Place = 20, Mask = unchecked((int)0x87F00000);

    public static int Size => sizeof(byte);

    public static int Shift => 120;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source) => BitConverter.Int32BitsToSingle((sbyte)*source << Place & Mask);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TVector, TWidth>(byte* source)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => TWidth.LoadBytes(source, Place, Mask);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Watch<TVector, TWidth>(byte* line, TVector watch)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector>
    {
        for (int at = 0; at < 64; at += 4 * TWidth.Count) watch = TWidth.LargestDoubled(line + at, watch);
        return watch;
    }

    public static bool Saw<TVector, TWidth>(TVector watch)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => TWidth.AnyByte(watch, unchecked((byte)(2 * NaN)));

    public static bool HoldsNaN(byte* row, nint elements) => new ReadOnlySpan<byte>(row, checked((int)elements)).ContainsAny(NaN, (byte)(NaN | 0x80));
}

/// <summary>HiFloat8, whose precision tapers: values from a table.</summary>
internal readonly unsafe struct HiFloat8Format : IWeightFormat
{
    public static int Size => sizeof(byte);

    public static int Shift => 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* source) => HiFloat8Table.Values[*source];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Load<TVector, TWidth>(byte* source)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => TWidth.LoadFromTable(HiFloat8Table.Values, source);
}

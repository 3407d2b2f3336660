// Vector width as a type argument: a kernel is written once over IVectorWidth and the JIT makes one body for each width. The
// vectors themselves stay the platform's own types, so that they live in registers.
// E4M3 bits in a single's place, sign apart, are the value times 2^-120, subnormals included, so a product with 2^120 gives the value;
// only the code that would be 480 is NaN.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>The few vector operations that products need, at one width.</summary>
/// <typeparam name="TVector">The vector of F32 lanes.</typeparam>
internal unsafe interface IVectorWidth<TVector> where TVector : struct
{
    /// <summary>Lanes of a vector.</summary>
    static abstract int Count { get; }

    static abstract TVector Zero { get; }

    static abstract TVector Load(float* source);

    /// <summary>Reads as many BF16 as there are lanes and expands them.</summary>
    static abstract TVector LoadBF16(ushort* source);

    /// <summary>Reads as many E4M3 codes as there are lanes and expands them.</summary>
    static abstract TVector LoadE4M3(byte* source);

    /// <summary>Reads as many 8-bit codes as there are lanes and looks them up.</summary>
    /// <param name="table">[256].</param>
    /// <param name="source">The codes.</param>
    static abstract TVector LoadFromTable(float* table, byte* source);

    static abstract void Store(TVector vector, float* destination);

    static abstract TVector Broadcast(float value);

    static abstract TVector Add(TVector left, TVector right);

    /// <summary>a b + c, rounded once where the processor can.</summary>
    static abstract TVector MultiplyAdd(TVector a, TVector b, TVector c);

    /// <summary>Sum of the lanes, in an order that is fixed for the width.</summary>
    static abstract float Sum(TVector vector);
}

/// <summary>16 lanes (AVX-512).</summary>
internal readonly unsafe struct Width512 : IVectorWidth<Vector512<float>>
{
    public static int Count => 16;

    public static Vector512<float> Zero => Vector512<float>.Zero;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Load(float* source) => Vector512.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadBF16(ushort* source)
    {
        Vector256<ushort> bits = Vector256.Load(source);
        return Vector512.ShiftLeft(Avx512F.ConvertToVector512UInt32(bits), 16).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadE4M3(byte* source)
    {
        Vector512<int> bits = Avx512F.ConvertToVector512Int32(Vector128.Load((sbyte*)source)) << 20 & Vector512.Create(unchecked((int)0x87F00000));
        Vector512<int> nan = Vector512.Equals(bits & Vector512.Create(0x7FFFFFFF), Vector512.Create(0x07F00000));
        return bits.AsSingle() * Vector512.Create(CodeTable.E4M3Rescale) | nan.AsSingle();
    }

    // No gather of 512 bits is exposed.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadFromTable(float* table, byte* source) =>
        Vector512.Create(Width256.LoadFromTable(table, source), Width256.LoadFromTable(table, source + 8));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector512<float> vector, float* destination) => vector.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Broadcast(float value) => Vector512.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Add(Vector512<float> left, Vector512<float> right) => left + right;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> MultiplyAdd(Vector512<float> a, Vector512<float> b, Vector512<float> c) => Vector512.FusedMultiplyAdd(a, b, c);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector512<float> vector) => Width256.Sum(vector.GetLower() + vector.GetUpper());
}

/// <summary>8 lanes (AVX2).</summary>
internal readonly unsafe struct Width256 : IVectorWidth<Vector256<float>>
{
    public static int Count => 8;

    public static Vector256<float> Zero => Vector256<float>.Zero;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Load(float* source) => Vector256.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LoadBF16(ushort* source)
    {
        Vector128<ushort> bits = Vector128.Load(source);
        return Vector256.ShiftLeft(Avx2.ConvertToVector256Int32(bits), 16).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LoadE4M3(byte* source)
    {
        Vector256<int> bits = Avx2.ConvertToVector256Int32((sbyte*)source) << 20 & Vector256.Create(unchecked((int)0x87F00000));
        Vector256<int> nan = Vector256.Equals(bits & Vector256.Create(0x7FFFFFFF), Vector256.Create(0x07F00000));
        return bits.AsSingle() * Vector256.Create(CodeTable.E4M3Rescale) | nan.AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LoadFromTable(float* table, byte* source) => Avx2.GatherVector256(table, Avx2.ConvertToVector256Int32(source), sizeof(float));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector256<float> vector, float* destination) => vector.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Broadcast(float value) => Vector256.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Add(Vector256<float> left, Vector256<float> right) => left + right;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> MultiplyAdd(Vector256<float> a, Vector256<float> b, Vector256<float> c) => Vector256.FusedMultiplyAdd(a, b, c);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector256<float> vector) => Width128.Sum(vector.GetLower() + vector.GetUpper());
}

/// <summary>4 lanes: every platform.</summary>
internal readonly unsafe struct Width128 : IVectorWidth<Vector128<float>>
{
    public static int Count => 4;

    public static Vector128<float> Zero => Vector128<float>.Zero;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Load(float* source) => Vector128.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LoadBF16(ushort* source) =>
        Vector128.ShiftLeft(Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<ulong>(source)).AsUInt16()), 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LoadE4M3(byte* source) => LoadFromTable(CodeTable<E4M3Format>.Values, source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LoadFromTable(float* table, byte* source) =>
        Vector128.Create(table[source[0]], table[source[1]], table[source[2]], table[source[3]]);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector128<float> vector, float* destination) => vector.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Broadcast(float value) => Vector128.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Add(Vector128<float> left, Vector128<float> right) => left + right;

    // FusedMultiplyAdd is a library call for each lane where the processor has no such instruction; this one never is.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> MultiplyAdd(Vector128<float> a, Vector128<float> b, Vector128<float> c) => Vector128.MultiplyAddEstimate(a, b, c);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector128<float> vector) => Vector128.Sum(vector);
}

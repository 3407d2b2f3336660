// Vector width as a type argument: a kernel is written once over IVectorWidth and the JIT makes one body for each width. The
// vectors themselves stay the platform's own types, so that they live in registers.
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

    /// <summary>Reads as many bytes as there are lanes and extends their signs, shifts them up and keeps some bits.</summary>
    static abstract TVector LoadBytes(byte* source, int shift, int mask);

    /// <summary>The larger of bytes and twice the codes at a place, modulo 256, as many as four vectors hold lanes.</summary>
    static abstract TVector LargestDoubled(byte* source, TVector largest);

    /// <summary>Whether any byte has a value.</summary>
    static abstract bool AnyByte(TVector bytes, byte value);

    /// <summary>Reads as many 8-bit codes as there are lanes and looks them up.</summary>
    /// <param name="table">[256].</param>
    /// <param name="source">The codes.</param>
    static abstract TVector LoadFromTable(float* table, byte* source);

    static abstract void Store(TVector vector, float* destination);

    static abstract TVector Broadcast(float value);

    static abstract TVector Add(TVector left, TVector right);

    /// <summary>a b + c, rounded once where the processor can.</summary>
    static abstract TVector MultiplyAdd(TVector a, TVector b, TVector c);

    /// <summary>The larger magnitudes of values and of magnitudes so far; infinity and NaN are above all.</summary>
    static abstract TVector LargerMagnitude(TVector values, TVector magnitudes);

    /// <summary>Sum of the lanes, in an order that is fixed for the width.</summary>
    static abstract float Sum(TVector vector);

    /// <summary>The sums of the lanes of four vectors, each in an order that is fixed for the width.</summary>
    static abstract Vector128<float> Sum4(TVector a, TVector b, TVector c, TVector d);

    /// <summary>The sums of <see cref="Sum4"/> for two rows of four vectors: sums[stride m + j] of vector m j, with the same bits.</summary>
    static abstract void Sum2x4(TVector v00, TVector v01, TVector v02, TVector v03, TVector v10, TVector v11, TVector v12, TVector v13, float* sums, nint stride);

    /// <summary>The same for four rows of four vectors.</summary>
    static abstract void Sum4x4(
        TVector v00, TVector v01, TVector v02, TVector v03, TVector v10, TVector v11, TVector v12, TVector v13,
        TVector v20, TVector v21, TVector v22, TVector v23, TVector v30, TVector v31, TVector v32, TVector v33, float* sums, nint stride);
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
    public static Vector512<float> LoadBytes(byte* source, int shift, int mask) =>
        (Avx512F.ConvertToVector512Int32(Vector128.Load((sbyte*)source)) << shift & Vector512.Create(mask)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LargestDoubled(byte* source, Vector512<float> largest)
    {
        Vector512<byte> codes = Vector512.Load(source);
        return Vector512.Max(codes + codes, largest.AsByte()).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool AnyByte(Vector512<float> bytes, byte value) => Vector512.EqualsAny(bytes.AsByte(), Vector512.Create(value));

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

    // As integers magnitudes are ordered like their values.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LargerMagnitude(Vector512<float> values, Vector512<float> magnitudes) =>
        Vector512.Max(values.AsUInt32() & Vector512.Create(0x7FFFFFFFu), magnitudes.AsUInt32()).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector512<float> vector) => Width256.Sum(vector.GetLower() + vector.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Sum4(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d) =>
        Width256.Sum4(a.GetLower() + a.GetUpper(), b.GetLower() + b.GetUpper(), c.GetLower() + c.GetUpper(), d.GetLower() + d.GetUpper());

    // The halves, quarters and eighths of several vectors lie side by side in one and are added at once: half as many instructions as by fours.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Sum2x4(
        Vector512<float> v00, Vector512<float> v01, Vector512<float> v02, Vector512<float> v03,
        Vector512<float> v10, Vector512<float> v11, Vector512<float> v12, Vector512<float> v13, float* sums, nint stride)
    {
        Vector512<float> y01 = Quarters(Halves(v00, v10), Halves(v01, v11)), y23 = Quarters(Halves(v02, v12), Halves(v03, v13)); // 00 10 01 11; 02 12 03 13
        Vector512<float> z = Avx512F.UnpackLow(y01, y23) + Avx512F.UnpackHigh(y01, y23); // of both rows: eighths of 0 and 2, then of 1 and 3
        Vector256<float> even = z.GetLower(), odd = z.GetUpper();
        Vector256<float> rows = Avx.UnpackLow(even, odd) + Avx.UnpackHigh(even, odd);
        rows.GetLower().Store(sums);
        rows.GetUpper().Store(sums + stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Sum4x4(
        Vector512<float> v00, Vector512<float> v01, Vector512<float> v02, Vector512<float> v03, Vector512<float> v10, Vector512<float> v11, Vector512<float> v12, Vector512<float> v13,
        Vector512<float> v20, Vector512<float> v21, Vector512<float> v22, Vector512<float> v23, Vector512<float> v30, Vector512<float> v31, Vector512<float> v32, Vector512<float> v33, float* sums, nint stride)
    {
        Vector512<float> y0 = Quarters(Halves(v00, v10), Halves(v20, v30)), y1 = Quarters(Halves(v01, v11), Halves(v21, v31));
        Vector512<float> y2 = Quarters(Halves(v02, v12), Halves(v22, v32)), y3 = Quarters(Halves(v03, v13), Halves(v23, v33));
        Vector512<float> z01 = Avx512F.UnpackLow(y0, y1) + Avx512F.UnpackHigh(y0, y1), z23 = Avx512F.UnpackLow(y2, y3) + Avx512F.UnpackHigh(y2, y3);
        Vector512<float> rows = Avx512F.Shuffle(z01, z23, 0x44) + Avx512F.Shuffle(z01, z23, 0xEE);
        rows.GetLower().GetLower().Store(sums);
        rows.GetLower().GetUpper().Store(sums + stride);
        rows.GetUpper().GetLower().Store(sums + 2 * stride);
        rows.GetUpper().GetUpper().Store(sums + 3 * stride);
    }

    /// <summary>[8 sums of a, 8 sums of b].</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Halves(Vector512<float> a, Vector512<float> b) => Avx512F.Shuffle4x128(a, b, 0x44) + Avx512F.Shuffle4x128(a, b, 0xEE);

    /// <summary>Four sums of each of the four halves in a and b, in their order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Quarters(Vector512<float> a, Vector512<float> b) => Avx512F.Shuffle4x128(a, b, 0x88) + Avx512F.Shuffle4x128(a, b, 0xDD);
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
    public static Vector256<float> LoadBytes(byte* source, int shift, int mask) =>
        (Avx2.ConvertToVector256Int32((sbyte*)source) << shift & Vector256.Create(mask)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LargestDoubled(byte* source, Vector256<float> largest)
    {
        Vector256<byte> codes = Vector256.Load(source);
        return Vector256.Max(codes + codes, largest.AsByte()).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool AnyByte(Vector256<float> bytes, byte value) => Vector256.EqualsAny(bytes.AsByte(), Vector256.Create(value));

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

    // As integers magnitudes are ordered like their values.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LargerMagnitude(Vector256<float> values, Vector256<float> magnitudes) =>
        Vector256.Max(values.AsUInt32() & Vector256.Create(0x7FFFFFFFu), magnitudes.AsUInt32()).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector256<float> vector) => Width128.Sum(vector.GetLower() + vector.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Sum4(Vector256<float> a, Vector256<float> b, Vector256<float> c, Vector256<float> d) =>
        Width128.Sum4(a.GetLower() + a.GetUpper(), b.GetLower() + b.GetUpper(), c.GetLower() + c.GetUpper(), d.GetLower() + d.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Sum2x4(
        Vector256<float> v00, Vector256<float> v01, Vector256<float> v02, Vector256<float> v03, Vector256<float> v10, Vector256<float> v11, Vector256<float> v12, Vector256<float> v13, float* sums, nint stride)
    {
        Sum4(v00, v01, v02, v03).Store(sums);
        Sum4(v10, v11, v12, v13).Store(sums + stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Sum4x4(
        Vector256<float> v00, Vector256<float> v01, Vector256<float> v02, Vector256<float> v03, Vector256<float> v10, Vector256<float> v11, Vector256<float> v12, Vector256<float> v13,
        Vector256<float> v20, Vector256<float> v21, Vector256<float> v22, Vector256<float> v23, Vector256<float> v30, Vector256<float> v31, Vector256<float> v32, Vector256<float> v33, float* sums, nint stride)
    {
        Sum2x4(v00, v01, v02, v03, v10, v11, v12, v13, sums, stride);
        Sum2x4(v20, v21, v22, v23, v30, v31, v32, v33, sums + 2 * stride, stride);
    }
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
    public static Vector128<float> LoadBytes(byte* source, int shift, int mask) =>
        (Vector128.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<uint>(source)).AsSByte())) << shift & Vector128.Create(mask)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LargestDoubled(byte* source, Vector128<float> largest)
    {
        Vector128<byte> codes = Vector128.Load(source);
        return Vector128.Max(codes + codes, largest.AsByte()).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool AnyByte(Vector128<float> bytes, byte value) => Vector128.EqualsAny(bytes.AsByte(), Vector128.Create(value));

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

    // As integers magnitudes are ordered like their values.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LargerMagnitude(Vector128<float> values, Vector128<float> magnitudes) =>
        Vector128.Max(values.AsUInt32() & Vector128.Create(0x7FFFFFFFu), magnitudes.AsUInt32()).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector128<float> vector) => Vector128.Sum(vector);

    // A transposition on the way: fewer shuffles than four sums one by one.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Sum4(Vector128<float> a, Vector128<float> b, Vector128<float> c, Vector128<float> d)
    {
        if (!Sse.IsSupported) return Vector128.Create(Sum(a), Sum(b), Sum(c), Sum(d));
        Vector128<float> ab = Sse.UnpackLow(a, b) + Sse.UnpackHigh(a, b), cd = Sse.UnpackLow(c, d) + Sse.UnpackHigh(c, d); // a0 + a2, b0 + b2, a1 + a3, b1 + b3
        return Sse.MoveLowToHigh(ab, cd) + Sse.MoveHighToLow(cd, ab);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Sum2x4(
        Vector128<float> v00, Vector128<float> v01, Vector128<float> v02, Vector128<float> v03, Vector128<float> v10, Vector128<float> v11, Vector128<float> v12, Vector128<float> v13, float* sums, nint stride)
    {
        Sum4(v00, v01, v02, v03).Store(sums);
        Sum4(v10, v11, v12, v13).Store(sums + stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Sum4x4(
        Vector128<float> v00, Vector128<float> v01, Vector128<float> v02, Vector128<float> v03, Vector128<float> v10, Vector128<float> v11, Vector128<float> v12, Vector128<float> v13,
        Vector128<float> v20, Vector128<float> v21, Vector128<float> v22, Vector128<float> v23, Vector128<float> v30, Vector128<float> v31, Vector128<float> v32, Vector128<float> v33, float* sums, nint stride)
    {
        Sum2x4(v00, v01, v02, v03, v10, v11, v12, v13, sums, stride);
        Sum2x4(v20, v21, v22, v23, v30, v31, v32, v33, sums + 2 * stride, stride);
    }
}

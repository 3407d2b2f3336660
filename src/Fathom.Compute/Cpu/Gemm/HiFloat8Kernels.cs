// The dot products of FewRowsKernels over HiFloat8 codes, 64 of them at a time (AVX-512 VBMI). What is left of the rows goes through those
// kernels and is added last. Any number of rows gives the same bits, as there.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Dot products with four rows of HiFloat8 codes.</summary>
internal readonly unsafe struct HiFloat8Kernels : IDotKernels<float>
{
    private const int Step = 64;

    /// <inheritdoc/>
    public static int Shift => HiFloat8Format.Shift;

    /// <inheritdoc/>
    public static int Size => HiFloat8Format.Size;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Dot1(nint depth, float* x, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums)
    {
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default;
        HiFloat8Table table = HiFloat8Table.Instance;
        nint i = 0;
        for (; i + Step <= depth; i += Step)
        {
            Expand(table, w0 + i, ahead, out Vector512<float> v0, out Vector512<float> v1, out Vector512<float> v2, out Vector512<float> v3);
            s0 = MultiplyAdd(x + i, v0, v1, v2, v3, s0);
            Expand(table, w1 + i, ahead, out v0, out v1, out v2, out v3);
            s1 = MultiplyAdd(x + i, v0, v1, v2, v3, s1);
            Expand(table, w2 + i, ahead, out v0, out v1, out v2, out v3);
            s2 = MultiplyAdd(x + i, v0, v1, v2, v3, s2);
            Expand(table, w3 + i, ahead, out v0, out v1, out v2, out v3);
            s3 = MultiplyAdd(x + i, v0, v1, v2, v3, s3);
        }

        Width512.Sum4(s0, s1, s2, s3).Store(sums);
        if (i < depth) AddRest(depth - i, x + i, w0 + i, w1 + i, w2 + i, w3 + i, sums);
    }

    /// <inheritdoc/>
    public static void Dot2(nint depth, float* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        Dot1(depth, x, w0, w1, w2, w3, ahead, sums);
        Dot1(depth, x + stride, w0, w1, w2, w3, ahead, sums + strideSums);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Dot4(nint depth, float* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        float* x1 = x + stride, x2 = x1 + stride, x3 = x2 + stride;
        Vector512<float> s00 = default, s01 = default, s02 = default, s03 = default;
        Vector512<float> s10 = default, s11 = default, s12 = default, s13 = default;
        Vector512<float> s20 = default, s21 = default, s22 = default, s23 = default;
        Vector512<float> s30 = default, s31 = default, s32 = default, s33 = default;
        HiFloat8Table table = HiFloat8Table.Instance;
        nint i = 0;
        for (; i + Step <= depth; i += Step)
        {
            Expand(table, w0 + i, ahead, out Vector512<float> v0, out Vector512<float> v1, out Vector512<float> v2, out Vector512<float> v3);
            s00 = MultiplyAdd(x + i, v0, v1, v2, v3, s00);
            s10 = MultiplyAdd(x1 + i, v0, v1, v2, v3, s10);
            s20 = MultiplyAdd(x2 + i, v0, v1, v2, v3, s20);
            s30 = MultiplyAdd(x3 + i, v0, v1, v2, v3, s30);
            Expand(table, w1 + i, ahead, out v0, out v1, out v2, out v3);
            s01 = MultiplyAdd(x + i, v0, v1, v2, v3, s01);
            s11 = MultiplyAdd(x1 + i, v0, v1, v2, v3, s11);
            s21 = MultiplyAdd(x2 + i, v0, v1, v2, v3, s21);
            s31 = MultiplyAdd(x3 + i, v0, v1, v2, v3, s31);
            Expand(table, w2 + i, ahead, out v0, out v1, out v2, out v3);
            s02 = MultiplyAdd(x + i, v0, v1, v2, v3, s02);
            s12 = MultiplyAdd(x1 + i, v0, v1, v2, v3, s12);
            s22 = MultiplyAdd(x2 + i, v0, v1, v2, v3, s22);
            s32 = MultiplyAdd(x3 + i, v0, v1, v2, v3, s32);
            Expand(table, w3 + i, ahead, out v0, out v1, out v2, out v3);
            s03 = MultiplyAdd(x + i, v0, v1, v2, v3, s03);
            s13 = MultiplyAdd(x1 + i, v0, v1, v2, v3, s13);
            s23 = MultiplyAdd(x2 + i, v0, v1, v2, v3, s23);
            s33 = MultiplyAdd(x3 + i, v0, v1, v2, v3, s33);
        }

        Width512.Sum4x4(s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33, sums, strideSums);
        if (i == depth) return;
        for (int m = 0; m < 4; m++) AddRest(depth - i, x + m * stride + i, w0 + i, w1 + i, w2 + i, w3 + i, sums + m * strideSums);
    }

    // The tables take the registers that more sums would need.
    /// <inheritdoc/>
    public static void Dot6(nint depth, float* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        Dot4(depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);
        Dot2(depth, x + 4 * stride, stride, w0, w1, w2, w3, ahead, sums + 4 * strideSums, strideSums);
    }

    /// <summary>Expands 64 codes, and asks for what lies further on.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Expand(
        in HiFloat8Table table, byte* codes, nint ahead,
        out Vector512<float> v0, out Vector512<float> v1, out Vector512<float> v2, out Vector512<float> v3)
    {
        Sse.Prefetch1(codes + ahead);
        table.Expand(codes, out v0, out v1, out v2, out v3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> MultiplyAdd(
        float* x, Vector512<float> v0, Vector512<float> v1, Vector512<float> v2, Vector512<float> v3, Vector512<float> sum)
    {
        sum = Vector512.FusedMultiplyAdd(Vector512.Load(x), v0, sum);
        sum = Vector512.FusedMultiplyAdd(Vector512.Load(x + 16), v1, sum);
        sum = Vector512.FusedMultiplyAdd(Vector512.Load(x + 32), v2, sum);
        return Vector512.FusedMultiplyAdd(Vector512.Load(x + 48), v3, sum);
    }

    // Apart from the sums over vectors: a call while these are in registers would move them all to the stack.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void AddRest(nint depth, float* x, byte* w0, byte* w1, byte* w2, byte* w3, float* sums)
    {
        float* rest = stackalloc float[4];
        FewRowsKernels<HiFloat8Format, Vector512<float>, Width512>.Dot1(depth, x, w0, w1, w2, w3, 0, rest);
        for (int j = 0; j < 4; j++) sums[j] += rest[j];
    }
}

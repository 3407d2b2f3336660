// Dot products of a few rows (decoding) with four weight rows. One row is bound by the weights' way from memory, six by arithmetic: 24 sums
// in registers, which meet four expanded vectors of weights and a vector of each row. Dots go by cache lines of weights, one prefetch
// each. The order of a sum is that of its own row alone (a lane every so many columns, then the lanes as a tree, then what is left of
// the row), so a row gets the same bits in every kernel, whatever its neighbours.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Dot products and sums of rows, four or eight weight rows at a time.</summary>
internal readonly unsafe partial struct FewRowsKernels<TFormat, TVector, TWidth> : IDotKernels<float>
    where TFormat : struct, IWeightFormat
    where TVector : struct
    where TWidth : struct, IVectorWidth<TVector>
{
    private const int Line = 64;

    private static int LineElements
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Line / TFormat.Size;
    }

    /// <inheritdoc/>
    public static int Size => TFormat.Size;

    /// <inheritdoc/>
    public static int Shift => TFormat.Shift;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Dot1(nint depth, float* x, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums)
    {
        TVector s0 = TWidth.Zero, s1 = TWidth.Zero, s2 = TWidth.Zero, s3 = TWidth.Zero, watch = TWidth.Zero;
        nint i = 0;
        while (i + LineElements <= depth)
        {
            watch = BeginLine(i * TFormat.Size, ahead, w0, w1, w2, w3, watch);
            for (nint end = i + LineElements; i < end; i += TWidth.Count)
            {
                nint at = i * TFormat.Size;
                TVector a = TWidth.Load(x + i);
                s0 = TWidth.MultiplyAdd(a, TFormat.Load<TVector, TWidth>(w0 + at), s0);
                s1 = TWidth.MultiplyAdd(a, TFormat.Load<TVector, TWidth>(w1 + at), s1);
                s2 = TWidth.MultiplyAdd(a, TFormat.Load<TVector, TWidth>(w2 + at), s2);
                s3 = TWidth.MultiplyAdd(a, TFormat.Load<TVector, TWidth>(w3 + at), s3);
            }
        }

        TWidth.Sum4(s0, s1, s2, s3).Store(sums);
        bool suspect = TFormat.Saw<TVector, TWidth>(watch);
        if (i < depth || suspect) AddTails(i, depth, x, w0, w1, w2, w3, sums, suspect);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Dot2(nint depth, float* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        TVector s00 = TWidth.Zero, s01 = TWidth.Zero, s02 = TWidth.Zero, s03 = TWidth.Zero;
        TVector s10 = TWidth.Zero, s11 = TWidth.Zero, s12 = TWidth.Zero, s13 = TWidth.Zero, watch = TWidth.Zero;
        nint i = 0;
        float* x1 = x + stride;
        while (i + LineElements <= depth)
        {
            watch = BeginLine(i * TFormat.Size, ahead, w0, w1, w2, w3, watch);
            for (nint end = i + LineElements; i < end; i += TWidth.Count)
            {
                nint at = i * TFormat.Size;
                TVector b0 = TFormat.Load<TVector, TWidth>(w0 + at), b1 = TFormat.Load<TVector, TWidth>(w1 + at);
                TVector b2 = TFormat.Load<TVector, TWidth>(w2 + at), b3 = TFormat.Load<TVector, TWidth>(w3 + at);
                TVector a = TWidth.Load(x + i);
                s00 = TWidth.MultiplyAdd(a, b0, s00);
                s01 = TWidth.MultiplyAdd(a, b1, s01);
                s02 = TWidth.MultiplyAdd(a, b2, s02);
                s03 = TWidth.MultiplyAdd(a, b3, s03);
                a = TWidth.Load(x1 + i);
                s10 = TWidth.MultiplyAdd(a, b0, s10);
                s11 = TWidth.MultiplyAdd(a, b1, s11);
                s12 = TWidth.MultiplyAdd(a, b2, s12);
                s13 = TWidth.MultiplyAdd(a, b3, s13);
            }
        }

        TWidth.Sum2x4(s00, s01, s02, s03, s10, s11, s12, s13, sums, strideSums);
        bool suspect = TFormat.Saw<TVector, TWidth>(watch);
        if (i == depth && !suspect) return;
        for (int m = 0; m < 2; m++) AddTails(i, depth, x + m * stride, w0, w1, w2, w3, sums + m * strideSums, suspect);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Dot4(nint depth, float* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        TVector s00 = TWidth.Zero, s01 = TWidth.Zero, s02 = TWidth.Zero, s03 = TWidth.Zero;
        TVector s10 = TWidth.Zero, s11 = TWidth.Zero, s12 = TWidth.Zero, s13 = TWidth.Zero;
        TVector s20 = TWidth.Zero, s21 = TWidth.Zero, s22 = TWidth.Zero, s23 = TWidth.Zero;
        TVector s30 = TWidth.Zero, s31 = TWidth.Zero, s32 = TWidth.Zero, s33 = TWidth.Zero, watch = TWidth.Zero;
        nint i = 0;
        float* x1 = x + stride, x2 = x1 + stride, x3 = x2 + stride;
        while (i + LineElements <= depth)
        {
            watch = BeginLine(i * TFormat.Size, ahead, w0, w1, w2, w3, watch);
            for (nint end = i + LineElements; i < end; i += TWidth.Count)
            {
                nint at = i * TFormat.Size;
                TVector b0 = TFormat.Load<TVector, TWidth>(w0 + at), b1 = TFormat.Load<TVector, TWidth>(w1 + at);
                TVector b2 = TFormat.Load<TVector, TWidth>(w2 + at), b3 = TFormat.Load<TVector, TWidth>(w3 + at);
                TVector a = TWidth.Load(x + i);
                s00 = TWidth.MultiplyAdd(a, b0, s00);
                s01 = TWidth.MultiplyAdd(a, b1, s01);
                s02 = TWidth.MultiplyAdd(a, b2, s02);
                s03 = TWidth.MultiplyAdd(a, b3, s03);
                a = TWidth.Load(x1 + i);
                s10 = TWidth.MultiplyAdd(a, b0, s10);
                s11 = TWidth.MultiplyAdd(a, b1, s11);
                s12 = TWidth.MultiplyAdd(a, b2, s12);
                s13 = TWidth.MultiplyAdd(a, b3, s13);
                a = TWidth.Load(x2 + i);
                s20 = TWidth.MultiplyAdd(a, b0, s20);
                s21 = TWidth.MultiplyAdd(a, b1, s21);
                s22 = TWidth.MultiplyAdd(a, b2, s22);
                s23 = TWidth.MultiplyAdd(a, b3, s23);
                a = TWidth.Load(x3 + i);
                s30 = TWidth.MultiplyAdd(a, b0, s30);
                s31 = TWidth.MultiplyAdd(a, b1, s31);
                s32 = TWidth.MultiplyAdd(a, b2, s32);
                s33 = TWidth.MultiplyAdd(a, b3, s33);
            }
        }

        TWidth.Sum4x4(s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33, sums, strideSums);
        bool suspect = TFormat.Saw<TVector, TWidth>(watch);
        if (i == depth && !suspect) return;
        for (int m = 0; m < 4; m++) AddTails(i, depth, x + m * stride, w0, w1, w2, w3, sums + m * strideSums, suspect);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Dot6(nint depth, float* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        // Fewer registers hold fewer sums.
        if (TWidth.Count < Vector512<float>.Count)
        {
            Dot4(depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);
            Dot2(depth, x + 4 * stride, stride, w0, w1, w2, w3, ahead, sums + 4 * strideSums, strideSums);
            return;
        }

        TVector s00 = TWidth.Zero, s01 = TWidth.Zero, s02 = TWidth.Zero, s03 = TWidth.Zero;
        TVector s10 = TWidth.Zero, s11 = TWidth.Zero, s12 = TWidth.Zero, s13 = TWidth.Zero;
        TVector s20 = TWidth.Zero, s21 = TWidth.Zero, s22 = TWidth.Zero, s23 = TWidth.Zero;
        TVector s30 = TWidth.Zero, s31 = TWidth.Zero, s32 = TWidth.Zero, s33 = TWidth.Zero;
        TVector s40 = TWidth.Zero, s41 = TWidth.Zero, s42 = TWidth.Zero, s43 = TWidth.Zero;
        TVector s50 = TWidth.Zero, s51 = TWidth.Zero, s52 = TWidth.Zero, s53 = TWidth.Zero, watch = TWidth.Zero;
        // Two pointers for six rows: there are not many registers for addresses either.
        nint i = 0, row = stride * sizeof(float), twoRows = 2 * row;
        byte* first = (byte*)x, fourth = first + 3 * row;
        while (i + LineElements <= depth)
        {
            watch = BeginLine(i * TFormat.Size, ahead, w0, w1, w2, w3, watch);
            for (nint end = i + LineElements; i < end; i += TWidth.Count)
            {
                nint at = i * TFormat.Size;
                TVector b0 = TFormat.Load<TVector, TWidth>(w0 + at), b1 = TFormat.Load<TVector, TWidth>(w1 + at);
                TVector b2 = TFormat.Load<TVector, TWidth>(w2 + at), b3 = TFormat.Load<TVector, TWidth>(w3 + at);
                TVector a = TWidth.Load((float*)first);
                s00 = TWidth.MultiplyAdd(a, b0, s00);
                s01 = TWidth.MultiplyAdd(a, b1, s01);
                s02 = TWidth.MultiplyAdd(a, b2, s02);
                s03 = TWidth.MultiplyAdd(a, b3, s03);
                a = TWidth.Load((float*)(first + row));
                s10 = TWidth.MultiplyAdd(a, b0, s10);
                s11 = TWidth.MultiplyAdd(a, b1, s11);
                s12 = TWidth.MultiplyAdd(a, b2, s12);
                s13 = TWidth.MultiplyAdd(a, b3, s13);
                a = TWidth.Load((float*)(first + twoRows));
                s20 = TWidth.MultiplyAdd(a, b0, s20);
                s21 = TWidth.MultiplyAdd(a, b1, s21);
                s22 = TWidth.MultiplyAdd(a, b2, s22);
                s23 = TWidth.MultiplyAdd(a, b3, s23);
                a = TWidth.Load((float*)fourth);
                s30 = TWidth.MultiplyAdd(a, b0, s30);
                s31 = TWidth.MultiplyAdd(a, b1, s31);
                s32 = TWidth.MultiplyAdd(a, b2, s32);
                s33 = TWidth.MultiplyAdd(a, b3, s33);
                a = TWidth.Load((float*)(fourth + row));
                s40 = TWidth.MultiplyAdd(a, b0, s40);
                s41 = TWidth.MultiplyAdd(a, b1, s41);
                s42 = TWidth.MultiplyAdd(a, b2, s42);
                s43 = TWidth.MultiplyAdd(a, b3, s43);
                a = TWidth.Load((float*)(fourth + twoRows));
                s50 = TWidth.MultiplyAdd(a, b0, s50);
                s51 = TWidth.MultiplyAdd(a, b1, s51);
                s52 = TWidth.MultiplyAdd(a, b2, s52);
                s53 = TWidth.MultiplyAdd(a, b3, s53);
                first += TWidth.Count * sizeof(float);
                fourth += TWidth.Count * sizeof(float);
            }
        }

        TWidth.Sum4x4(s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33, sums, strideSums);
        TWidth.Sum2x4(s40, s41, s42, s43, s50, s51, s52, s53, sums + 4 * strideSums, strideSums);
        bool suspect = TFormat.Saw<TVector, TWidth>(watch);
        if (i == depth && !suspect) return;
        for (int m = 0; m < 6; m++) AddTails(i, depth, x + m * stride, w0, w1, w2, w3, sums + m * strideSums, suspect);
    }

    /// <summary>
    /// Asks for lines further on, into the second-level cache, across the ends of rows. Looks out for what the format must not read as a
    /// number.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector BeginLine(nint at, nint ahead, byte* w0, byte* w1, byte* w2, byte* w3, TVector watch)
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch1(w0 + ahead + at);
            Sse.Prefetch1(w1 + ahead + at);
            Sse.Prefetch1(w2 + ahead + at);
            Sse.Prefetch1(w3 + ahead + at);
        }

        watch = TFormat.Watch<TVector, TWidth>(w0 + at, watch);
        watch = TFormat.Watch<TVector, TWidth>(w1 + at, watch);
        watch = TFormat.Watch<TVector, TWidth>(w2 + at, watch);
        return TFormat.Watch<TVector, TWidth>(w3 + at, watch);
    }

    // Apart from the sums over vectors: a call while these are in registers would move them all to the stack.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void AddTails(nint start, nint depth, float* x, byte* w0, byte* w1, byte* w2, byte* w3, float* sums, bool suspect)
    {
        for (nint i = start; i < depth; i++)
        {
            sums[0] += x[i] * TFormat.LoadOne(w0 + i * TFormat.Size);
            sums[1] += x[i] * TFormat.LoadOne(w1 + i * TFormat.Size);
            sums[2] += x[i] * TFormat.LoadOne(w2 + i * TFormat.Size);
            sums[3] += x[i] * TFormat.LoadOne(w3 + i * TFormat.Size);
        }

        // Lines were looked at on the way; the rest was not.
        nint first = suspect ? 0 : start, count = depth - first;
        if (TFormat.HoldsNaN(w0 + first * TFormat.Size, count)) sums[0] = float.NaN;
        if (TFormat.HoldsNaN(w1 + first * TFormat.Size, count)) sums[1] = float.NaN;
        if (TFormat.HoldsNaN(w2 + first * TFormat.Size, count)) sums[2] = float.NaN;
        if (TFormat.HoldsNaN(w3 + first * TFormat.Size, count)) sums[3] = float.NaN;
    }
}

// Kernels for a few rows (decoding), where the weights' way from memory is the whole cost: every weight is read once from
// memory, expanded in a register, and meets all rows while it is in the nearest cache. Dots go by cache lines of weights, one
// prefetch each. The order of a sum is that of its own row alone, so a row gets the same bits whatever its neighbours.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Dot products and sums of rows, four or eight weight rows at a time.</summary>
internal readonly unsafe struct FewRowsKernels<TFormat, TVector, TWidth> : IDotKernels
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

    /// <summary>Weight rows of one sum kernel.</summary>
    public const int SumRows = 8;

    /// <inheritdoc/>
    public static int Size => TFormat.Size;

    /// <inheritdoc/>
    public static int Shift => TFormat.Shift;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Dot1(nint depth, float* x, byte* w0, byte* w1, byte* w2, byte* w3, float* sums)
    {
        TVector s0 = TWidth.Zero, s1 = TWidth.Zero, s2 = TWidth.Zero, s3 = TWidth.Zero, watch = TWidth.Zero;
        nint i = 0, ahead = FewRowsPlan.DotRows * (nint)(w1 - w0);
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

        sums[0] = TWidth.Sum(s0);
        sums[1] = TWidth.Sum(s1);
        sums[2] = TWidth.Sum(s2);
        sums[3] = TWidth.Sum(s3);
        bool suspect = TFormat.Saw<TVector, TWidth>(watch);
        if (i < depth || suspect) AddTails(i, depth, x, w0, w1, w2, w3, sums, suspect);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Dot4(nint depth, float* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, float* sums)
    {
        float* x1 = x + stride, x2 = x1 + stride, x3 = x2 + stride;
        TVector s00 = TWidth.Zero, s01 = TWidth.Zero, s02 = TWidth.Zero, s03 = TWidth.Zero;
        TVector s10 = TWidth.Zero, s11 = TWidth.Zero, s12 = TWidth.Zero, s13 = TWidth.Zero;
        TVector s20 = TWidth.Zero, s21 = TWidth.Zero, s22 = TWidth.Zero, s23 = TWidth.Zero;
        TVector s30 = TWidth.Zero, s31 = TWidth.Zero, s32 = TWidth.Zero, s33 = TWidth.Zero, watch = TWidth.Zero;
        nint i = 0, ahead = FewRowsPlan.DotRows * (nint)(w1 - w0);
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

        sums[0] = TWidth.Sum(s00);
        sums[1] = TWidth.Sum(s01);
        sums[2] = TWidth.Sum(s02);
        sums[3] = TWidth.Sum(s03);
        sums[4] = TWidth.Sum(s10);
        sums[5] = TWidth.Sum(s11);
        sums[6] = TWidth.Sum(s12);
        sums[7] = TWidth.Sum(s13);
        sums[8] = TWidth.Sum(s20);
        sums[9] = TWidth.Sum(s21);
        sums[10] = TWidth.Sum(s22);
        sums[11] = TWidth.Sum(s23);
        sums[12] = TWidth.Sum(s30);
        sums[13] = TWidth.Sum(s31);
        sums[14] = TWidth.Sum(s32);
        sums[15] = TWidth.Sum(s33);
        bool suspect = TFormat.Saw<TVector, TWidth>(watch);
        if (i == depth && !suspect) return;
        AddTails(i, depth, x, w0, w1, w2, w3, sums, suspect);
        AddTails(i, depth, x1, w0, w1, w2, w3, sums + 4, suspect);
        AddTails(i, depth, x2, w0, w1, w2, w3, sums + 8, suspect);
        AddTails(i, depth, x3, w0, w1, w2, w3, sums + 12, suspect);
    }

    /// <summary>c += a[0] w_0 + … + a[7] w_7, in this order, for a range of columns.</summary>
    /// <param name="columns">Number of columns.</param>
    /// <param name="a">[8], one value a weight row.</param>
    /// <param name="w">First column of the first of eight weight rows.</param>
    /// <param name="pitch">Bytes between weight rows.</param>
    /// <param name="c">[columns].</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddRows8(nint columns, float* a, byte* w, nint pitch, float* c)
    {
        TVector a0 = TWidth.Broadcast(a[0]), a1 = TWidth.Broadcast(a[1]), a2 = TWidth.Broadcast(a[2]), a3 = TWidth.Broadcast(a[3]);
        TVector a4 = TWidth.Broadcast(a[4]), a5 = TWidth.Broadcast(a[5]), a6 = TWidth.Broadcast(a[6]), a7 = TWidth.Broadcast(a[7]);
        byte* w4 = w + 4 * pitch;
        nint i = 0;
        for (; i + TWidth.Count <= columns; i += TWidth.Count)
        {
            // The same columns of the next eight rows: too far apart for the processor to guess.
            if (Sse.IsSupported)
            {
                byte* w8 = w4 + 4 * pitch, w12 = w8 + 4 * pitch;
                Sse.Prefetch1(w8);
                Sse.Prefetch1(w8 + pitch);
                Sse.Prefetch1(w8 + 2 * pitch);
                Sse.Prefetch1(w8 + 3 * pitch);
                Sse.Prefetch1(w12);
                Sse.Prefetch1(w12 + pitch);
                Sse.Prefetch1(w12 + 2 * pitch);
                Sse.Prefetch1(w12 + 3 * pitch);
            }

            TVector sum = TWidth.Load(c + i);
            sum = TWidth.MultiplyAdd(a0, TFormat.Load<TVector, TWidth>(w), sum);
            sum = TWidth.MultiplyAdd(a1, TFormat.Load<TVector, TWidth>(w + pitch), sum);
            sum = TWidth.MultiplyAdd(a2, TFormat.Load<TVector, TWidth>(w + 2 * pitch), sum);
            sum = TWidth.MultiplyAdd(a3, TFormat.Load<TVector, TWidth>(w + 3 * pitch), sum);
            sum = TWidth.MultiplyAdd(a4, TFormat.Load<TVector, TWidth>(w4), sum);
            sum = TWidth.MultiplyAdd(a5, TFormat.Load<TVector, TWidth>(w4 + pitch), sum);
            sum = TWidth.MultiplyAdd(a6, TFormat.Load<TVector, TWidth>(w4 + 2 * pitch), sum);
            sum = TWidth.MultiplyAdd(a7, TFormat.Load<TVector, TWidth>(w4 + 3 * pitch), sum);
            TWidth.Store(sum, c + i);
            w += TWidth.Count * TFormat.Size;
            w4 += TWidth.Count * TFormat.Size;
        }

        for (; i < columns; i++, w += TFormat.Size)
        {
            for (int j = 0; j < SumRows; j++) c[i] += a[j] * TFormat.LoadOne(w + j * pitch);
        }
    }

    /// <summary>c += a w for one weight row, as a step of <see cref="AddRows8"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddRow(nint columns, float a, byte* w, float* c)
    {
        TVector factor = TWidth.Broadcast(a);
        nint i = 0;
        for (; i + TWidth.Count <= columns; i += TWidth.Count)
            TWidth.Store(TWidth.MultiplyAdd(factor, TFormat.Load<TVector, TWidth>(w + i * TFormat.Size), TWidth.Load(c + i)), c + i);
        for (; i < columns; i++) c[i] += a * TFormat.LoadOne(w + i * TFormat.Size);
    }

    /// <summary>
    /// Asks for the same line of the next four rows, into the second-level cache: this early, and across the ends of rows. Looks out for
    /// what the format must not read as a number.
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

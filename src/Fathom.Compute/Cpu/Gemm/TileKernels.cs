// The innermost product: a tile of C, a few rows by two vectors of columns, is summed in registers over the depth of two packed
// panels. Each value of A is broadcast once and meets both vectors of B, so that the multipliers never wait for loads. The
// accumulators are named locals on purpose: arrays of vectors do not live in registers.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>C[Rows, Columns] = or += A B of packed panels.</summary>
internal unsafe interface ITileKernel
{
    /// <summary>Rows of a tile: width of a packed panel of A.</summary>
    static abstract int Rows { get; }

    /// <summary>Columns of a tile: width of a packed panel of B.</summary>
    static abstract int Columns { get; }

    /// <summary>Computes one tile.</summary>
    /// <param name="depth">Length of the sums.</param>
    /// <param name="a">A, [depth, Rows].</param>
    /// <param name="strideA">Elements from one step of the depth to the next in A.</param>
    /// <param name="b">B, [depth, Columns].</param>
    /// <param name="c">C, first element of the tile.</param>
    /// <param name="stride">Elements from one row of C to the next.</param>
    /// <param name="accumulate">Whether to add to C.</param>
    /// <param name="lines">Addresses of cache lines to ask for on the way, one a step.</param>
    /// <param name="lineCount">How many; those beyond the depth are left out.</param>
    static abstract void Run(nint depth, float* a, nint strideA, float* b, float* c, nint stride, bool accumulate, byte** lines, int lineCount);
}

/// <summary>24 accumulators, for processors with 32 vector registers (12 x 32 with AVX-512).</summary>
internal readonly unsafe struct TileOf12Rows<TVector, TWidth> : ITileKernel
    where TVector : struct
    where TWidth : struct, IVectorWidth<TVector>
{
    public static int Rows => 12;

    public static int Columns => 2 * TWidth.Count;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Run(nint depth, float* a, nint strideA, float* b, float* c, nint stride, bool accumulate, byte** lines, int lineCount)
    {
        for (nint row = 0; row < Rows; row++) Prefetch(c + row * stride);
        nint ahead = GemmPlan.StepsAhead * 2 * TWidth.Count;
        byte** end = lines + lineCount;
        TVector b0, b1, scalar;
        TVector c0L = TWidth.Zero, c0R = TWidth.Zero;
        TVector c1L = TWidth.Zero, c1R = TWidth.Zero;
        TVector c2L = TWidth.Zero, c2R = TWidth.Zero;
        TVector c3L = TWidth.Zero, c3R = TWidth.Zero;
        TVector c4L = TWidth.Zero, c4R = TWidth.Zero;
        TVector c5L = TWidth.Zero, c5R = TWidth.Zero;
        TVector c6L = TWidth.Zero, c6R = TWidth.Zero;
        TVector c7L = TWidth.Zero, c7R = TWidth.Zero;
        TVector c8L = TWidth.Zero, c8R = TWidth.Zero;
        TVector c9L = TWidth.Zero, c9R = TWidth.Zero;
        TVector c10L = TWidth.Zero, c10R = TWidth.Zero;
        TVector c11L = TWidth.Zero, c11R = TWidth.Zero;
        for (; depth > 0; depth--)
        {
            if (Sse.IsSupported)
            {
                Sse.Prefetch0(b + ahead);
                Sse.Prefetch0(b + ahead + TWidth.Count);
                if (lines < end) Sse.Prefetch1(*lines++);
            }

            b0 = TWidth.Load(b);
            b1 = TWidth.Load(b + TWidth.Count);
            scalar = TWidth.Broadcast(a[0]);
            c0L = TWidth.MultiplyAdd(scalar, b0, c0L);
            c0R = TWidth.MultiplyAdd(scalar, b1, c0R);
            scalar = TWidth.Broadcast(a[1]);
            c1L = TWidth.MultiplyAdd(scalar, b0, c1L);
            c1R = TWidth.MultiplyAdd(scalar, b1, c1R);
            scalar = TWidth.Broadcast(a[2]);
            c2L = TWidth.MultiplyAdd(scalar, b0, c2L);
            c2R = TWidth.MultiplyAdd(scalar, b1, c2R);
            scalar = TWidth.Broadcast(a[3]);
            c3L = TWidth.MultiplyAdd(scalar, b0, c3L);
            c3R = TWidth.MultiplyAdd(scalar, b1, c3R);
            scalar = TWidth.Broadcast(a[4]);
            c4L = TWidth.MultiplyAdd(scalar, b0, c4L);
            c4R = TWidth.MultiplyAdd(scalar, b1, c4R);
            scalar = TWidth.Broadcast(a[5]);
            c5L = TWidth.MultiplyAdd(scalar, b0, c5L);
            c5R = TWidth.MultiplyAdd(scalar, b1, c5R);
            scalar = TWidth.Broadcast(a[6]);
            c6L = TWidth.MultiplyAdd(scalar, b0, c6L);
            c6R = TWidth.MultiplyAdd(scalar, b1, c6R);
            scalar = TWidth.Broadcast(a[7]);
            c7L = TWidth.MultiplyAdd(scalar, b0, c7L);
            c7R = TWidth.MultiplyAdd(scalar, b1, c7R);
            scalar = TWidth.Broadcast(a[8]);
            c8L = TWidth.MultiplyAdd(scalar, b0, c8L);
            c8R = TWidth.MultiplyAdd(scalar, b1, c8R);
            scalar = TWidth.Broadcast(a[9]);
            c9L = TWidth.MultiplyAdd(scalar, b0, c9L);
            c9R = TWidth.MultiplyAdd(scalar, b1, c9R);
            scalar = TWidth.Broadcast(a[10]);
            c10L = TWidth.MultiplyAdd(scalar, b0, c10L);
            c10R = TWidth.MultiplyAdd(scalar, b1, c10R);
            scalar = TWidth.Broadcast(a[11]);
            c11L = TWidth.MultiplyAdd(scalar, b0, c11L);
            c11R = TWidth.MultiplyAdd(scalar, b1, c11R);
            a += strideA;
            b += 2 * TWidth.Count;
        }

        Store(c0L, c0R, c, accumulate);
        Store(c1L, c1R, c + stride, accumulate);
        Store(c2L, c2R, c + 2 * stride, accumulate);
        Store(c3L, c3R, c + 3 * stride, accumulate);
        Store(c4L, c4R, c + 4 * stride, accumulate);
        Store(c5L, c5R, c + 5 * stride, accumulate);
        Store(c6L, c6R, c + 6 * stride, accumulate);
        Store(c7L, c7R, c + 7 * stride, accumulate);
        Store(c8L, c8R, c + 8 * stride, accumulate);
        Store(c9L, c9R, c + 9 * stride, accumulate);
        Store(c10L, c10R, c + 10 * stride, accumulate);
        Store(c11L, c11R, c + 11 * stride, accumulate);
    }

    // C is asked for before the sums begin, so that it is there when they end.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(float* c)
    {
        if (!Sse.IsSupported) return;
        Sse.Prefetch0(c);
        Sse.Prefetch0(c + TWidth.Count);
        Sse.Prefetch0(c + 2 * TWidth.Count - 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(TVector left, TVector right, float* c, bool accumulate)
    {
        if (accumulate)
        {
            left = TWidth.Add(left, TWidth.Load(c));
            right = TWidth.Add(right, TWidth.Load(c + TWidth.Count));
        }

        TWidth.Store(left, c);
        TWidth.Store(right, c + TWidth.Count);
    }
}

/// <summary>12 accumulators, for processors with 16 vector registers (6 x 16 with AVX2).</summary>
internal readonly unsafe struct TileOf6Rows<TVector, TWidth> : ITileKernel
    where TVector : struct
    where TWidth : struct, IVectorWidth<TVector>
{
    public static int Rows => 6;

    public static int Columns => 2 * TWidth.Count;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Run(nint depth, float* a, nint strideA, float* b, float* c, nint stride, bool accumulate, byte** lines, int lineCount)
    {
        for (nint row = 0; row < Rows; row++) Prefetch(c + row * stride);
        nint ahead = GemmPlan.StepsAhead * 2 * TWidth.Count;
        byte** end = lines + lineCount;
        TVector b0, b1, scalar;
        TVector c0L = TWidth.Zero, c0R = TWidth.Zero;
        TVector c1L = TWidth.Zero, c1R = TWidth.Zero;
        TVector c2L = TWidth.Zero, c2R = TWidth.Zero;
        TVector c3L = TWidth.Zero, c3R = TWidth.Zero;
        TVector c4L = TWidth.Zero, c4R = TWidth.Zero;
        TVector c5L = TWidth.Zero, c5R = TWidth.Zero;
        for (; depth > 0; depth--)
        {
            if (Sse.IsSupported)
            {
                Sse.Prefetch0(b + ahead);
                Sse.Prefetch0(b + ahead + TWidth.Count);
                if (lines < end) Sse.Prefetch1(*lines++);
            }

            b0 = TWidth.Load(b);
            b1 = TWidth.Load(b + TWidth.Count);
            scalar = TWidth.Broadcast(a[0]);
            c0L = TWidth.MultiplyAdd(scalar, b0, c0L);
            c0R = TWidth.MultiplyAdd(scalar, b1, c0R);
            scalar = TWidth.Broadcast(a[1]);
            c1L = TWidth.MultiplyAdd(scalar, b0, c1L);
            c1R = TWidth.MultiplyAdd(scalar, b1, c1R);
            scalar = TWidth.Broadcast(a[2]);
            c2L = TWidth.MultiplyAdd(scalar, b0, c2L);
            c2R = TWidth.MultiplyAdd(scalar, b1, c2R);
            scalar = TWidth.Broadcast(a[3]);
            c3L = TWidth.MultiplyAdd(scalar, b0, c3L);
            c3R = TWidth.MultiplyAdd(scalar, b1, c3R);
            scalar = TWidth.Broadcast(a[4]);
            c4L = TWidth.MultiplyAdd(scalar, b0, c4L);
            c4R = TWidth.MultiplyAdd(scalar, b1, c4R);
            scalar = TWidth.Broadcast(a[5]);
            c5L = TWidth.MultiplyAdd(scalar, b0, c5L);
            c5R = TWidth.MultiplyAdd(scalar, b1, c5R);
            a += strideA;
            b += 2 * TWidth.Count;
        }

        Store(c0L, c0R, c, accumulate);
        Store(c1L, c1R, c + stride, accumulate);
        Store(c2L, c2R, c + 2 * stride, accumulate);
        Store(c3L, c3R, c + 3 * stride, accumulate);
        Store(c4L, c4R, c + 4 * stride, accumulate);
        Store(c5L, c5R, c + 5 * stride, accumulate);
    }

    // C is asked for before the sums begin, so that it is there when they end.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(float* c)
    {
        if (!Sse.IsSupported) return;
        Sse.Prefetch0(c);
        Sse.Prefetch0(c + TWidth.Count);
        Sse.Prefetch0(c + 2 * TWidth.Count - 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(TVector left, TVector right, float* c, bool accumulate)
    {
        if (accumulate)
        {
            left = TWidth.Add(left, TWidth.Load(c));
            right = TWidth.Add(right, TWidth.Load(c + TWidth.Count));
        }

        TWidth.Store(left, c);
        TWidth.Store(right, c + TWidth.Count);
    }
}

/// <summary>8 accumulators, for the last rows of a product, which would leave a larger tile mostly empty.</summary>
internal readonly unsafe struct TileOf4Rows<TVector, TWidth> : ITileKernel
    where TVector : struct
    where TWidth : struct, IVectorWidth<TVector>
{
    public static int Rows => 4;

    public static int Columns => 2 * TWidth.Count;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Run(nint depth, float* a, nint strideA, float* b, float* c, nint stride, bool accumulate, byte** lines, int lineCount)
    {
        for (nint row = 0; row < Rows; row++) Prefetch(c + row * stride);
        nint ahead = GemmPlan.StepsAhead * 2 * TWidth.Count;
        byte** end = lines + lineCount;
        TVector b0, b1, scalar;
        TVector c0L = TWidth.Zero, c0R = TWidth.Zero;
        TVector c1L = TWidth.Zero, c1R = TWidth.Zero;
        TVector c2L = TWidth.Zero, c2R = TWidth.Zero;
        TVector c3L = TWidth.Zero, c3R = TWidth.Zero;
        for (; depth > 0; depth--)
        {
            if (Sse.IsSupported)
            {
                Sse.Prefetch0(b + ahead);
                Sse.Prefetch0(b + ahead + TWidth.Count);
                if (lines < end) Sse.Prefetch1(*lines++);
            }

            b0 = TWidth.Load(b);
            b1 = TWidth.Load(b + TWidth.Count);
            scalar = TWidth.Broadcast(a[0]);
            c0L = TWidth.MultiplyAdd(scalar, b0, c0L);
            c0R = TWidth.MultiplyAdd(scalar, b1, c0R);
            scalar = TWidth.Broadcast(a[1]);
            c1L = TWidth.MultiplyAdd(scalar, b0, c1L);
            c1R = TWidth.MultiplyAdd(scalar, b1, c1R);
            scalar = TWidth.Broadcast(a[2]);
            c2L = TWidth.MultiplyAdd(scalar, b0, c2L);
            c2R = TWidth.MultiplyAdd(scalar, b1, c2R);
            scalar = TWidth.Broadcast(a[3]);
            c3L = TWidth.MultiplyAdd(scalar, b0, c3L);
            c3R = TWidth.MultiplyAdd(scalar, b1, c3R);
            a += strideA;
            b += 2 * TWidth.Count;
        }

        Store(c0L, c0R, c, accumulate);
        Store(c1L, c1R, c + stride, accumulate);
        Store(c2L, c2R, c + 2 * stride, accumulate);
        Store(c3L, c3R, c + 3 * stride, accumulate);
    }

    // C is asked for before the sums begin, so that it is there when they end.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(float* c)
    {
        if (!Sse.IsSupported) return;
        Sse.Prefetch0(c);
        Sse.Prefetch0(c + TWidth.Count);
        Sse.Prefetch0(c + 2 * TWidth.Count - 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(TVector left, TVector right, float* c, bool accumulate)
    {
        if (accumulate)
        {
            left = TWidth.Add(left, TWidth.Load(c));
            right = TWidth.Add(right, TWidth.Load(c + TWidth.Count));
        }

        TWidth.Store(left, c);
        TWidth.Store(right, c + TWidth.Count);
    }
}

// Transposition of 16 lines by 16 steps of the depth in AVX-512 registers: a cache line of each operand line is read once and each
// step is written once. Unpacking pairs, then pairs of pairs, gives vectors whose four lanes hold four lines at steps 4 apart;
// two rounds of lane shuffles put the lanes of one step together.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Transposes into panels of 12 or 32 lines; for processors with AVX-512.</summary>
internal static unsafe class PanelTransposition
{
    private const int Steps = 16;

    /// <summary>Steps that are asked for before their turn; past the end of the lines, those of the next lines.</summary>
    private const int StepsAhead = 64;

    /// <summary>Packs whole blocks of 16 steps.</summary>
    /// <param name="source">First element of the first line.</param>
    /// <param name="pitch">Bytes from line to line.</param>
    /// <param name="width">Lines, all of which exist.</param>
    /// <param name="depth">Elements of a line.</param>
    /// <param name="panel">[depth, width].</param>
    /// <returns>Steps that are done; 0 where the width is neither 12 nor a multiple of 16.</returns>
    public static nint Run<TFormat>(byte* source, nint pitch, nint width, nint depth, float* panel) where TFormat : struct, IWeightFormat
    {
        nint whole = depth / Steps * Steps;
        if (width == 12)
        {
            TwelveLines<TFormat>(source, pitch, whole, panel);
            return whole;
        }

        if (width % 16 != 0) return 0;
        for (nint line = 0; line < width; line += 16) SixteenLines<TFormat>(source + line * pitch, pitch, width, whole, panel + line);
        return whole;
    }

    /// <summary>Packs 12 adjacent lines where they lie step by step: blocks of 4 steps, each three vectors of the panel.</summary>
    /// <param name="source">First element of the first line.</param>
    /// <param name="stride">Elements from step to step, at least 12.</param>
    /// <param name="panel">[4, 12].</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void FourStepsOfTwelve(float* source, nint stride, float* panel)
    {
        // The loads that reach beyond a step's 12 elements stay between the first and the last element of the block.
        float* s1 = source + stride, s2 = s1 + stride, s3 = s2 + stride;
        Avx512F.InsertVector128(Vector512.Load(source), Vector128.Load(s1), 3).Store(panel);
        Vector512.Create(Vector256.Load(s1 + 4), Vector256.Load(s2)).Store(panel + 16);
        Avx512F.InsertVector128(Vector512.Load(s3 - 4), Vector128.Load(s2 + 8), 0).Store(panel + 32);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void TwelveLines<TFormat>(byte* source, nint pitch, nint depth, float* panel) where TFormat : struct, IWeightFormat
    {
        nint length = depth * TFormat.Size;
        for (; depth > 0; depth -= Steps, source += Steps * TFormat.Size, panel += Steps * 12)
        {
            byte* ahead = source + StepsAhead * TFormat.Size;
            if (depth <= StepsAhead) ahead += 12 * pitch - length;
            PrefetchFour(ahead, pitch);
            PrefetchFour(ahead + 4 * pitch, pitch);
            PrefetchFour(ahead + 8 * pitch, pitch);
            FourLines<TFormat>(source, pitch, out Vector512<float> a0, out Vector512<float> a1, out Vector512<float> a2, out Vector512<float> a3);
            FourLines<TFormat>(source + 4 * pitch, pitch, out Vector512<float> b0, out Vector512<float> b1, out Vector512<float> b2, out Vector512<float> b3);
            FourLines<TFormat>(source + 8 * pitch, pitch, out Vector512<float> c0, out Vector512<float> c1, out Vector512<float> c2, out Vector512<float> c3);
            // Four steps are twelve quarters a0 b0 c0 a1 | b1 c1 a2 b2 | c2 a3 b3 c3 of three vectors.
            TransposeLanes(ref a0, ref b0, ref c0, ref a1);
            TransposeLanes(ref b1, ref c1, ref a2, ref b2);
            TransposeLanes(ref c2, ref a3, ref b3, ref c3);
            a0.Store(panel);
            b1.Store(panel + 16);
            c2.Store(panel + 32);
            b0.Store(panel + 48);
            c1.Store(panel + 64);
            a3.Store(panel + 80);
            c0.Store(panel + 96);
            a2.Store(panel + 112);
            b3.Store(panel + 128);
            a1.Store(panel + 144);
            b2.Store(panel + 160);
            c3.Store(panel + 176);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SixteenLines<TFormat>(byte* source, nint pitch, nint width, nint depth, float* panel) where TFormat : struct, IWeightFormat
    {
        nint length = depth * TFormat.Size;
        for (; depth > 0; depth -= Steps, source += Steps * TFormat.Size, panel += Steps * width)
        {
            byte* ahead = source + StepsAhead * TFormat.Size;
            if (depth <= StepsAhead) ahead += 16 * pitch - length;
            PrefetchFour(ahead, pitch);
            PrefetchFour(ahead + 4 * pitch, pitch);
            PrefetchFour(ahead + 8 * pitch, pitch);
            PrefetchFour(ahead + 12 * pitch, pitch);
            FourLines<TFormat>(source, pitch, out Vector512<float> a0, out Vector512<float> a1, out Vector512<float> a2, out Vector512<float> a3);
            FourLines<TFormat>(source + 4 * pitch, pitch, out Vector512<float> b0, out Vector512<float> b1, out Vector512<float> b2, out Vector512<float> b3);
            FourLines<TFormat>(source + 8 * pitch, pitch, out Vector512<float> c0, out Vector512<float> c1, out Vector512<float> c2, out Vector512<float> c3);
            FourLines<TFormat>(source + 12 * pitch, pitch, out Vector512<float> d0, out Vector512<float> d1, out Vector512<float> d2, out Vector512<float> d3);
            float* next = panel;
            TransposeLanes(ref a0, ref b0, ref c0, ref d0);
            TransposeLanes(ref a1, ref b1, ref c1, ref d1);
            TransposeLanes(ref a2, ref b2, ref c2, ref d2);
            TransposeLanes(ref a3, ref b3, ref c3, ref d3);
            StoreFour(a0, a1, a2, a3, next, width);
            StoreFour(b0, b1, b2, b3, next += 4 * width, width);
            StoreFour(c0, c1, c2, c3, next += 4 * width, width);
            StoreFour(d0, d1, d2, d3, next + 4 * width, width);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreFour(Vector512<float> v0, Vector512<float> v1, Vector512<float> v2, Vector512<float> v3, float* to, nint width)
    {
        v0.Store(to);
        v1.Store(to + width);
        v2.Store(to + 2 * width);
        v3.Store(to + 3 * width);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PrefetchFour(byte* from, nint pitch)
    {
        Sse.Prefetch0(from);
        Sse.Prefetch0(from + pitch);
        Sse.Prefetch0(from + 2 * pitch);
        Sse.Prefetch0(from + 3 * pitch);
    }

    /// <summary>16 steps of four lines; lane l of vector j holds the lines at step 4 l + j.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void FourLines<TFormat>(
        byte* source, nint pitch, out Vector512<float> v0, out Vector512<float> v1, out Vector512<float> v2, out Vector512<float> v3)
        where TFormat : struct, IWeightFormat
    {
        Vector512<float> r0 = TFormat.Load<Vector512<float>, Width512>(source), r1 = TFormat.Load<Vector512<float>, Width512>(source + pitch);
        Vector512<float> r2 = TFormat.Load<Vector512<float>, Width512>(source + 2 * pitch), r3 = TFormat.Load<Vector512<float>, Width512>(source + 3 * pitch);
        Vector512<double> low01 = Avx512F.UnpackLow(r0, r1).AsDouble(), high01 = Avx512F.UnpackHigh(r0, r1).AsDouble();
        Vector512<double> low23 = Avx512F.UnpackLow(r2, r3).AsDouble(), high23 = Avx512F.UnpackHigh(r2, r3).AsDouble();
        v0 = Avx512F.UnpackLow(low01, low23).AsSingle();
        v1 = Avx512F.UnpackHigh(low01, low23).AsSingle();
        v2 = Avx512F.UnpackLow(high01, high23).AsSingle();
        v3 = Avx512F.UnpackHigh(high01, high23).AsSingle();
    }

    /// <summary>Transposes four vectors of four lanes of four.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void TransposeLanes(ref Vector512<float> a, ref Vector512<float> b, ref Vector512<float> c, ref Vector512<float> d)
    {
        const byte Even = 0x88, Odd = 0xdd;
        Vector512<float> evenAB = Avx512F.Shuffle4x128(a, b, Even), oddAB = Avx512F.Shuffle4x128(a, b, Odd);
        Vector512<float> evenCD = Avx512F.Shuffle4x128(c, d, Even), oddCD = Avx512F.Shuffle4x128(c, d, Odd);
        a = Avx512F.Shuffle4x128(evenAB, evenCD, Even);
        c = Avx512F.Shuffle4x128(evenAB, evenCD, Odd);
        b = Avx512F.Shuffle4x128(oddAB, oddCD, Even);
        d = Avx512F.Shuffle4x128(oddAB, oddCD, Odd);
    }
}

// Sums of weight rows (input gradients of a few rows): eight of them pass over a row of results that stays in the nearest cache. A column
// is summed in the order of the weight rows, whatever its neighbours.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Gemm;

internal readonly unsafe partial struct FewRowsKernels<TFormat, TVector, TWidth>
{
    /// <summary>Weight rows of one sum kernel.</summary>
    public const int SumRows = 8;

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
}

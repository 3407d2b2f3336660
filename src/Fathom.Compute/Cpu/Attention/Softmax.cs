// The rows of scores between two products. Scores come multiplied by log2 e, because powers of two are what is cheap: 2^x is
// 2^round(x) from the exponent bits times a polynomial of the rest. The softmax is taken online: a row keeps its largest score
// and the sum of powers relative to it, and what was gathered before is scaled down whenever the largest score rises
// (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135, algorithm 1).
using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Attention;

/// <summary>Softmax forward and backward on rows in scratch memory, at one vector width.</summary>
internal static unsafe class Softmax<TSimd, TVector> where TSimd : struct, ISimd<TVector> where TVector : struct
{
    /// <summary>Replaces scores by 2^(score - largest) and brings the row's state up to date.</summary>
    /// <param name="scores">The row, in units of log2 e; whole vectors of it may be written.</param>
    /// <param name="visible">Scores that count; at least 1.</param>
    /// <param name="width">Columns of the result: those from <paramref name="visible"/> on become 0.</param>
    /// <param name="largest">Largest score so far; -∞ before the first block.</param>
    /// <param name="sum">Sum of powers relative to it; 0 before the first block.</param>
    /// <returns>What everything gathered with the former largest score must be multiplied by.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Step(float* scores, int visible, int width, ref float largest, ref float sum)
    {
        int whole = visible - visible % TSimd.Count, rest = visible - whole;
        TVector top = TSimd.Broadcast(largest), total = TSimd.Zero;
        for (int j = 0; j < whole; j += TSimd.Count) top = TSimd.Max(top, TSimd.Load(scores + j));
        if (rest > 0) top = TSimd.Max(top, TSimd.First(rest, TSimd.Load(scores + whole), top));
        float reached = TSimd.Largest(top);
        TVector shift = TSimd.Broadcast(reached);
        for (int j = 0; j < whole; j += TSimd.Count)
        {
            TVector power = PowerOfTwo(TSimd.Subtract(TSimd.Load(scores + j), shift));
            TSimd.Store(power, scores + j);
            total = TSimd.Add(total, power);
        }

        if (rest > 0)
        {
            TVector power = TSimd.First(rest, PowerOfTwo(TSimd.Subtract(TSimd.Load(scores + whole), shift)), TSimd.Zero);
            TSimd.Store(power, scores + whole);
            total = TSimd.Add(total, power);
            whole += TSimd.Count;
        }

        for (; whole < width; whole += TSimd.Count) TSimd.Store(TSimd.Zero, scores + whole);
        float factor = reached > largest ? MathF.Exp((largest - reached) * Ln2) : 1;
        sum = sum * factor + TSimd.Sum(total);
        largest = reached;
        return factor;
    }

    /// <summary>
    /// Of one row: probabilities p = 2^(score·factor - logSum) in place of the scores, and p (dp - delta) in place of dp, the
    /// gradient of the probabilities.
    /// </summary>
    /// <param name="scores">Unscaled scores; whole vectors may be written.</param>
    /// <param name="dp">Gradient of the probabilities; likewise.</param>
    /// <param name="visible">Entries that count.</param>
    /// <param name="width">Columns of the results: those from <paramref name="visible"/> on become 0.</param>
    /// <param name="factor">Softmax scale times log2 e.</param>
    /// <param name="logSum">Base-2 logarithm of the row's softmax denominator.</param>
    /// <param name="delta">Σ p dp of the whole row.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Backward(float* scores, float* dp, int visible, int width, float factor, float logSum, float delta)
    {
        TVector f = TSimd.Broadcast(factor), shift = TSimd.Broadcast(-logSum), d = TSimd.Broadcast(delta);
        int j = 0;
        for (; j + TSimd.Count <= visible; j += TSimd.Count)
        {
            TVector p = PowerOfTwo(TSimd.MultiplyAdd(TSimd.Load(scores + j), f, shift));
            TSimd.Store(p, scores + j);
            TSimd.Store(TSimd.Multiply(p, TSimd.Subtract(TSimd.Load(dp + j), d)), dp + j);
        }

        if (j < visible)
        {
            TVector p = PowerOfTwo(TSimd.MultiplyAdd(TSimd.Load(scores + j), f, shift));
            TVector ds = TSimd.Multiply(p, TSimd.Subtract(TSimd.Load(dp + j), d));
            TSimd.Store(TSimd.First(visible - j, p, TSimd.Zero), scores + j);
            TSimd.Store(TSimd.First(visible - j, ds, TSimd.Zero), dp + j);
            j += TSimd.Count;
        }

        for (; j < width; j += TSimd.Count)
        {
            TSimd.Store(TSimd.Zero, scores + j);
            TSimd.Store(TSimd.Zero, dp + j);
        }
    }

    private const float Ln2 = 0.693147181f;

    /// <summary>2^x to a relative error of 1e-7 for x from -126 to 127; outside, the nearest of these; NaN stays NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector PowerOfTwo(TVector x)
    {
        x = TSimd.Min(TSimd.Broadcast(127), TSimd.Max(TSimd.Broadcast(-126), x));
        TVector rounder = TSimd.Broadcast(12582912); // 1.5·2^23: adding it rounds to a whole number.
        TVector shifted = TSimd.Add(x, rounder);
        x = TSimd.Subtract(x, TSimd.Subtract(shifted, rounder));

        // Minimax polynomial of 2^x on [-1/2, 1/2], relative error 2e-9 before rounding.
        TVector y = TSimd.Broadcast(1.535335929e-4f);
        y = TSimd.MultiplyAdd(y, x, TSimd.Broadcast(1.339887437e-3f));
        y = TSimd.MultiplyAdd(y, x, TSimd.Broadcast(9.618437367e-3f));
        y = TSimd.MultiplyAdd(y, x, TSimd.Broadcast(5.550332471e-2f));
        y = TSimd.MultiplyAdd(y, x, TSimd.Broadcast(2.402264791e-1f));
        y = TSimd.MultiplyAdd(y, x, TSimd.Broadcast(6.931472029e-1f));
        y = TSimd.MultiplyAdd(y, x, TSimd.Broadcast(1));
        return TSimd.Multiply(y, TSimd.PowerOfTwo(shifted));
    }
}

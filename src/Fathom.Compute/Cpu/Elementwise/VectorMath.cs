// The exponential, for softmax and SiLU. exp(x) = 2^n · exp(r) with n = round(x / ln 2) and |r| ≤ ln 2 / 2; ln 2 is taken off in
// two parts, the first of 15 fraction bits, so that n times it is exact. exp(r) is 1 + r + r²·p(r) with the coefficients of the
// relative minimax polynomial of degree six (Remez exchange; 3.8e-9 before rounding). Together with rounding: 1.2e-7.
using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>Functions of one variable on F32 lanes.</summary>
internal static class VectorMath
{
    /// <summary>exp(x): 0 below -104, infinity above 88.72, NaN for NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Exp<V>(V x) where V : struct, ILanes<V>
    {
        x = V.Clamp(x, -104f, 89f);
        V n = V.Round(x * V.Broadcast(1.442695f));
        V r = V.MultiplyAdd(n, V.Broadcast(-0.693145752f), x);
        r = V.MultiplyAdd(n, V.Broadcast(-1.42860677e-6f), r);
        V p = V.MultiplyAdd(V.Broadcast(0.00138146128f), r, V.Broadcast(0.00836871006f));
        p = V.MultiplyAdd(p, r, V.Broadcast(0.041668389f));
        p = V.MultiplyAdd(p, r, V.Broadcast(0.166665211f));
        p = V.MultiplyAdd(p, r, V.Broadcast(0.49999994f));
        p = V.MultiplyAdd(p * r, r, r);
        return V.Scale(p + V.Broadcast(1f), n);
    }

    /// <summary>1 / (1 + exp(-x)).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Sigmoid<V>(V x) where V : struct, ILanes<V>
    {
        V one = V.Broadcast(1f);
        return one / (one + Exp(V.Broadcast(0f) - x));
    }
}

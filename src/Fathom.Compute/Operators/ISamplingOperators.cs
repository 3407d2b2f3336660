// Choice of the next tokens where the logits lie: on a GPU 129,280 of them for each of 128 sequences are 66 MB a step. Everything after
// the one exponential is done in integers, and that exponential in operations that round alike everywhere, so that the same logits
// and the same draw give the same token on every device.
using System.Runtime.InteropServices;
using Fathom.Numerics;

namespace Fathom.Compute.Operators;

/// <summary>How a row's token is chosen. All zero is the first largest logit.</summary>
/// <param name="Temperature">What logits are divided by; 0 takes the first largest, and nothing else is looked at.</param>
/// <param name="TopP">The nucleus: the fewest likeliest tokens that weigh at least this share together; 1 or more for all.</param>
/// <param name="MinP">Least weight relative to the likeliest token's; 0 for none.</param>
/// <param name="TopK">So many likeliest tokens at most; 0 for all.</param>
/// <param name="Draw">A random number of [0, 1).</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct SamplingRule(float Temperature, float TopP, float MinP, int TopK, double Draw)
{
    /// <summary>Bytes of a rule in memory.</summary>
    public const int Bytes = 24;
}

/// <summary>Sampling from logits.</summary>
public interface ISamplingOperators
{
    /// <summary>
    /// The token of each row. Weights are exp((logit - largest) / temperature), as multiples of 2^-40; top-k, top-p and min-p each cut the
    /// ranking by weight (ties by id), top-p by the sum of what top-k kept; the draw's share of what is left, counted by id, is the
    /// token. A logit that is not a number weighs nothing; where none is, the token is 0.
    /// </summary>
    /// <param name="logits">[M, V] F32.</param>
    /// <param name="rules">[M, 24] U8: a <see cref="SamplingRule"/> a row.</param>
    /// <param name="tokens">[M] I32, overwritten.</param>
    void Choose(Tensor logits, Tensor rules, Tensor tokens);
}

/// <summary>What the devices' samplers share.</summary>
internal static class SamplingWeights
{
    /// <summary>Weight of the likeliest token in integer sums.</summary>
    public const float Unit = 1L << 40;

    private const float LeastExponent = -40;

    /// <summary>2^x by a polynomial in operations that every device rounds alike (sampling.cu has the same).</summary>
    /// <returns>At most 1; 0 below 2^-40 and for what is not a number.</returns>
    public static float Of(float logit, float largest, float temperature)
    {
        if (logit == largest) return 1;
        float x = (logit - largest) / temperature * 1.44269504f;
        if (!(x >= LeastExponent)) return 0;
        float whole = MathF.Round(x), part = x - whole; // to nearest even
        float p = 1.5403530e-4f;
        p = MathF.FusedMultiplyAdd(p, part, 1.3333558e-3f);
        p = MathF.FusedMultiplyAdd(p, part, 9.6181291e-3f);
        p = MathF.FusedMultiplyAdd(p, part, 5.5504109e-2f);
        p = MathF.FusedMultiplyAdd(p, part, 2.4022651e-1f);
        p = MathF.FusedMultiplyAdd(p, part, 6.9314718e-1f);
        p = MathF.FusedMultiplyAdd(p, part, 1);
        return MathF.Min(1, p * BitConverter.Int32BitsToSingle(((int)whole + 127) << 23));
    }

    /// <summary>A weight in integer sums.</summary>
    public static ulong Fixed(float weight) => (ulong)(weight * Unit);

    /// <summary>A share of a sum, rounded down.</summary>
    public static ulong Share(double share, ulong total) => (ulong)(share * total);

    /// <summary>Checks the operator's arguments.</summary>
    public static void Check(in Tensor logits, in Tensor rules, in Tensor tokens)
    {
        const string Op = "sampling";
        Require.Matrix(Op, "logits", logits, logits.Rows, logits.Columns);
        Require.That(logits.Columns > 0, Op, "the vocabulary is empty");
        Require.Vector(Op, "rules", rules, logits.Rows * SamplingRule.Bytes, DType.U8);
        Require.Vector(Op, "tokens", tokens, logits.Rows, DType.I32);
        Require.Writable(Op, "tokens", tokens);
    }
}

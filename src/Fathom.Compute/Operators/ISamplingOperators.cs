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

/// <summary>A row of logits that a request changes before a token is chosen.</summary>
/// <param name="Row">Of the logits.</param>
/// <param name="First">The first of its changes.</param>
/// <param name="Count">How many changes; their tokens differ.</param>
/// <param name="Mask">Which mask says what may come at all; -1 for none.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct AdjustedRow(int Row, int First, int Count, int Mask)
{
    /// <summary>Bytes in memory.</summary>
    public const int Bytes = 16;
}

/// <summary>
/// What becomes of one token's logit: x + bias, then divided by the repetition penalty where it is positive and multiplied where not, then
/// less the penalty.
/// </summary>
/// <param name="Token">Id of the token.</param>
/// <param name="Bias">Added first; negative infinity forbids the token.</param>
/// <param name="Repetition">Penalty of tokens that were there before; 1 for none.</param>
/// <param name="Penalty">Taken away last.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct LogitChange(int Token, float Bias, float Repetition, float Penalty)
{
    /// <summary>Bytes in memory.</summary>
    public const int Bytes = 16;

    /// <summary>The changed logit, rounded alike on every device.</summary>
    public float Of(float logit)
    {
        float x = logit + Bias;
        if (Repetition != 1) x = x > 0 ? x / Repetition : x * Repetition;
        return x - Penalty;
    }
}

/// <summary>Sampling from logits.</summary>
public interface ISamplingOperators
{
    /// <summary>Changes logits as requests ask: first what their masks forbid becomes negative infinity, then tokens are changed one by one.</summary>
    /// <param name="logits">[M, V] F32, in place.</param>
    /// <param name="rows">[N, 16] U8: an <see cref="AdjustedRow"/> each; no row of the logits twice.</param>
    /// <param name="changes">[C, 16] U8: a <see cref="LogitChange"/> each; empty for none.</param>
    /// <param name="masks">[masks, words] I32: bit v % 32 of word v / 32 is set where token v may come, at least ceil(V / 32) words; empty for none.</param>
    /// <exception cref="ArgumentException">Operands that do not fit, and indices outside them; of these a GPU tells with the next wait.</exception>
    void Adjust(Tensor logits, Tensor rows, Tensor changes, Tensor masks);

    /// <summary>
    /// A token for each rule. Weights are exp((logit - largest) / temperature), as multiples of 2^-40; top-k, top-p and min-p each cut the
    /// ranking by weight (ties by id), top-p by the sum of what top-k kept; the draw's share of what is left, counted by id, is the
    /// token. A logit that is not a number weighs nothing; where the largest is not finite, nothing can be chosen, and the token is -1.
    /// </summary>
    /// <param name="logits">[M, V] F32.</param>
    /// <param name="rows">[N] I32: the row of the logits that each rule is for; empty where they are all rows in order.</param>
    /// <param name="rules">[N, 24] U8: a <see cref="SamplingRule"/> each.</param>
    /// <param name="tokens">[N] I32, overwritten.</param>
    /// <exception cref="ArgumentException">Operands that do not fit, and rows outside the logits; of these a GPU tells with the next wait.</exception>
    void Choose(Tensor logits, Tensor rows, Tensor rules, Tensor tokens);
}

/// <summary>What the devices' samplers share.</summary>
internal static class SamplingWeights
{
    /// <summary>Weight of the likeliest token in integer sums.</summary>
    public const float Unit = 1L << 40;

    /// <summary>Least base-2 logarithm of a weight that counts.</summary>
    public const float LeastExponent = -40;

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

    /// <summary>How much of a sum above zero passes before the drawn token; always less than the sum, which the product may round up to.</summary>
    public static ulong Drawn(double draw, ulong total) => Math.Min(Share(draw, total), total - 1);

    /// <summary>Checks the arguments of a choice.</summary>
    public static void Check(in Tensor logits, in Tensor rows, in Tensor rules, in Tensor tokens)
    {
        const string Op = "sampling.choose";
        Require.Matrix(Op, "logits", logits, logits.Rows, logits.Columns);
        Require.That(logits.Columns > 0, Op, "the vocabulary is empty");
        long count = rows.IsEmpty ? logits.Rows : rows.Elements;
        if (!rows.IsEmpty) Require.Vector(Op, "rows", rows, count, DType.I32);
        Require.Vector(Op, "rules", rules, count * SamplingRule.Bytes, DType.U8);
        Require.Vector(Op, "tokens", tokens, count, DType.I32);
        Require.Writable(Op, "tokens", tokens);
    }

    /// <summary>Checks the arguments of an adjustment, but for what rows and changes contain.</summary>
    public static void CheckAdjust(in Tensor logits, in Tensor rows, in Tensor changes, in Tensor masks)
    {
        const string Op = "sampling.adjust";
        Require.Matrix(Op, "logits", logits, logits.Rows, logits.Columns);
        Require.Writable(Op, "logits", logits);
        Require.Vector(Op, "rows", rows, rows.Rows * AdjustedRow.Bytes, DType.U8);
        if (!changes.IsEmpty) Require.Vector(Op, "changes", changes, changes.Rows * LogitChange.Bytes, DType.U8);
        if (masks.IsEmpty) return;
        Require.Vector(Op, "masks", masks, masks.Elements, DType.I32);
        Require.That(masks.Columns * 32 >= logits.Columns, Op, $"masks have {masks.Columns} words, expected at least {(logits.Columns + 31) / 32} for {logits.Columns} tokens");
    }

    /// <summary>Whether an index is one of 0 to limit - 1; the message is that of a GPU's note.</summary>
    /// <exception cref="ArgumentException">It is not.</exception>
    public static int Index(string what, int index, string where, long place, string limits, long limit) =>
        (uint)index < (ulong)limit ? index : throw new ArgumentException($"{what} {index} of {where} {place} is outside the {limit} {limits}");
}

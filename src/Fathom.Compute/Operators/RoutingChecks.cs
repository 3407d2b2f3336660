using Fathom.Numerics;

namespace Fathom.Compute.Operators;

/// <summary>Argument checks of <see cref="IRoutingOperators"/> that its implementations share.</summary>
internal static class RoutingChecks
{
    /// <summary>Operands of the choice.</summary>
    /// <returns>The number of tokens.</returns>
    public static long Choose(Tensor logits, Tensor bias, RoutingOptions options, Tensor scores, Tensor experts, Tensor gates, Tensor load)
    {
        const string Op = "choose experts";
        Check(Op, options);
        long tokens = logits.Rows;
        Require.Matrix(Op, "logits", logits, tokens, options.Experts);
        if (!bias.IsEmpty) Require.Vector(Op, "bias", bias, options.Experts);
        Require.Matrix(Op, "scores", scores, tokens, options.Experts);
        Require.Matrix(Op, "experts", experts, tokens, options.TopK, DType.I32);
        Require.Matrix(Op, "gates", gates, tokens, options.TopK);
        Require.Vector(Op, "load", load, options.Experts, DType.I64);
        Require.Writable(Op, "scores", scores);
        return tokens;
    }

    /// <summary>Operands of the choice's gradient.</summary>
    /// <returns>Tokens of a sequence; 0 where the balance loss takes no part.</returns>
    public static long ChooseGradient(Tensor dgates, Tensor scores, Tensor experts, RoutingOptions options, Tensor balanceFrequencies, Tensor dlogits)
    {
        const string Op = "choose experts gradient";
        Check(Op, options);
        long tokens = scores.Rows, perSequence = 0;
        Require.Matrix(Op, "dgates", dgates, tokens, options.TopK);
        Require.Matrix(Op, "scores", scores, tokens, options.Experts);
        Require.Matrix(Op, "experts", experts, tokens, options.TopK, DType.I32);
        Require.Matrix(Op, "dlogits", dlogits, tokens, options.Experts);
        Require.Writable(Op, "dlogits", dlogits);
        if (!balanceFrequencies.IsEmpty && tokens > 0)
        {
            Require.Matrix(Op, "balanceFrequencies", balanceFrequencies, balanceFrequencies.Rows, options.Experts);
            perSequence = TokensOfSequence(Op, tokens, balanceFrequencies.Rows);
        }

        return perSequence;
    }

    /// <summary>Operands of the balance loss.</summary>
    /// <returns>Tokens of a sequence.</returns>
    public static long BalanceLoss(Tensor scores, int topK, int batch, Tensor frequencies, Tensor losses)
    {
        const string Op = "balance loss";
        int experts = checked((int)scores.Columns);
        Require.That(topK >= 1 && topK <= experts, Op, "topK must lie between 1 and the number of experts");
        Require.Matrix(Op, "scores", scores, scores.Rows, experts);
        Require.Matrix(Op, "frequencies", frequencies, batch, experts);
        Require.Vector(Op, "losses", losses, batch);
        return TokensOfSequence(Op, scores.Rows, batch);
    }

    private static void Check(string op, RoutingOptions options)
    {
        Require.That(options.TopK >= 1 && options.TopK <= options.Experts, op, "topK must lie between 1 and the number of experts");
        if (options.Method == TopKMethod.Greedy) return;
        Require.That(options.Groups >= 1 && options.Experts % options.Groups == 0, op, "the number of groups must divide the number of experts");
        Require.That(options.TopKGroups >= 1 && options.TopKGroups <= options.Groups, op, "topKGroups must lie between 1 and the number of groups");
    }

    private static long TokensOfSequence(string op, long tokens, long batch)
    {
        if (batch < 1 || tokens % batch != 0) Require.That(false, op, $"{tokens} tokens are not {batch} sequences of equal length");
        return tokens / batch;
    }

    /// <summary>Operands of a movement of one number a slot.</summary>
    public static void Permutation(string op, in Tensor from, in Tensor slotOfRow, in Tensor to)
    {
        Require.Vector(op, "slotOfRow", slotOfRow, slotOfRow.Elements, DType.I32);
        Require.Vector(op, "from", from, slotOfRow.Elements);
        Require.Vector(op, "to", to, slotOfRow.Elements);
        Require.Writable(op, "to", to);
    }
}

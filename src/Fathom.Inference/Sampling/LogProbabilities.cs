namespace Fathom.Inference;

/// <summary>Log-probabilities of a token and of the most likely ones.</summary>
internal static class LogProbabilities
{
    /// <summary>What a row of logits says about a token.</summary>
    /// <param name="logits">[V].</param>
    /// <param name="id">The token that was chosen.</param>
    /// <param name="logSum">Of <see cref="LogSum"/>.</param>
    public static float Of(ReadOnlySpan<float> logits, int id, double logSum) => (float)(logits[id] - logSum);

    /// <summary>Logarithm of the sum of the exponentials.</summary>
    public static double LogSum(ReadOnlySpan<float> logits)
    {
        float max = float.NegativeInfinity;
        foreach (float logit in logits) max = logit > max ? logit : max;
        double sum = 0;
        foreach (float logit in logits) sum += Math.Exp(logit - max);
        return max + Math.Log(sum);
    }

    /// <summary>The most likely tokens, best first, of equal ones the lower id.</summary>
    /// <param name="logits">[V].</param>
    /// <param name="count">How many, at most V.</param>
    /// <param name="logSum">Of <see cref="LogSum"/>.</param>
    public static TokenLogProb[] Top(ReadOnlySpan<float> logits, int count, double logSum)
    {
        var best = new TokenLogProb[Math.Min(count, logits.Length)];
        int kept = 0;
        for (int id = 0; id < logits.Length && best.Length > 0; id++)
        {
            if (kept == best.Length && logits[id] <= logits[best[^1].Id]) continue;
            int at = kept < best.Length ? kept++ : kept - 1;
            for (; at > 0 && logits[best[at - 1].Id] < logits[id]; at--) best[at] = best[at - 1];
            best[at] = new TokenLogProb(id, Of(logits, id, logSum));
        }

        return best;
    }
}

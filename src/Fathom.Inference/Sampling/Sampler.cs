// Choice of the next token. Filters apply in the order temperature, top-k, top-p, min-p, each to what the one before kept, and the
// rest is normalised again. The random number of token i is a function of (seed, i), so a result does not depend on what else runs.
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>Chooses tokens for one vocabulary. Not thread-safe: it keeps its working memory.</summary>
public sealed class Sampler(int vocabulary)
{
    private const string Stream = "sampling";
    private readonly float[] probabilities = new float[vocabulary];
    private readonly ulong[] candidates = new ulong[vocabulary];

    /// <summary>The token after a position.</summary>
    /// <param name="logits">[V].</param>
    /// <param name="options">Filters and seed.</param>
    /// <param name="index">Number of the generated token, from 0.</param>
    /// <exception cref="FathomException">No token can be chosen: all are forbidden, or the logits are not numbers.</exception>
    public int Next(ReadOnlySpan<float> logits, SamplingOptions options, long index)
    {
        int best = IndexOfMax(logits);
        if (float.IsNegativeInfinity(logits[best])) throw new FathomException("no token can be chosen: the constraint, biases and least length forbid all of them");
        if (!float.IsFinite(logits[best])) throw new FathomException($"no token can be chosen: the model's logits are not numbers (the largest is {logits[best]})");
        if (options.Temperature == 0) return best;
        Softmax(logits, options.Temperature);
        int kept = Filter(options);
        if (kept == 0) return best; // sums that are not numbers: some logits are not, but the largest is
        double total = 0;
        for (int i = 0; i < kept; i++) total += Probability(candidates[i]);
        double left = new Philox(options.Seed, Stream).UniformDouble((ulong)index) * total;
        for (int i = 0; i < kept; i++)
        {
            left -= Probability(candidates[i]);
            if (left < 0) return Token(candidates[i]);
        }

        return Token(candidates[kept - 1]);
    }

    /// <summary>The first of the largest logits.</summary>
    public static int IndexOfMax(ReadOnlySpan<float> logits)
    {
        int best = 0;
        for (int i = 1; i < logits.Length; i++)
        {
            if (logits[i] > logits[best]) best = i;
        }

        return best;
    }

    private void Softmax(ReadOnlySpan<float> logits, float temperature)
    {
        float max = logits[IndexOfMax(logits)];
        double sum = 0;
        for (int i = 0; i < logits.Length; i++)
        {
            float p = MathF.Exp((logits[i] - max) / temperature);
            probabilities[i] = p;
            sum += p;
        }

        float scale = (float)(1 / sum);
        for (int i = 0; i < logits.Length; i++) probabilities[i] *= scale;
    }

    /// <summary>Fills <see cref="candidates"/> with what the filters keep, most likely first where a filter needs an order; ties by id.</summary>
    private int Filter(SamplingOptions options)
    {
        bool ordered = options.TopP < 1 || options.TopK > 0 && options.TopK < vocabulary;

        // Tokens below this cannot be in the nucleus: all of them together weigh less than 1 - p. It spares sorting the vocabulary.
        float least = options.TopK == 0 && options.TopP < 1 ? (1 - options.TopP) / vocabulary : 0;
        float largest = 0;
        int count = 0;
        for (int i = 0; i < vocabulary; i++)
        {
            float p = probabilities[i];
            largest = MathF.Max(largest, p);
            if (p >= least && p > 0) candidates[count++] = (ulong)~BitConverter.SingleToUInt32Bits(p) << 32 | (uint)i;
        }

        if (ordered) candidates.AsSpan(0, count).Sort();
        if (options.TopK > 0) count = Math.Min(count, options.TopK);
        if (options.TopP < 1)
        {
            double total = 0, sum = 0;
            if (options.TopK == 0) total = 1;
            else for (int i = 0; i < count; i++) total += Probability(candidates[i]);
            int kept = 0;
            while (kept < count && (kept == 0 || sum < options.TopP * total)) sum += Probability(candidates[kept++]);
            count = kept;
        }

        if (options.MinP <= 0) return count;
        int likely = 0;
        for (int i = 0; i < count; i++)
        {
            if (Probability(candidates[i]) >= options.MinP * largest) candidates[likely++] = candidates[i];
        }

        return likely;
    }

    private static float Probability(ulong candidate) => BitConverter.UInt32BitsToSingle(~(uint)(candidate >> 32));

    private static int Token(ulong candidate) => (int)(uint)candidate;
}

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
        double sum = Exponentials.Of(logits, logits[best], options.Temperature, probabilities);
        double random = new Philox(options.Seed, Stream).UniformDouble((ulong)index);
        if (options is { TopP: 1, TopK: 0, MinP: 0 }) return Exponentials.Find(probabilities, random * sum) ?? best;
        float scale = (float)(1 / sum);
        for (int i = 0; i < logits.Length; i++) probabilities[i] *= scale;
        int kept = Filter(options);
        if (kept == 0) return best; // sums that are not numbers: some logits are not, but the largest is
        double total = 0;
        for (int i = 0; i < kept; i++) total += Probability(candidates[i]);
        double left = random * total;
        for (int i = 0; i < kept; i++)
        {
            left -= Probability(candidates[i]);
            if (left < 0) return Token(candidates[i]);
        }

        return Token(candidates[kept - 1]);
    }

    /// <summary>The first of the largest logits; those that are not numbers are none of them.</summary>
    public static int IndexOfMax(ReadOnlySpan<float> logits) => Exponentials.IndexOfMax(logits);

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

        if (options.TopK > 0 && options.TopK < count)
        {
            MoveSmallest(candidates.AsSpan(0, count), options.TopK);
            count = options.TopK;
        }

        if (ordered) candidates.AsSpan(0, count).Sort();
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

    /// <summary>Moves the smallest keys, which differ from one another, to the front, in any order.</summary>
    private static void MoveSmallest(Span<ulong> keys, int count)
    {
        int first = 0, last = keys.Length - 1;
        while (first < last)
        {
            ulong pivot = keys[first + (last - first) / 2];
            int i = first, j = last;
            while (i <= j)
            {
                while (keys[i] < pivot) i++;
                while (keys[j] > pivot) j--;
                if (i > j) break;
                (keys[i], keys[j]) = (keys[j], keys[i]);
                i++;
                j--;
            }

            if (count - 1 <= j) last = j;
            else if (count - 1 >= i) first = i;
            else return;
        }
    }

    private static float Probability(ulong candidate) => BitConverter.UInt32BitsToSingle(~(uint)(candidate >> 32));

    private static int Token(ulong candidate) => (int)(uint)candidate;
}

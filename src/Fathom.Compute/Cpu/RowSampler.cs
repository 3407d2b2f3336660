// The choice of one row's token. What meets the whole vocabulary (largest logit, weights, their sums) runs in vectors: with tens of streams
// and a vocabulary of 100,000 it would otherwise take longer than a small model. Only what may be kept is ever ranked.
// The trap: a vector's weights must have the bits of SamplingWeights.Of.
using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cpu;

/// <summary>Chooses by the definition of <see cref="ISamplingOperators.Choose"/>. A thread's own.</summary>
internal sealed class RowSampler
{
    private const int Lanes = 16, Piece = 256;
    private float[] weights = [];
    private ulong[] sums = []; // of the weights of each piece
    private ulong[] candidates = []; // weight's bits inverted, then id: ascending is by weight, then by id

    /// <summary>The token, or -1 where nothing can be chosen.</summary>
    public int Choose(ReadOnlySpan<float> logits, in SamplingRule rule)
    {
        float largest = Largest(logits);
        if (!float.IsFinite(largest)) return -1;
        if (rule.Temperature == 0) return logits.IndexOf(largest);
        if (weights.Length < logits.Length)
        {
            weights = new float[logits.Length];
            sums = new ulong[(logits.Length + Piece - 1) / Piece];
        }

        bool ranked = rule.TopK > 0 || rule.TopP < 1;
        ulong total = Weigh(logits, largest, rule.Temperature, ranked ? 0 : rule.MinP);
        return ranked ? FromRanking(rule, logits.Length, total) : Find(logits.Length, SamplingWeights.Drawn(rule.Draw, total));
    }

    /// <summary>Fills weights and their sums; weights below the least are zero.</summary>
    /// <returns>The sum of all.</returns>
    private ulong Weigh(ReadOnlySpan<float> logits, float largest, float temperature, float least)
    {
        ulong total = 0;
        for (int start = 0; start < logits.Length; start += Piece)
        {
            ReadOnlySpan<float> from = logits.Slice(start, Math.Min(Piece, logits.Length - start));
            Span<float> to = weights.AsSpan(start, from.Length);
            ReadOnlySpan<Vector512<float>> vectors = MemoryMarshal.Cast<float, Vector512<float>>(from);
            Span<Vector512<float>> results = MemoryMarshal.Cast<float, Vector512<float>>(to);
            Vector512<long> sum = Vector512<long>.Zero;
            for (int i = 0; i < vectors.Length; i++)
            {
                Vector512<float> weight = Weight(vectors[i], largest, temperature);
                weight = Vector512.ConditionalSelect(Vector512.GreaterThanOrEqual(weight, Vector512.Create(least)), weight, Vector512<float>.Zero);
                results[i] = weight;
                weight *= SamplingWeights.Unit; // exact, and so are both steps to integers
                sum += Vector512.ConvertToInt64(Vector512.WidenLower(weight)) + Vector512.ConvertToInt64(Vector512.WidenUpper(weight));
            }

            ulong piece = (ulong)Vector512.Sum(sum);
            for (int i = vectors.Length * Lanes; i < from.Length; i++)
            {
                float weight = SamplingWeights.Of(from[i], largest, temperature);
                to[i] = weight >= least ? weight : 0;
                piece += SamplingWeights.Fixed(to[i]);
            }

            sums[start / Piece] = piece;
            total += piece;
        }

        return total;
    }

    /// <summary><see cref="SamplingWeights.Of"/>, step by step.</summary>
    private static Vector512<float> Weight(Vector512<float> logit, float largest, float temperature)
    {
        Vector512<float> one = Vector512.Create(1f);
        Vector512<float> x = (logit - Vector512.Create(largest)) / Vector512.Create(temperature) * Vector512.Create(1.44269504f);
        Vector512<float> counts = Vector512.GreaterThanOrEqual(x, Vector512.Create(SamplingWeights.LeastExponent));
        x = Vector512.ConditionalSelect(counts, x, Vector512<float>.Zero);
        Vector512<float> whole = Vector512.Round(x), part = x - whole, p = Vector512.Create(1.5403530e-4f);
        p = Vector512.FusedMultiplyAdd(p, part, Vector512.Create(1.3333558e-3f));
        p = Vector512.FusedMultiplyAdd(p, part, Vector512.Create(9.6181291e-3f));
        p = Vector512.FusedMultiplyAdd(p, part, Vector512.Create(5.5504109e-2f));
        p = Vector512.FusedMultiplyAdd(p, part, Vector512.Create(2.4022651e-1f));
        p = Vector512.FusedMultiplyAdd(p, part, Vector512.Create(6.9314718e-1f));
        p = Vector512.FusedMultiplyAdd(p, part, one);
        Vector512<float> power = (Vector512.ConvertToInt32(whole) + Vector512.Create(127) << 23).AsSingle();
        Vector512<float> weight = Vector512.ConditionalSelect(counts, Vector512.Min(one, p * power), Vector512<float>.Zero);
        return Vector512.ConditionalSelect(Vector512.Equals(logit, Vector512.Create(largest)), one, weight);
    }

    /// <summary>The token in which so much of all weights, counted by id, has passed.</summary>
    private int Find(int length, ulong left)
    {
        int piece = 0;
        while (left >= sums[piece]) left -= sums[piece++];
        for (int i = piece * Piece; i < length; i++)
        {
            ulong share = SamplingWeights.Fixed(weights[i]);
            if (left < share) return i;
            left -= share;
        }

        throw new InvalidOperationException("the weights of a row are not what their sums say");
    }

    private int FromRanking(in SamplingRule rule, int length, ulong total)
    {
        Span<ulong> kept = Rank(rule, length, ref total);
        if (rule.TopP < 1)
        {
            ulong limit = Math.Max(1, SamplingWeights.Share(rule.TopP, total)), before = 0;
            int nucleus = 0;
            while (nucleus < kept.Length && before < limit) before += SamplingWeights.Fixed(Weight(kept[nucleus++]));
            kept = kept[..nucleus];
        }

        while (Weight(kept[^1]) < rule.MinP && kept.Length > 1) kept = kept[..^1];
        ulong sum = 0;
        foreach (ulong candidate in kept) sum += SamplingWeights.Fixed(Weight(candidate));
        kept.Sort((a, b) => ((uint)a).CompareTo((uint)b));
        ulong left = SamplingWeights.Drawn(rule.Draw, sum);
        foreach (ulong candidate in kept)
        {
            ulong share = SamplingWeights.Fixed(Weight(candidate));
            if (left < share) return (int)(uint)candidate;
            left -= share;
        }

        throw new InvalidOperationException("the weights of a ranking are not what their sum says");
    }

    /// <summary>What top-k keeps, or what may lie in the nucleus, likeliest first.</summary>
    /// <param name="rule">The rule.</param>
    /// <param name="length">Tokens.</param>
    /// <param name="total">Sum of all weights; afterwards of those that top-k keeps.</param>
    private Span<ulong> Rank(in SamplingRule rule, int length, ref ulong total)
    {
        if (candidates.Length < length) candidates = new ulong[length];
        float least = float.Epsilon;

        // All tokens lighter than this weigh less together than what the nucleus may leave out.
        if (rule.TopK == 0) least = MathF.Max(least, (float)((1.0 - rule.TopP) * total / length / SamplingWeights.Unit * 0.999));
        int count = Gather(length, least);
        Span<ulong> kept = candidates.AsSpan(0, count);
        if (rule.TopK > 0 && rule.TopK < count)
        {
            MoveSmallest(kept, rule.TopK);
            kept = kept[..rule.TopK];
            total = 0;
            foreach (ulong candidate in kept) total += SamplingWeights.Fixed(Weight(candidate));
        }

        kept.Sort();
        return kept;
    }

    /// <summary>Lists the tokens of at least a weight above zero.</summary>
    private int Gather(int length, float least)
    {
        int count = 0, i = 0;
        ReadOnlySpan<Vector512<float>> vectors = MemoryMarshal.Cast<float, Vector512<float>>(weights.AsSpan(0, length));
        for (; i < vectors.Length; i++)
        {
            for (ulong bits = Vector512.GreaterThanOrEqual(vectors[i], Vector512.Create(least)).ExtractMostSignificantBits(); bits != 0; bits &= bits - 1)
                Add(i * Lanes + BitOperations.TrailingZeroCount(bits));
        }

        for (i *= Lanes; i < length; i++)
        {
            if (weights[i] >= least) Add(i);
        }

        return count;

        void Add(int id) => candidates[count++] = (ulong)~BitConverter.SingleToUInt32Bits(weights[id]) << 32 | (uint)id;
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

    private static float Weight(ulong candidate) => BitConverter.UInt32BitsToSingle(~(uint)(candidate >> 32));

    /// <summary>The largest number; minus infinity where there is none.</summary>
    private static float Largest(ReadOnlySpan<float> logits)
    {
        ReadOnlySpan<Vector512<float>> vectors = MemoryMarshal.Cast<float, Vector512<float>>(logits);
        Vector512<float> best = Vector512.Create(float.NegativeInfinity);
        foreach (Vector512<float> next in vectors) best = Vector512.ConditionalSelect(Vector512.GreaterThan(next, best), next, best);
        float largest = float.NegativeInfinity;
        for (int lane = 0; lane < Lanes; lane++) largest = MathF.Max(largest, best[lane]);
        for (int i = vectors.Length * Lanes; i < logits.Length; i++)
        {
            if (logits[i] > largest) largest = logits[i];
        }

        return largest;
    }
}

// Sampling on the processor: one pass for the largest logit, one for the weights; only what may lie in the nucleus is sorted, and
// only where a filter needs an order.
using System.Numerics;
using System.Runtime.InteropServices;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="ISamplingOperators"/> on the processor. One thread at a time: it keeps its working memory.</summary>
internal sealed class CpuSampling : ISamplingOperators
{
    private ulong[] candidates = []; // weight's bits inverted, then id: ascending is by weight, then by id

    public void Choose(Tensor logits, Tensor rules, Tensor tokens)
    {
        SamplingWeights.Check(logits, rules, tokens);
        ReadOnlySpan<SamplingRule> all = MemoryMarshal.Cast<byte, SamplingRule>(rules.AsSpan<byte>());
        if (candidates.Length < logits.Columns) candidates = new ulong[logits.Columns];
        for (long m = 0; m < logits.Rows; m++) tokens.AsSpan<int>()[(int)m] = Choose(logits.Row<float>(m), all[(int)m]);
    }

    private int Choose(ReadOnlySpan<float> logits, SamplingRule rule)
    {
        float largest = Largest(logits);
        if (largest == float.NegativeInfinity) return 0;
        if (rule.Temperature == 0) return logits.IndexOf(largest);
        Span<ulong> kept = candidates.AsSpan(0, Weigh(logits, largest, rule, out ulong total));
        kept = Filter(kept, rule, total);
        ulong sum = 0;
        foreach (ulong candidate in kept) sum += SamplingWeights.Fixed(Weight(candidate));
        if (IsRanked(rule)) kept.Sort((a, b) => ((uint)a).CompareTo((uint)b));
        ulong left = SamplingWeights.Share(rule.Draw, sum);
        foreach (ulong candidate in kept)
        {
            ulong share = SamplingWeights.Fixed(Weight(candidate));
            if (left < share) return (int)(uint)candidate;
            left -= share;
        }

        throw new ArgumentException($"sampling: a draw of {rule.Draw} is not in [0, 1)");
    }

    /// <summary>Lists what may be kept; the sum is that of all.</summary>
    private int Weigh(ReadOnlySpan<float> logits, float largest, SamplingRule rule, out ulong total)
    {
        int count = 0;
        total = 0;
        float least = rule.TopP < 1 || rule.TopK > 0 ? 0 : rule.MinP;
        for (int i = 0; i < logits.Length; i++)
        {
            float weight = SamplingWeights.Of(logits[i], largest, rule.Temperature);
            if (weight == 0 || weight < least) continue;
            total += SamplingWeights.Fixed(weight);
            candidates[count++] = (ulong)~BitConverter.SingleToUInt32Bits(weight) << 32 | (uint)i;
        }

        if (rule.TopK > 0 || rule.TopP >= 1) return count;

        // All tokens lighter than this weigh less than what the nucleus may leave out.
        float light = (float)((1.0 - rule.TopP) * total / logits.Length / SamplingWeights.Unit * 0.999);
        int heavy = 0;
        for (int i = 0; i < count; i++)
        {
            if (Weight(candidates[i]) >= light) candidates[heavy++] = candidates[i];
        }

        return heavy;
    }

    private static Span<ulong> Filter(Span<ulong> kept, SamplingRule rule, ulong total)
    {
        if (IsRanked(rule)) kept.Sort();
        if (rule.TopK > 0 && rule.TopK < kept.Length)
        {
            kept = kept[..rule.TopK];
            total = 0;
            foreach (ulong candidate in kept) total += SamplingWeights.Fixed(Weight(candidate));
        }

        if (rule.TopP < 1)
        {
            ulong limit = Math.Max(1, SamplingWeights.Share(rule.TopP, total)), before = 0;
            int nucleus = 0;
            while (nucleus < kept.Length && before < limit) before += SamplingWeights.Fixed(Weight(kept[nucleus++]));
            kept = kept[..nucleus];
        }

        if (IsRanked(rule))
        {
            while (Weight(kept[^1]) < rule.MinP && kept.Length > 1) kept = kept[..^1];
        }

        return kept;
    }

    private static bool IsRanked(SamplingRule rule) => rule.TopK > 0 || rule.TopP < 1;

    private static float Weight(ulong candidate) => BitConverter.UInt32BitsToSingle(~(uint)(candidate >> 32));

    /// <summary>The largest number; minus infinity where there is none.</summary>
    private static float Largest(ReadOnlySpan<float> logits)
    {
        var best = new Vector<float>(float.NegativeInfinity);
        int i = 0;
        for (; i <= logits.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            var next = new Vector<float>(logits[i..]);
            best = Vector.ConditionalSelect(Vector.GreaterThan(next, best), next, best);
        }

        float largest = float.NegativeInfinity;
        for (int lane = 0; lane < Vector<float>.Count; lane++) largest = MathF.Max(largest, best[lane]);
        for (; i < logits.Length; i++)
        {
            if (logits[i] > largest) largest = logits[i];
        }

        return largest;
    }
}

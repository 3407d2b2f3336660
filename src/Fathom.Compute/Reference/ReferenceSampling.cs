using System.Runtime.InteropServices;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="ISamplingOperators"/>: the whole vocabulary is ranked.</summary>
internal sealed class ReferenceSampling : ISamplingOperators
{
    public void Adjust(Tensor logits, Tensor rows, Tensor changes, Tensor masks)
    {
        SamplingWeights.CheckAdjust(logits, rows, changes, masks);
        ReadOnlySpan<LogitChange> all = changes.IsEmpty ? [] : MemoryMarshal.Cast<byte, LogitChange>(changes.AsSpan<byte>());
        foreach (AdjustedRow row in MemoryMarshal.Cast<byte, AdjustedRow>(rows.AsSpan<byte>()))
        {
            Span<float> x = logits.Row<float>(row.Row);
            for (int v = 0; v < x.Length && row.Mask >= 0; v++)
            {
                if ((masks.Row<int>(row.Mask)[v / 32] >> v % 32 & 1) == 0) x[v] = float.NegativeInfinity;
            }

            foreach (LogitChange change in all.Slice(row.First, row.Count)) x[change.Token] = change.Of(x[change.Token]);
        }
    }

    public void Choose(Tensor logits, Tensor rows, Tensor rules, Tensor tokens)
    {
        SamplingWeights.Check(logits, rows, rules, tokens);
        ReadOnlySpan<SamplingRule> all = MemoryMarshal.Cast<byte, SamplingRule>(rules.AsSpan<byte>());
        for (int i = 0; i < all.Length; i++) tokens.AsSpan<int>()[i] = Choose(logits.Row<float>(rows.IsEmpty ? i : rows.GetInt(i)), all[i]);
    }

    private static int Choose(ReadOnlySpan<float> logits, SamplingRule rule)
    {
        float largest = float.NegativeInfinity;
        foreach (float logit in logits)
        {
            if (logit > largest) largest = logit;
        }

        if (!float.IsFinite(largest)) return -1;
        if (rule.Temperature == 0) return logits.IndexOf(largest);
        var weights = new List<(float Weight, int Id)>();
        for (int i = 0; i < logits.Length; i++)
        {
            float weight = SamplingWeights.Of(logits[i], largest, rule.Temperature);
            if (weight > 0) weights.Add((weight, i));
        }

        weights.Sort((a, b) => a.Weight != b.Weight ? b.Weight.CompareTo(a.Weight) : a.Id.CompareTo(b.Id));
        int kept = weights.Count;
        if (rule.TopK > 0) kept = Math.Min(kept, rule.TopK);
        if (rule.TopP < 1)
        {
            ulong limit = Math.Max(1, SamplingWeights.Share(rule.TopP, Total(weights, kept))), before = 0;
            int nucleus = 0;
            while (nucleus < kept && before < limit) before += SamplingWeights.Fixed(weights[nucleus++].Weight);
            kept = nucleus;
        }

        weights.RemoveRange(kept, weights.Count - kept);
        weights.RemoveAll(w => w.Weight < rule.MinP);
        ulong left = SamplingWeights.Drawn(rule.Draw, Total(weights, weights.Count));
        foreach ((float weight, int id) in weights.OrderBy(w => w.Id))
        {
            ulong share = SamplingWeights.Fixed(weight);
            if (left < share) return id;
            left -= share;
        }

        throw new ArgumentException($"sampling: a draw of {rule.Draw} is not in [0, 1)");
    }

    private static ulong Total(List<(float Weight, int Id)> weights, int count)
    {
        ulong total = 0;
        for (int i = 0; i < count; i++) total += SamplingWeights.Fixed(weights[i].Weight);
        return total;
    }
}

// Sampling on the processor: a thread has a row of logits, which stays in its cache for the passes over it.
using System.Runtime.InteropServices;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="ISamplingOperators"/> on the worker team. One caller at a time: threads keep their working memory.</summary>
internal sealed class CpuSampling(WorkerTeam team) : ISamplingOperators
{
    private readonly RowSampler[] samplers = [.. Enumerable.Range(0, team.Size).Select(_ => new RowSampler())];

    public void Adjust(Tensor logits, Tensor rows, Tensor changes, Tensor masks)
    {
        SamplingWeights.CheckAdjust(logits, rows, changes, masks);
        team.For(checked((int)rows.Rows), new AdjustJob(logits, rows, changes, masks));
    }

    public void Choose(Tensor logits, Tensor rows, Tensor rules, Tensor tokens)
    {
        SamplingWeights.Check(logits, rows, rules, tokens);
        team.For(checked((int)tokens.Elements), new ChooseJob(samplers, logits, rows, rules, tokens));
    }

    private readonly struct AdjustJob(Tensor logits, Tensor rows, Tensor changes, Tensor masks) : ITileJob
    {
        public void Run(int tile, int worker)
        {
            const string Op = "sampling.adjust:";
            AdjustedRow row = MemoryMarshal.Cast<byte, AdjustedRow>(rows.AsSpan<byte>())[tile];
            Span<float> x = logits.Row<float>(SamplingWeights.Index("sampling: row", row.Row, "entry", tile, "rows of logits", logits.Rows));
            if (row.Mask >= 0) Forbid(x, masks.Row<int>(SamplingWeights.Index($"{Op} mask", row.Mask, "entry", tile, "masks", masks.IsEmpty ? 0 : masks.Rows)));
            ReadOnlySpan<LogitChange> all = changes.IsEmpty ? [] : MemoryMarshal.Cast<byte, LogitChange>(changes.AsSpan<byte>());
            if ((long)row.First + row.Count > all.Length) throw new ArgumentException($"{Op} some change of entry {tile} is outside the list of changes");
            for (int i = row.First; i < row.First + row.Count; i++)
            {
                ref float logit = ref x[SamplingWeights.Index($"{Op} token", all[i].Token, "change", i, "tokens of the vocabulary", x.Length)];
                logit = all[i].Of(logit);
            }
        }

        private static void Forbid(Span<float> x, ReadOnlySpan<int> mask)
        {
            for (int word = 0; word * 32 < x.Length; word++)
            {
                if (mask[word] == -1) continue;
                Span<float> part = x.Slice(word * 32, Math.Min(32, x.Length - word * 32));
                if (mask[word] == 0)
                {
                    part.Fill(float.NegativeInfinity);
                    continue;
                }

                for (int i = 0; i < part.Length; i++)
                {
                    if ((mask[word] >> i & 1) == 0) part[i] = float.NegativeInfinity;
                }
            }
        }
    }

    private readonly struct ChooseJob(RowSampler[] samplers, Tensor logits, Tensor rows, Tensor rules, Tensor tokens) : ITileJob
    {
        public void Run(int tile, int worker)
        {
            int row = rows.IsEmpty ? tile : SamplingWeights.Index("sampling: row", rows.AsSpan<int>()[tile], "entry", tile, "rows of logits", logits.Rows);
            tokens.AsSpan<int>()[tile] = samplers[worker].Choose(logits.Row<float>(row), MemoryMarshal.Cast<byte, SamplingRule>(rules.AsSpan<byte>())[tile]);
        }
    }
}

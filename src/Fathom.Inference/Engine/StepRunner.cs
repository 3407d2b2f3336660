// Runs a step: one pass of the model over what was planned, then a token for each sequence whose last token has been computed. Drafted
// tokens are checked by choosing as if there were none: the token that a row gives is taken, and where it is the one that was drafted, the
// next row is that of the next token. So drafts change how many tokens a step brings, never which.
using System.Diagnostics;
using System.Runtime.InteropServices;
using Fathom.Compute;
using Fathom.Model;

namespace Fathom.Inference;

/// <summary>The model's side of the engine. Used by the engine's thread alone.</summary>
internal sealed class StepRunner
{
    private readonly DeepSeekModel model;
    private readonly LatentCache cache;
    private readonly InferencePass pass;
    private readonly Staging staging;
    private readonly Sampler sampler;
    private readonly List<int> fed = [];
    private readonly List<int> firstRows = [];
    private readonly DraftPolicy policy = new();
    private readonly bool draftAlways;

    /// <summary>A runner with memory of its own.</summary>
    public StepRunner(DeepSeekModel model, LatentCache cache, EngineOptions options)
    {
        (this.model, this.cache, draftAlways) = (model, cache, options.DraftAlways);
        sampler = new Sampler(model.Config.VocabSize);
        Drafter = options.DraftTokens > 0 ? new MtpDrafter(model, cache, sampler, options) : null;
        pass = new InferencePass(model.Device, options.Recipe, byRow: true) { KeepsHidden = Drafter is not null };
        staging = new Staging(model.Device);
    }

    /// <summary>The MTP module's side, or null where nothing is drafted.</summary>
    public MtpDrafter? Drafter { get; }

    /// <summary>Computes a step. Sequences that are over say so.</summary>
    /// <param name="plan">Its work.</param>
    /// <param name="failed">Told of a sequence for which no token could be chosen, and why; the others go on.</param>
    public void Run(StepPlan plan, Action<ActiveGeneration, Exception> failed)
    {
        long start = Stopwatch.GetTimestamp();
        Fill(plan);
        Tensor logits = staging.Download(model.Infer(pass, cache));
        int row = 0, tokens = 0;
        bool drafted = false;
        foreach (StepWork work in plan.All)
        {
            if (!work.Samples) continue;
            try
            {
                tokens += Choose((ActiveGeneration)work.Sequence, work, logits, row);
            }
            catch (Exception error)
            {
                failed((ActiveGeneration)work.Sequence, error);
            }

            row += 1 + work.Drafts;
            drafted |= work.Drafts > 0;
        }

        if (Drafter is null) return;
        long chosen = Stopwatch.GetTimestamp();
        DraftMode mode = draftAlways ? DraftMode.Draft : policy.Next(plan.Decodes.Count);
        if (mode != DraftMode.Off) Drafter.Run(plan, CollectionsMarshal.AsSpan(firstRows), pass.Hidden, mode == DraftMode.Draft);
        if (plan.Prompts.Count > 0) return;
        policy.Observe(
            drafted, plan.Decodes.Count, tokens, Stopwatch.GetElapsedTime(start, chosen).TotalSeconds, Stopwatch.GetElapsedTime(chosen).TotalSeconds);
    }

    private void Fill(StepPlan plan)
    {
        pass.Clear();
        firstRows.Clear();
        int rows = 0;
        foreach (StepWork work in plan.Prompts)
        {
            pass.AddPrefill(work.Sequence.Cache, work.Sequence.Tokens.Slice(work.First, work.Count), work.Samples);
            firstRows.Add(rows);
            rows += work.Count;
        }

        foreach (StepWork work in plan.Decodes)
        {
            AddDecode(work);
            firstRows.Add(rows);
            rows += work.Count + work.Drafts;
        }
    }

    private void AddDecode(StepWork work)
    {
        ReadOnlySpan<int> tokens = work.Sequence.Tokens.Slice(work.First, work.Count);
        if (work.Drafts == 0)
        {
            pass.AddDecode(work.Sequence.Cache, work.First, tokens, work.Samples ? 1 : 0);
            return;
        }

        fed.Clear();
        fed.AddRange(tokens);
        for (int i = 0; i < work.Drafts; i++) fed.Add(work.Sequence.Draft[i]);
        pass.AddDecode(work.Sequence.Cache, work.First, CollectionsMarshal.AsSpan(fed), 1 + work.Drafts);
    }

    /// <returns>Tokens chosen.</returns>
    private int Choose(ActiveGeneration generation, StepWork work, Tensor logits, int row)
    {
        int accepted = 0, before = generation.NewTokens;
        while (true)
        {
            int token = generation.Choose(logits.Row<float>(row + accepted), sampler);
            bool foreseen = accepted < work.Drafts && token == generation.Draft[accepted];
            if (foreseen) accepted++;
            if (!foreseen || generation.Finish is not null) break;
        }

        // Of a sequence that ends with an accepted draft there may be a row more than is known; nobody needs it.
        generation.Cache.Rewind(Math.Min(work.First + work.Count + accepted, generation.Tokens.Length - 1));
        generation.Draft.Clear();
        if (work.Drafts > 0)
        {
            Drafter!.Verified(work.Drafts, accepted);
            generation.DraftedTokens += work.Drafts;
            generation.AcceptedTokens += accepted;
        }

        return generation.NewTokens - before;
    }
}

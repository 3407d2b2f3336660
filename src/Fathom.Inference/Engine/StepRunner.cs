// Runs a step: one pass of the model over what was planned, then a token for each sequence whose last token has been computed
// (StepSampler), then the MTP module's drafts.
using System.Numerics;
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
    private readonly StepSampler sampler;
    private readonly List<int> fed = [];
    private readonly List<int> firstRows = [];
    private readonly DraftPolicy policy = new();
    private readonly bool draftAlways;
    private readonly TimeProvider clock;

    /// <summary>A runner with memory of its own.</summary>
    public StepRunner(DeepSeekModel model, LatentCache cache, EngineOptions options)
    {
        (this.model, this.cache, draftAlways, clock) = (model, cache, options.DraftAlways, options.Clock);
        var chooser = new TokenChooser(model.Device);
        Drafter = options.DraftTokens > 0 ? new MtpDrafter(model, cache, chooser, options) : null;
        sampler = new StepSampler(model.Device, chooser, Drafter);
        pass = new InferencePass(model.Device, options.Recipe, options.BatchInvariant) { KeepsHidden = Drafter is not null };
    }

    /// <summary>The MTP module's side, or null where nothing is drafted.</summary>
    public MtpDrafter? Drafter { get; }

    /// <summary>Computes a step. Sequences that are over say so.</summary>
    /// <param name="plan">Its work.</param>
    /// <param name="failed">Told of a sequence for which no token could be chosen, and why; the others go on.</param>
    public void Run(StepPlan plan, Action<ActiveGeneration, Exception> failed)
    {
        long start = clock.GetTimestamp();
        Fill(plan);
        Tensor logits = model.Infer(pass, cache);
        int tokens = sampler.Run(plan, logits, failed, out bool drafted);
        if (Drafter is null) return;
        long chosen = clock.GetTimestamp();
        DraftMode mode = draftAlways ? DraftMode.Draft : policy.Next(plan.Decodes.Count);
        if (mode != DraftMode.Off) Drafter.Run(plan, CollectionsMarshal.AsSpan(firstRows), pass.Hidden, mode == DraftMode.Draft);
        if (plan.Prompts.Count > 0) return;
        policy.Observe(
            drafted, plan.Decodes.Count, tokens, clock.GetElapsedTime(start, chosen).TotalSeconds, clock.GetElapsedTime(chosen).TotalSeconds);
    }

    private void Fill(StepPlan plan)
    {
        pass.Clear();
        firstRows.Clear();
        int rows = 0;
        bool samples = true;
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
            samples &= work.Samples && work.Count == 1;
        }

        // Where something is computed again, rows and logits differ in number: such steps are rare, and run as they are.
        if (pass.IsRepeatable && samples) pass.FillUp(RecordedRows(rows), cache);
    }

    /// <summary>Rows that a recorded step has: a power of two up to 128, then a multiple of 64, so that sequences may come and go without a new recording.</summary>
    /// <param name="rows">Rows that are wanted.</param>
    internal static int RecordedRows(int rows) =>
        rows <= 128 ? (int)BitOperations.RoundUpToPowerOf2((uint)rows) : (rows + 63) / 64 * 64;

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
}

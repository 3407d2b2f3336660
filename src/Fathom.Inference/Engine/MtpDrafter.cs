// Drafts of the model's own MTP module ([P] §2.2, §5.4.3). Behind every step the module runs over the same tokens as the model, each joined
// with the one that follows, and so keeps a cache of its own in the same blocks. From its last row on it drafts; a second draft goes on from
// the module's own hidden state, as if it were the model's.
// The entry of a block's last position knows one token beyond the block. Where a block is shared, that token may be another's: the draft
// may be worse for it, the text not, since drafts never decide.
using Fathom.Compute;
using Fathom.Model;

namespace Fathom.Inference;

/// <summary>Drafts for the sequences of a step. Used by the engine's thread alone.</summary>
internal sealed class MtpDrafter
{
    private readonly DeepSeekModel model;
    private readonly LatentCache cache;
    private readonly TokenChooser chooser;
    private readonly int most;
    private readonly InferencePass[] passes;
    private readonly List<ActiveGeneration> drafting = [];

    /// <summary>A drafter with memory of its own.</summary>
    public MtpDrafter(DeepSeekModel model, LatentCache cache, TokenChooser chooser, EngineOptions options)
    {
        (this.model, this.cache, this.chooser, most) = (model, cache, chooser, options.DraftTokens);
        passes = [.. Enumerable.Range(0, 2).Select(_ => new InferencePass(model.Device, options.Recipe, options.BatchInvariant))];
        Drafted = new long[most];
        Accepted = new long[most];
    }

    /// <summary>Drafts made.</summary>
    public long Drafts { get; private set; }

    /// <summary>Tokens drafted, by their place.</summary>
    public long[] Drafted { get; }

    /// <summary>Drafted tokens that were chosen, by their place.</summary>
    public long[] Accepted { get; }

    /// <summary>Runs the module behind a step of the model, and drafts.</summary>
    /// <param name="plan">The step.</param>
    /// <param name="firstRows">First row of each work of the plan in the model's pass, prompts first.</param>
    /// <param name="hidden">The model's hidden states.</param>
    /// <param name="draft">Whether to draft, or only to keep up.</param>
    public void Run(StepPlan plan, ReadOnlySpan<int> firstRows, Tensor hidden, bool draft)
    {
        InferencePass pass = passes[0];
        pass.Clear();
        drafting.Clear();
        for (int i = 0; i < plan.Prompts.Count; i++) Follow(pass, plan.Prompts[i], firstRows[i], draft);
        for (int i = 0; i < plan.Decodes.Count; i++) Follow(pass, plan.Decodes[i], firstRows[plan.Prompts.Count + i], draft);
        if (pass.IsEmpty) return;
        FillUp(pass, drafting.Count);
        Tensor logits = model.InferMtp(pass, hidden, cache);
        for (int place = 0; drafting.Count > 0; place++)
        {
            DraftNext(logits);
            if (place + 1 == most) return;
            InferencePass next = passes[(place + 1) % 2];
            next.Clear();
            int kept = 0;
            for (int row = 0; row < drafting.Count; row++)
            {
                ActiveGeneration generation = drafting[row];
                int position = generation.Cache.Length + place;
                if (position >= generation.Cache.Capacity) continue;
                next.AddDecode(generation.Cache, position, [generation.Draft[^1]], 1, row);
                drafting[kept++] = generation;
            }

            drafting.RemoveRange(kept, drafting.Count - kept);
            if (kept == 0) return;
            FillUp(next, kept);
            logits = model.InferMtp(next, pass.Hidden, cache);
            pass = next;
        }
    }

    /// <summary>Rows and logits in few different numbers, for passes that are recorded.</summary>
    private void FillUp(InferencePass pass, int outputs)
    {
        if (!pass.IsRepeatable) return;
        int wanted = outputs == 0 ? 0 : StepRunner.RecordedRows(outputs);
        pass.FillUp(StepRunner.RecordedRows(pass.Rows + wanted - outputs), cache, wanted);
    }

    /// <summary>A draft was verified.</summary>
    public void Verified(int drafted, int accepted)
    {
        Drafts++;
        for (int i = 0; i < drafted; i++) Drafted[i]++;
        for (int i = 0; i < accepted; i++) Accepted[i]++;
    }

    /// <summary>A draft more for each. Where nothing can be chosen any token is as good: the model decides.</summary>
    private void DraftNext(Tensor logits)
    {
        chooser.Clear();
        for (int i = 0; i < drafting.Count; i++) drafting[i].AskDraft(chooser, i);
        ReadOnlySpan<int> tokens = chooser.Choose(logits);
        for (int i = 0; i < drafting.Count; i++) drafting[i].Draft.Add(Math.Max(0, tokens[i]));
    }

    /// <summary>Adds what the model has computed of a sequence, each token with the one that follows.</summary>
    private void Follow(InferencePass pass, StepWork work, int firstRow, bool draft)
    {
        var generation = (ActiveGeneration)work.Sequence;
        int end = generation.Cache.Length, count = end - work.First;
        if (generation.IsOver || generation.FollowedTokens < work.First) return; // a hole that is not worth filling
        ReadOnlySpan<int> following = generation.Tokens.Slice(work.First + 1, count);
        bool wanted = draft && work.Samples;
        if (work.IsPrompt) pass.AddPrefill(generation.Cache, following, wanted, firstRow);
        else pass.AddDecode(generation.Cache, work.First, following, wanted ? 1 : 0, firstRow);
        if (wanted) drafting.Add(generation);
        generation.FollowedTokens = end;
    }
}

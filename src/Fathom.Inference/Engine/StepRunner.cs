// Runs a step: one pass of the model over what was planned, then a token for each sequence whose last token has been computed. Drafted
// tokens are checked by choosing as if there were none: the token that a row gives is taken, and where it is the one that was drafted, the
// next row is that of the next token. So drafts change how many tokens a step brings, never which.
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

    /// <summary>A runner with memory of its own.</summary>
    public StepRunner(DeepSeekModel model, LatentCache cache, EngineOptions options)
    {
        (this.model, this.cache) = (model, cache);
        pass = new InferencePass(model.Device, options.Recipe, byRow: true);
        staging = new Staging(model.Device);
        sampler = new Sampler(model.Config.VocabSize);
    }

    /// <summary>Computes a step. Sequences that are over say so.</summary>
    /// <param name="plan">Its work.</param>
    /// <param name="failed">Told of a sequence for which no token could be chosen, and why; the others go on.</param>
    public void Run(StepPlan plan, Action<ActiveGeneration, Exception> failed)
    {
        pass.Clear();
        foreach (StepWork work in plan.Prompts)
            pass.AddPrefill(work.Sequence.Cache, work.Sequence.Tokens.Slice(work.First, work.Count), work.Samples);
        foreach (StepWork work in plan.Decodes) AddDecode(work);
        Tensor logits = staging.Download(model.Infer(pass, cache));
        int row = 0;
        foreach (StepWork work in plan.All)
        {
            if (!work.Samples) continue;
            try
            {
                Choose((ActiveGeneration)work.Sequence, work, logits, row);
            }
            catch (Exception error)
            {
                failed((ActiveGeneration)work.Sequence, error);
            }

            row += 1 + work.Drafts;
        }
    }

    private void AddDecode(StepWork work)
    {
        ReadOnlySpan<int> tokens = work.Sequence.Tokens.Slice(work.First, work.Count);
        if (work.Drafts == 0)
        {
            pass.AddDecode(work.Sequence.Cache, tokens, work.Samples ? 1 : 0);
            return;
        }

        fed.Clear();
        fed.AddRange(tokens);
        for (int i = 0; i < work.Drafts; i++) fed.Add(work.Sequence.Draft[i]);
        pass.AddDecode(work.Sequence.Cache, System.Runtime.InteropServices.CollectionsMarshal.AsSpan(fed), 1 + work.Drafts);
    }

    private void Choose(ActiveGeneration generation, StepWork work, Tensor logits, int row)
    {
        int accepted = 0;
        while (true)
        {
            int token = generation.Choose(logits.Row<float>(row + accepted), sampler);
            if (generation.Finish is not null || accepted == work.Drafts || token != generation.Draft[accepted]) break;
            accepted++;
        }

        generation.Cache.Rewind(work.First + work.Count + accepted);
        generation.Draft.Clear();
    }
}

// The tokens of a step. Drafted tokens are checked by choosing as if there were none: the token that a row gives is taken, and where it is
// the one that was drafted, the next row is that of the next token. So drafts change how many tokens a step brings, never which.
// All sequences choose together. What depends on the tokens before (a constraint, penalties) is known for one row at a time, so that such
// sequences, where a draft was right, choose again in a further round; others choose for all their rows in the first one.
using Fathom.Compute;

namespace Fathom.Inference;

/// <summary>Chooses and takes the tokens of a step. Used by the engine's thread alone.</summary>
/// <param name="device">Where the logits lie.</param>
/// <param name="chooser">Of the engine.</param>
/// <param name="drafter">Told of drafts that were verified; null where nothing is drafted.</param>
internal sealed class StepSampler(Device device, TokenChooser chooser, MtpDrafter? drafter)
{
    private readonly Staging staging = new(device);
    private readonly List<Pending> pending = [];

    /// <summary>Chooses for every sequence whose last token was computed.</summary>
    /// <param name="plan">The step.</param>
    /// <param name="logits">Rows for the works of the plan that sample, in its order, each followed by those of its drafts.</param>
    /// <param name="failed">Told of a sequence for which no token could be chosen, and why; the others go on.</param>
    /// <param name="drafted">Whether there were drafts.</param>
    /// <returns>Tokens chosen.</returns>
    public int Run(StepPlan plan, Tensor logits, Action<ActiveGeneration, Exception> failed, out bool drafted)
    {
        pending.Clear();
        drafted = false;
        int row = 0, tokens = 0;
        foreach (StepWork work in plan.All)
        {
            if (!work.Samples) continue;
            pending.Add(new Pending((ActiveGeneration)work.Sequence, work, row, 0, 0));
            row += 1 + work.Drafts;
            drafted |= work.Drafts > 0;
        }

        while (pending.Count > 0)
        {
            Ask(logits, failed);
            tokens += Take(chooser.Choose(logits), failed);
        }

        return tokens;
    }

    private void Ask(Tensor logits, Action<ActiveGeneration, Exception> failed)
    {
        chooser.Clear();
        int kept = 0;
        for (int i = 0; i < pending.Count; i++)
        {
            Pending one = pending[i];
            ActiveGeneration generation = one.Generation;
            int count = generation.ChoosesAhead ? 1 + one.Work.Drafts - one.Accepted : 1, row = one.Row + one.Accepted;
            try
            {
                if (generation.WantsLogits) generation.Note(staging.Download(logits.Slice(row, 1)).Row<float>(0));
                for (int ahead = 0; ahead < count; ahead++) generation.Ask(chooser, row + ahead, ahead);
                pending[kept++] = one with { Asked = count };
            }
            catch (Exception error)
            {
                failed(generation, error); // its constraint's, before anything of it was added
            }
        }

        pending.RemoveRange(kept, pending.Count - kept);
    }

    /// <returns>Tokens taken.</returns>
    private int Take(ReadOnlySpan<int> tokens, Action<ActiveGeneration, Exception> failed)
    {
        int at = 0, kept = 0, taken = 0;
        for (int i = 0; i < pending.Count; i++)
        {
            Pending one = pending[i];
            int before = one.Generation.NewTokens;
            try
            {
                if (Take(one, tokens.Slice(at, one.Asked)) is { } rest) pending[kept++] = rest;
            }
            catch (Exception error)
            {
                failed(one.Generation, error);
            }

            at += one.Asked;
            taken += one.Generation.NewTokens - before;
        }

        pending.RemoveRange(kept, pending.Count - kept);
        return taken;
    }

    /// <returns>What is still to be chosen, or null.</returns>
    private Pending? Take(Pending one, ReadOnlySpan<int> tokens)
    {
        ActiveGeneration generation = one.Generation;
        StepWork work = one.Work;
        int accepted = one.Accepted;
        foreach (int token in tokens)
        {
            generation.Take(token);
            bool foreseen = accepted < work.Drafts && token == generation.Draft[accepted];
            if (foreseen) accepted++;
            if (foreseen && generation.Finish is null) continue;

            // Of a sequence that ends with an accepted draft there may be a row more than is known; nobody needs it.
            generation.Cache.Rewind(Math.Min(work.First + work.Count + accepted, generation.Tokens.Length - 1));
            generation.Draft.Clear();
            if (work.Drafts == 0) return null;
            drafter!.Verified(work.Drafts, accepted);
            generation.DraftedTokens += work.Drafts;
            generation.AcceptedTokens += accepted;
            return null;
        }

        return one with { Accepted = accepted };
    }

    /// <summary>A sequence that chooses.</summary>
    /// <param name="Generation">The sequence.</param>
    /// <param name="Work">Its part of the step.</param>
    /// <param name="Row">Its first row of logits.</param>
    /// <param name="Accepted">Drafts that were chosen.</param>
    /// <param name="Asked">Rows that the chooser has of it.</param>
    private readonly record struct Pending(ActiveGeneration Generation, StepWork Work, int Row, int Accepted, int Asked);
}

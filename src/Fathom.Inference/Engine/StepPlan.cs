namespace Fathom.Inference;

/// <summary>Tokens of one sequence that a step computes: the last of its cache, whose room is taken.</summary>
/// <param name="Sequence">The sequence.</param>
/// <param name="First">Position of the first.</param>
/// <param name="Count">How many, drafts not among them.</param>
/// <param name="Drafts">Drafted tokens behind them, that are verified.</param>
/// <param name="IsPrompt">Whether they are computed as a chunk of a prompt, or as rows of their own.</param>
/// <param name="Samples">Whether a new token follows.</param>
internal readonly record struct StepWork(ScheduledSequence Sequence, int First, int Count, int Drafts, bool IsPrompt, bool Samples);

/// <summary>What a step computes.</summary>
internal sealed class StepPlan
{
    /// <summary>Chunks of prompts.</summary>
    public List<StepWork> Prompts { get; } = [];

    /// <summary>Tokens of generating sequences.</summary>
    public List<StepWork> Decodes { get; } = [];

    public bool IsEmpty => Prompts.Count + Decodes.Count == 0;

    public IEnumerable<StepWork> All => Prompts.Concat(Decodes);

    public void Clear()
    {
        Prompts.Clear();
        Decodes.Clear();
    }
}

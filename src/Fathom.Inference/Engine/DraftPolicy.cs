// Whether drafting pays. A draft costs a row more for each sequence and a pass of the MTP module; it brings as many tokens more as are
// accepted. On one sequence rows are nearly free, on many they are not, and text differs in how well it is foreseen: so it is measured,
// for each number of sequences by powers of two, and asked again from time to time. Of times the median counts: a step during which the
// machine did something else says nothing about drafts. Times decide speed alone, never a text.
using System.Numerics;

namespace Fathom.Inference;

/// <summary>What a step does about drafts.</summary>
internal enum DraftMode
{
    /// <summary>The module is not run; sequences of this time draft no more.</summary>
    Off,

    /// <summary>The module keeps up, but nothing is drafted: for comparison.</summary>
    Plain,

    /// <summary>Tokens are drafted, and verified in the next step.</summary>
    Draft,
}

/// <summary>Chooses modes from what steps took and brought.</summary>
internal sealed class DraftPolicy
{
    /// <summary>A plain step among so many drafted ones.</summary>
    public const int PlainEvery = 16;

    /// <summary>Steps without drafts until it is tried again.</summary>
    public const int StepsOff = 2048;

    private const int LeastDrafted = 48, LeastPlain = 3;
    private readonly Bucket[] buckets = [.. Enumerable.Range(0, 32).Select(_ => new Bucket())];

    /// <summary>What the next step does.</summary>
    /// <param name="sequences">That generate.</param>
    public DraftMode Next(int sequences)
    {
        Bucket bucket = Of(sequences);
        if (bucket.Off > 0)
        {
            if (--bucket.Off > 0) return DraftMode.Off;
            bucket.Reset();
        }

        return ++bucket.Steps % PlainEvery == 0 ? DraftMode.Plain : DraftMode.Draft;
    }

    /// <summary>A step without chunks of prompts has run.</summary>
    /// <param name="drafted">Whether drafts were verified in it.</param>
    /// <param name="sequences">That generated.</param>
    /// <param name="tokens">That it brought, of all sequences.</param>
    /// <param name="modelSeconds">Time of the model's pass and of choosing tokens.</param>
    /// <param name="draftSeconds">Time of the module's passes.</param>
    public void Observe(bool drafted, int sequences, int tokens, double modelSeconds, double draftSeconds)
    {
        if (sequences == 0) return;
        Bucket bucket = Of(sequences);
        double seconds = (drafted ? modelSeconds + draftSeconds : modelSeconds) / sequences;
        if (drafted)
        {
            bucket.DraftedSeconds.Add(seconds);
            bucket.DraftedTokens.Add((double)tokens / sequences);
        }
        else
        {
            bucket.PlainSeconds.Add(seconds);
        }

        if (bucket.DraftedSeconds.Count < LeastDrafted || bucket.PlainSeconds.Count < LeastPlain || bucket.Off > 0) return;
        if (bucket.DraftedTokens.Mean / bucket.DraftedSeconds.Median < 1 / bucket.PlainSeconds.Median) bucket.Off = StepsOff;
    }

    private Bucket Of(int sequences) => buckets[BitOperations.Log2((uint)Math.Max(1, sequences))];

    private sealed class Bucket
    {
        public readonly RecentValues DraftedSeconds = new(LeastDrafted), DraftedTokens = new(LeastDrafted), PlainSeconds = new(PlainEvery);
        public long Steps;
        public int Off;

        public void Reset()
        {
            Steps = 0;
            DraftedSeconds.Clear();
            DraftedTokens.Clear();
            PlainSeconds.Clear();
        }
    }
}

using System.Diagnostics;
using Fathom.Model;

namespace Fathom.Inference;

/// <summary>What an engine counts. Guarded by the engine's lock.</summary>
internal sealed class EngineCounters
{
    private const int WindowSeconds = 8;

    private readonly long[] finished = new long[Enum.GetValues<FinishReason>().Length];
    private readonly long[] window = new long[WindowSeconds]; // tokens generated in each of the last seconds
    private readonly long start = Stopwatch.GetTimestamp();
    private EngineStatistics last = new();
    private long generated;
    private long second;

    /// <summary>Steps that failed.</summary>
    public long Faults { get; set; }

    /// <summary>Tokens were generated.</summary>
    public void Generated(int tokens)
    {
        generated += tokens;
        Advance();
        window[second % WindowSeconds] += tokens;
    }

    /// <summary>A request has ended.</summary>
    public void Ended(GenerationResult result) => finished[(int)result.Reason]++;

    /// <summary>A step has run.</summary>
    public void Step(TimeSpan time) => last = last with
    {
        Steps = last.Steps + 1,
        StepSeconds = last.StepSeconds + time.TotalSeconds,
        LongestStepSeconds = Math.Max(last.LongestStepSeconds, time.TotalSeconds),
    };

    /// <summary>Requests came, went or got on.</summary>
    public void Observe(Scheduler scheduler, LatentCache cache, MtpDrafter? drafter = null) => last = last with
    {
        BytesPerToken = cache.BytesPerToken,
        Drafts = drafter?.Drafts ?? last.Drafts,
        DraftedTokens = drafter is null ? last.DraftedTokens : [.. drafter.Drafted],
        AcceptedTokens = drafter is null ? last.AcceptedTokens : [.. drafter.Accepted],
        Running = scheduler.Running,
        Waiting = scheduler.Waiting,
        Blocks = cache.Pool.Blocks,
        FreeBlocks = cache.Pool.FreeBlocks,
        CachedBlocks = cache.Pool.KeptBlocks,
        Preemptions = scheduler.Preemptions,
        PrefixQueriedTokens = scheduler.QueriedTokens,
        PrefixHitTokens = scheduler.FoundTokens,
        PromptTokens = scheduler.PromptTokens,
    };

    /// <summary>All counts at this moment.</summary>
    /// <param name="incoming">Requests that the scheduler does not know yet.</param>
    public EngineStatistics Snapshot(int incoming)
    {
        Advance();
        double seconds = Math.Clamp(Stopwatch.GetElapsedTime(start).TotalSeconds, 1e-3, WindowSeconds);
        return last with
        {
            Waiting = last.Waiting + incoming,
            Finished = Enum.GetValues<FinishReason>().ToDictionary(reason => reason, reason => finished[(int)reason]),
            GeneratedTokens = generated,
            Faults = Faults,
            TokensPerSecond = window.Sum() / seconds,
        };
    }

    /// <summary>Begins the second that it is, and forgets those that are too long ago.</summary>
    private void Advance()
    {
        long now = (long)Stopwatch.GetElapsedTime(start).TotalSeconds;
        for (long s = Math.Max(second + 1, now - WindowSeconds + 1); s <= now; s++) window[s % WindowSeconds] = 0;
        second = now;
    }
}

namespace Fathom.Inference;

/// <summary>An engine at one moment. Counts are since its start and never go down.</summary>
public sealed record EngineStatistics
{
    /// <summary>Requests that are computed side by side.</summary>
    public int Running { get; init; }

    /// <summary>Requests that wait, those that gave up their memory among them.</summary>
    public int Waiting { get; init; }

    /// <summary>Blocks of the cache.</summary>
    public int Blocks { get; init; }

    /// <summary>Bytes of the cache for a token, in all layers; a block has 64 tokens.</summary>
    public long BytesPerToken { get; init; }

    /// <summary>Blocks that no request uses; those among them that a prefix may still be found in are counted by <see cref="CachedBlocks"/> too.</summary>
    public int FreeBlocks { get; init; }

    /// <summary>Blocks that no request uses, kept for prompts that begin alike.</summary>
    public int CachedBlocks { get; init; }

    /// <summary>Share of the cache that requests use.</summary>
    public double CacheUsage => Blocks == 0 ? 0 : (double)(Blocks - FreeBlocks) / Blocks;

    /// <summary>Requests submitted.</summary>
    public long Submitted { get; init; }

    /// <summary>Requests ended, by <see cref="FinishReason"/>.</summary>
    public IReadOnlyDictionary<FinishReason, long> Finished { get; init; } = new Dictionary<FinishReason, long>();

    /// <summary>Requests that gave up their memory.</summary>
    public long Preemptions { get; init; }

    /// <summary>Steps.</summary>
    public long Steps { get; init; }

    /// <summary>Seconds that the steps took.</summary>
    public double StepSeconds { get; init; }

    /// <summary>Seconds of the longest step: what a long prompt has delayed others' tokens by at most.</summary>
    public double LongestStepSeconds { get; init; }

    /// <summary>Steps that failed, and ended the requests that took part.</summary>
    public long Faults { get; init; }

    /// <summary>Tokens of prompts that were looked for in the cache.</summary>
    public long PrefixQueriedTokens { get; init; }

    /// <summary>Tokens of prompts that were found there.</summary>
    public long PrefixHitTokens { get; init; }

    /// <summary>Tokens of prompts that were computed, those computed again among them.</summary>
    public long PromptTokens { get; init; }

    /// <summary>Tokens generated.</summary>
    public long GeneratedTokens { get; init; }

    /// <summary>Steps of requests in which tokens were drafted.</summary>
    public long Drafts { get; init; }

    /// <summary>Drafted tokens by their place in a draft.</summary>
    public IReadOnlyList<long> DraftedTokens { get; init; } = [];

    /// <summary>Drafted tokens that the model would have chosen too, by their place in a draft.</summary>
    public IReadOnlyList<long> AcceptedTokens { get; init; } = [];

    /// <summary>Tokens a second that were generated over the last seconds.</summary>
    public double TokensPerSecond { get; init; }
}

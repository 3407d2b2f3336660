// A sequence as the scheduler sees it: tokens, of which some are in the cache. Tokens of the prompt are computed in chunks; generated
// ones as rows of their own, also where they are computed again after the sequence had to give up its memory, because the two ways sum
// in different orders and a text must not depend on when memory ran short.
using System.Runtime.InteropServices;
using Fathom.Model;

namespace Fathom.Inference;

/// <summary>Tokens of a request and their place in the cache.</summary>
/// <param name="cache">Its blocks; none yet.</param>
/// <param name="prompt">Ids of the prompt.</param>
/// <param name="limit">Most tokens of prompt and answer.</param>
/// <param name="priority">More is admitted first and preempted last.</param>
/// <param name="user">Whose it is; blocks are shared within a user only.</param>
internal class ScheduledSequence(CachedSequence cache, ReadOnlySpan<int> prompt, int limit, int priority, string? user)
{
    private readonly List<int> tokens = [.. prompt];
    private readonly List<BlockHash> chain = [BlockHash.Begin(user)];

    public CachedSequence Cache => cache;

    public int Priority => priority;

    public string? User => user;

    public int Limit => limit;

    public int PromptLength { get; } = prompt.Length;

    /// <summary>All tokens that are known.</summary>
    public ReadOnlySpan<int> Tokens => CollectionsMarshal.AsSpan(tokens);

    /// <summary>Number of the request, in the order of arrival; given by the scheduler.</summary>
    public long Arrival { get; set; }

    /// <summary>Tokens that the model's MTP module expects next; verified with the next step.</summary>
    public List<int> Draft { get; } = [];

    /// <summary>Tokens of the prompt that others had computed when it was first admitted, or while it was computed.</summary>
    public int FoundTokens { get; set; }

    /// <summary>Whether it has been admitted before.</summary>
    public bool WasAdmitted { get; set; }

    /// <summary>How often it gave up its memory.</summary>
    public int Preemptions { get; set; }

    /// <summary>Full blocks that others may have found, or were found.</summary>
    public int PublishedBlocks { get; set; }

    /// <summary>Tokens from the first on that the MTP module has computed too, as far as they were not found.</summary>
    public int FollowedTokens { get; set; }

    public bool InPrompt => cache.Length < PromptLength;

    /// <summary>Known tokens that are not in the cache.</summary>
    public int Missing => tokens.Count - cache.Length;

    /// <summary>Adds a generated token.</summary>
    public void Append(int token) => tokens.Add(token);

    /// <summary>What the cache holds in a full block, and before it.</summary>
    /// <param name="block">Number of the block within the sequence; its tokens are known.</param>
    public BlockHash Contents(int block)
    {
        for (int b = chain.Count - 1; b <= block; b++) chain.Add(chain[b].Next(Tokens.Slice(b * BlockPool.BlockSize, BlockPool.BlockSize)));
        return chain[block + 1];
    }
}

using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>Which blocks of the cache later requests may find.</summary>
public enum PrefixReuse
{
    /// <summary>None.</summary>
    None,

    /// <summary>
    /// Those of prompts. A text is then the same to the bit whether anything was found or not; an answer that comes back as part of the
    /// next prompt is computed once more, at the speed of prompts.
    /// </summary>
    Prompts,

    /// <summary>
    /// Those of answers too. Generated tokens are computed in another order of sums than prompts are, so a text may differ from one
    /// for which nothing was found.
    /// </summary>
    PromptsAndAnswers,
}

/// <summary>Limits of an engine.</summary>
public sealed record EngineOptions
{
    /// <summary>Most tokens of one request, prompt and answer; 0 for the model's max_position_embeddings, at most 32,768.</summary>
    public int ContextTokens { get; init; }

    /// <summary>Tokens that the cache holds, of all requests together; 0 for four contexts. Rounded up to whole blocks.</summary>
    public long CacheTokens { get; init; }

    /// <summary>F32, BF16, or F8E4M3 for latents in codes: 656 bytes a token and layer at V3's sizes, where BF16 takes 1,152.</summary>
    public DType CacheType { get; init; } = DType.BF16;

    /// <summary>Most requests that are computed side by side; the others wait.</summary>
    public int MostRunning { get; init; } = 64;

    /// <summary>Most requests that wait; a further one is refused.</summary>
    public int MostWaiting { get; init; } = 1024;

    /// <summary>
    /// Tokens of a step. Generating requests come first; prompts share the rest, but at least a block of 64, so a long prompt delays
    /// a token of others by no more than a step.
    /// </summary>
    public int StepTokens { get; init; } = 512;

    /// <summary>Which blocks of the cache later requests may find.</summary>
    public PrefixReuse Reuse { get; init; } = PrefixReuse.Prompts;

    /// <summary>
    /// Most tokens that the model's MTP modules draft for a request and step; 0 drafts none. Texts are the same with and without. Drafting
    /// stops by itself where it does not pay.
    /// </summary>
    public int DraftTokens { get; init; }

    /// <summary>Whether to draft where it does not pay, too: to measure what drafts cost and bring.</summary>
    public bool DraftAlways { get; init; }

    /// <summary>
    /// Whether a text has the same bits whatever shares its steps: products then sum each row as if it were alone
    /// (<see cref="Compute.Device.LinearByRow"/>), which costs long prompts on the processor a quarter of their speed (nothing where BF16
    /// numbers are multiplied), and on a GPU the products that are chosen by the number of rows.
    /// </summary>
    public bool BatchInvariant { get; init; } = true;

    /// <summary>How activations are stored and multiplied; <see cref="Recipe.ForInference"/> where null.</summary>
    public Recipe? Recipe { get; init; }

    /// <summary>What tells how long steps and drafts take, for the choice whether to draft.</summary>
    internal TimeProvider Clock { get; init; } = TimeProvider.System;

    /// <summary>Checks the values.</summary>
    /// <exception cref="FathomException">Names the option.</exception>
    public void Validate()
    {
        Check(ContextTokens >= 0, "the context must not be negative; 0 takes the model's");
        Check(CacheTokens >= 0, "the cache's size in tokens must not be negative; 0 takes four contexts");
        Check(CacheType is DType.F32 or DType.BF16 or DType.F8E4M3, $"the cache is F32, BF16 or F8E4M3, not {CacheType}");
        Check(MostRunning > 0, "at least one request must run");
        Check(MostWaiting >= 0, "the number of requests that may wait must not be negative");
        Check(StepTokens > 0, "a step must have at least one token");
        Check(DraftTokens is >= 0 and <= 8, "0 to 8 tokens can be drafted");

        static void Check(bool holds, string what)
        {
            if (!holds) throw new FathomException(what);
        }
    }
}

using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>How the next token is chosen, and when to stop.</summary>
public sealed record SamplingOptions
{
    /// <summary>Divides the logits; 0 takes the most likely token always.</summary>
    public float Temperature { get; init; } = 1;

    /// <summary>Keeps the most likely tokens whose probabilities together reach this; 1 keeps all.</summary>
    public float TopP { get; init; } = 1;

    /// <summary>Keeps this many of the most likely tokens; 0 keeps all.</summary>
    public int TopK { get; init; }

    /// <summary>Keeps tokens of at least this share of the most likely one's probability; 0 keeps all.</summary>
    public float MinP { get; init; }

    /// <summary>Seed of the random numbers: the same seed and prompt give the same text.</summary>
    public ulong Seed { get; init; }

    /// <summary>Most tokens to generate.</summary>
    public int MaxNewTokens { get; init; } = 256;

    /// <summary>Texts at which to stop; they are not part of the result.</summary>
    public IReadOnlyList<string> StopSequences { get; init; } = [];

    /// <summary>Whether an end-of-sequence token ends the text.</summary>
    public bool StopAtEos { get; init; } = true;

    /// <summary>Checks the values.</summary>
    /// <exception cref="FathomException">Names the option.</exception>
    public void Validate()
    {
        Check(Temperature >= 0 && float.IsFinite(Temperature), "temperature must be 0 or more");
        Check(TopP is > 0 and <= 1, "top-p must be in (0, 1]");
        Check(TopK >= 0, "top-k must not be negative; 0 keeps all tokens");
        Check(MinP is >= 0 and <= 1, "min-p must be in [0, 1]");
        Check(MaxNewTokens >= 0, "the number of new tokens must not be negative");
        Check(StopSequences.All(s => s.Length > 0), "a stop sequence must not be empty");

        static void Check(bool holds, string what)
        {
            if (!holds) throw new FathomException(what);
        }
    }
}

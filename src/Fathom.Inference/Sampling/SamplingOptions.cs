using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>How the next token is chosen, and when to stop. Logits pass, in this order: constraint, bias, penalties, temperature, top-k, top-p, min-p.</summary>
public sealed record SamplingOptions
{
    /// <summary>Most alternatives that <see cref="LogProbs"/> may ask for.</summary>
    public const int MostLogProbs = 20;

    private static readonly Dictionary<int, float> NoBias = [];

    /// <summary>Divides the logits; 0 takes the most likely token always.</summary>
    public float Temperature { get; init; } = 1;

    /// <summary>Keeps the most likely tokens whose probabilities together reach this; 1 keeps all.</summary>
    public float TopP { get; init; } = 1;

    /// <summary>Keeps this many of the most likely tokens; 0 keeps all.</summary>
    public int TopK { get; init; }

    /// <summary>Keeps tokens of at least this share of the most likely one's probability; 0 keeps all.</summary>
    public float MinP { get; init; }

    /// <summary>Taken from the logit of every token that has been generated, -2 to 2.</summary>
    public float PresencePenalty { get; init; }

    /// <summary>Taken from the logit of a token as often as it has been generated, -2 to 2.</summary>
    public float FrequencyPenalty { get; init; }

    /// <summary>Divides the positive logits, and multiplies the negative ones, of tokens of the prompt and of those generated; 1 does nothing.</summary>
    public float RepetitionPenalty { get; init; } = 1;

    /// <summary>Added to the logits of some ids, -100 to 100.</summary>
    public IReadOnlyDictionary<int, float> LogitBias { get; init; } = NoBias;

    /// <summary>
    /// How many of the most likely tokens are reported with each token, beside its own log-probability; null reports none, 0 its own alone.
    /// The probabilities are the model's: before bias, penalties, temperature and filters.
    /// </summary>
    public int? LogProbs { get; init; }

    /// <summary>Seed of the random numbers: the same seed and prompt give the same text.</summary>
    public ulong Seed { get; init; }

    /// <summary>Most tokens to generate.</summary>
    public int MaxNewTokens { get; init; } = 256;

    /// <summary>Tokens before which an end-of-sequence token is not chosen.</summary>
    public int MinNewTokens { get; init; }

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
        Check(PresencePenalty is >= -2 and <= 2, "the presence penalty must be in [-2, 2]");
        Check(FrequencyPenalty is >= -2 and <= 2, "the frequency penalty must be in [-2, 2]");
        Check(RepetitionPenalty > 0 && float.IsFinite(RepetitionPenalty), "the repetition penalty must be above 0; 1 does nothing");
        Check(LogitBias.Values.All(b => b is >= -100 and <= 100), "a logit bias must be in [-100, 100]");
        Check(LogProbs is null or >= 0 and <= MostLogProbs, $"log-probabilities of at most {MostLogProbs} tokens can be reported");
        Check(MaxNewTokens >= 0, "the number of new tokens must not be negative");
        Check(MinNewTokens >= 0, "the least number of new tokens must not be negative");
        Check(StopSequences.All(s => s.Length > 0), "a stop sequence must not be empty");

        static void Check(bool holds, string what)
        {
            if (!holds) throw new FathomException(what);
        }
    }
}

namespace Fathom.Inference;

/// <summary>A token and how likely it was.</summary>
/// <param name="Id">The token.</param>
/// <param name="LogProb">Natural logarithm of the model's probability.</param>
public readonly record struct TokenLogProb(int Id, float LogProb);

/// <summary>A generated token.</summary>
/// <param name="Id">The token.</param>
/// <param name="LogProb">Natural logarithm of the model's probability; not a number where none was asked for.</param>
/// <param name="Alternatives">The most likely tokens, best first; empty where none were asked for.</param>
public readonly record struct GeneratedToken(int Id, float LogProb, IReadOnlyList<TokenLogProb> Alternatives);

/// <summary>What one step added to a text. The pieces' texts together are the answer, without stop sequence.</summary>
/// <param name="Text">
/// Text that is sure: whole characters, and nothing that may turn out to begin a stop sequence, so that it may lag behind the tokens.
/// Empty for a model without tokenizer.
/// </param>
/// <param name="Tokens">New tokens, an end token among them; none in a last piece that only brings held-back text.</param>
public sealed record GenerationPiece(string Text, IReadOnlyList<GeneratedToken> Tokens);

/// <summary>Why a text ended.</summary>
public enum FinishReason
{
    /// <summary>An end-of-sequence token or a stop sequence.</summary>
    Stop,

    /// <summary>The most tokens that were asked for, or the end of the context.</summary>
    Length,

    /// <summary>Cancelled.</summary>
    Cancelled,

    /// <summary>An error, which the result names.</summary>
    Failed,
}

/// <summary>How a generation went.</summary>
/// <param name="Reason">Why it ended.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="CachedTokens">Tokens of the prompt that were found in the cache.</param>
/// <param name="NewTokens">Tokens generated, an end token among them.</param>
public sealed record GenerationResult(FinishReason Reason, int PromptTokens, int CachedTokens, int NewTokens)
{
    /// <summary>The stop sequence that was met, or null.</summary>
    public string? StopSequence { get; init; }

    /// <summary>The end-of-sequence token that was met, or null.</summary>
    public int? EndToken { get; init; }

    /// <summary>What went wrong where <see cref="Reason"/> is <see cref="FinishReason.Failed"/>, else null.</summary>
    public string? Error { get; init; }

    /// <summary>From submission until the first of the prompt was computed.</summary>
    public TimeSpan QueueTime { get; init; }

    /// <summary>From submission to the first token; zero where there is none.</summary>
    public TimeSpan TimeToFirstToken { get; init; }

    /// <summary>From submission to the end.</summary>
    public TimeSpan TotalTime { get; init; }

    /// <summary>Mean time of a token after the first; zero where there is none.</summary>
    public TimeSpan TimePerToken => NewTokens > 1 ? (TotalTime - TimeToFirstToken) / (NewTokens - 1) : TimeSpan.Zero;

    /// <summary>Tokens a second after the first; zero where there is none.</summary>
    public double TokensPerSecond => NewTokens > 1 ? (NewTokens - 1) / (TotalTime - TimeToFirstToken).TotalSeconds : 0;

    /// <summary>How often its memory was taken for others, and what it held computed again.</summary>
    public int Preemptions { get; init; }

    /// <summary>Tokens that were drafted for it.</summary>
    public int DraftedTokens { get; init; }

    /// <summary>Drafted tokens that the model would have chosen too.</summary>
    public int AcceptedTokens { get; init; }
}

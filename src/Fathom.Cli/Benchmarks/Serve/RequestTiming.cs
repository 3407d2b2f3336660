namespace Fathom.Cli.Benchmarks.Serve;

/// <summary>A piece of an answer's text.</summary>
/// <param name="At">When it came.</param>
/// <param name="Tokens">Tokens that it is made of; 0 where the server does not say.</param>
internal readonly record struct TextPiece(double At, int Tokens);

/// <summary>A wait for a piece of text.</summary>
/// <param name="From">When the piece before came.</param>
/// <param name="To">When it came.</param>
/// <param name="Tokens">Tokens that it is made of; 0 where the server does not say.</param>
internal readonly record struct TextGap(double From, double To, int Tokens)
{
    /// <summary>Its length in seconds.</summary>
    public double Seconds => To - From;
}

/// <summary>What a client saw of one request. Times are seconds on the clock of the load.</summary>
internal sealed class RequestTiming
{
    /// <summary>When it was due. Times count from here, so that a client that falls behind cannot hide the server's queue.</summary>
    public required double Due { get; init; }

    /// <summary>When it was sent.</summary>
    public double Sent { get; set; }

    /// <summary>The pieces of text. A piece is mostly one token; several where tokens are drafted, or were half a character.</summary>
    public List<TextPiece> Pieces { get; } = [];

    /// <summary>When the answer was over.</summary>
    public double Ended { get; set; }

    /// <summary>Tokens of the prompt as the server counts them; 0 where it does not say.</summary>
    public int PromptTokens { get; set; }

    /// <summary>Tokens of the prompt that the server found in its cache; 0 where it does not say.</summary>
    public int CachedTokens { get; set; }

    /// <summary>Tokens of the answer as the server counts them, else its pieces.</summary>
    public int OutputTokens { get; set; }

    /// <summary>Why it failed, or null.</summary>
    public string? Error { get; set; }

    /// <summary>From when it was due to its first piece of text, in seconds.</summary>
    public double TimeToFirst => Pieces[0].At - Due;

    /// <summary>Mean time of a token after the first, in seconds; null where there is none.</summary>
    public double? TimePerToken => OutputTokens > 1 && Pieces.Count > 1 ? (Pieces[^1].At - Pieces[0].At) / (OutputTokens - 1) : null;

    /// <summary>From when it was due to its end, in seconds.</summary>
    public double EndToEnd => Ended - Due;

    /// <summary>The waits between pieces.</summary>
    public IEnumerable<TextGap> Gaps => Pieces.Zip(Pieces.Skip(1), (before, piece) => new TextGap(before.At, piece.At, piece.Tokens));
}

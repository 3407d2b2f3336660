namespace Fathom.Cli.Benchmarks.Serve;

/// <summary>What a client saw of one request. Times are seconds on the clock of the load.</summary>
internal sealed class RequestTiming
{
    /// <summary>When it was due. Times count from here, so that a client that falls behind cannot hide the server's queue.</summary>
    public required double Due { get; init; }

    /// <summary>When it was sent.</summary>
    public double Sent { get; set; }

    /// <summary>When each piece of text came. A piece is one token for most servers, and several where tokens are drafted.</summary>
    public List<double> Pieces { get; } = [];

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
    public double TimeToFirst => Pieces[0] - Due;

    /// <summary>Mean time of a token after the first, in seconds; null where there is none.</summary>
    public double? TimePerToken => OutputTokens > 1 && Pieces.Count > 1 ? (Pieces[^1] - Pieces[0]) / (OutputTokens - 1) : null;

    /// <summary>From when it was due to its end, in seconds.</summary>
    public double EndToEnd => Ended - Due;

    /// <summary>The waits between pieces, each with its beginning and end.</summary>
    public IEnumerable<(double From, double To)> Gaps => Pieces.Zip(Pieces.Skip(1));
}

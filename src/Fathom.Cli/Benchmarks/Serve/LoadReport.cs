// What a load came to. Failed requests are counted by their reason and are in no other number.
using System.Text;
using System.Text.Json.Nodes;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks.Serve;

/// <summary>The numbers of one load.</summary>
internal sealed class LoadReport
{
    private readonly int requests;
    private readonly List<RequestTiming> answered;
    private readonly List<(string Reason, int Count)> errors;

    /// <summary>Sums up what was measured.</summary>
    public LoadReport(IReadOnlyList<RequestTiming> timings)
    {
        requests = timings.Count;
        answered = [.. timings.Where(t => t.Error is null)];
        errors = [.. timings.Where(t => t.Error is not null).GroupBy(t => t.Error!).Select(g => (g.Key, g.Count())).OrderByDescending(e => e.Item2)];
        Seconds = timings.Count > 0 ? timings.Max(t => t.Ended) - timings.Min(t => t.Due) : 0;
        TimeToFirst = new Distribution(answered.Select(t => t.TimeToFirst));
        TimePerToken = new Distribution(answered.Select(t => t.TimePerToken).OfType<double>());
        BetweenPieces = new Distribution(answered.SelectMany(t => t.Gaps).Select(g => g.Seconds));
        EndToEnd = new Distribution(answered.Select(t => t.EndToEnd));
    }

    /// <summary>From when the first request was due to the end of the last answer.</summary>
    public double Seconds { get; }

    /// <summary>Requests that were answered.</summary>
    public int Answered => answered.Count;

    /// <summary>Requests that failed.</summary>
    public int Failed => requests - answered.Count;

    /// <summary>The most frequent reason of failure, or null.</summary>
    public string? FirstError => errors is [var (reason, _), ..] ? reason : null;

    /// <summary>From being due to the first text.</summary>
    public Distribution TimeToFirst { get; }

    /// <summary>Mean time of a token after the first, one for each answer.</summary>
    public Distribution TimePerToken { get; }

    /// <summary>Waits between pieces of text, of all answers.</summary>
    public Distribution BetweenPieces { get; }

    /// <summary>From being due to the end.</summary>
    public Distribution EndToEnd { get; }

    /// <summary>Tokens of all answers.</summary>
    public long OutputTokens => answered.Sum(t => (long)t.OutputTokens);

    /// <summary>Tokens of all prompts.</summary>
    public long PromptTokens => answered.Sum(t => (long)t.PromptTokens);

    /// <summary>Tokens of prompts that were found in the server's cache.</summary>
    public long CachedTokens => answered.Sum(t => (long)t.CachedTokens);

    /// <summary>Generated tokens a second, of all streams together.</summary>
    public double OutputRate => Seconds > 0 ? OutputTokens / Seconds : 0;

    /// <summary>How late requests were sent at most, in seconds: much of it means that the client was too slow for this load.</summary>
    public double MostLate => answered.Count > 0 ? answered.Max(t => t.Sent - t.Due) : 0;

    /// <summary>For people.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        text.AppendLine(Distribution.Header);
        text.AppendLine(TimeToFirst.Row("time to first token"));
        text.AppendLine(TimePerToken.Row("time per token"));
        text.AppendLine(BetweenPieces.Row("between tokens"));
        text.AppendLine(EndToEnd.Row("end to end"));
        text.AppendLine();
        text.AppendLine(Invariant($"{Answered} of {requests} requests answered in {Seconds:F2} s: {Answered / Math.Max(Seconds, 1e-9):F2} requests/s, {OutputRate:F1} generated tokens/s, {(OutputTokens + PromptTokens) / Math.Max(Seconds, 1e-9):F1} tokens/s with prompts"));
        if (PromptTokens > 0) text.AppendLine(Invariant($"{PromptTokens} prompt tokens, {CachedTokens} of them from the cache; {OutputTokens} generated; sent at most {MostLate * 1e3:F1} ms late"));
        foreach ((string reason, int count) in errors) text.AppendLine(Invariant($"{count} failed: {reason}"));
        return text.ToString().TrimEnd();
    }

    /// <summary>For programs.</summary>
    public JsonObject ToJson() => new()
    {
        ["seconds"] = Seconds,
        ["requests"] = requests,
        ["answered"] = Answered,
        ["failed"] = Failed,
        ["requests_per_second"] = Seconds > 0 ? Answered / Seconds : 0,
        ["output_tokens_per_second"] = OutputRate,
        ["prompt_tokens"] = PromptTokens,
        ["cached_tokens"] = CachedTokens,
        ["output_tokens"] = OutputTokens,
        ["most_late_ms"] = MostLate * 1e3,
        ["time_to_first_token"] = TimeToFirst.ToJson(),
        ["time_per_token"] = TimePerToken.ToJson(),
        ["between_tokens"] = BetweenPieces.ToJson(),
        ["end_to_end"] = EndToEnd.ToJson(),
        ["errors"] = new JsonArray([.. errors.Select(e => (JsonNode)new JsonObject { ["reason"] = e.Reason, ["count"] = e.Count })]),
    };
}

// Three questions about a server that one load cannot answer, each a pair of measurements of the same run: what batching brings, what a
// long prompt costs those who are already being answered, and what a prefix in the cache saves.
using System.Text.Json.Nodes;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks.Serve;

/// <summary>An answer for people and one for programs.</summary>
internal sealed record ComparisonResult(string Text, JsonObject Json);

/// <summary>Runs comparisons.</summary>
internal sealed class ServeComparison(ServeEndpoint endpoint, PromptSource prompts, LoadShape shape)
{
    private LoadGenerator Load(int requests) => new(endpoint, prompts, shape with { Requests = requests });

    /// <summary>Generated tokens a second of many streams against one.</summary>
    /// <param name="streams">How many.</param>
    /// <param name="cancellation">Ends the measurement.</param>
    public async Task<ComparisonResult> StreamsAsync(int streams, CancellationToken cancellation)
    {
        // Whole rounds: otherwise the last ones would run beside fewer others than are measured.
        int rounds = Math.Max(1, shape.Requests / streams);
        LoadReport one = Succeeded(await Load(Math.Max(4, rounds)).KeepBusyAsync(1, cancellation).ConfigureAwait(false), "one stream");
        LoadReport many = Succeeded(await Load(rounds * streams).KeepBusyAsync(streams, cancellation).ConfigureAwait(false), $"{streams} streams");
        double ratio = many.OutputRate / one.OutputRate;
        string text = Invariant($"""
            one stream
            {one}

            {streams} streams
            {many}

            {streams} streams generate {ratio:F2} times the tokens of one in the same time ({many.OutputRate:F1} against {one.OutputRate:F1} a second)
            """);
        return new ComparisonResult(text, new JsonObject { ["streams"] = streams, ["one"] = one.ToJson(), ["many"] = many.ToJson(), ["ratio"] = ratio });
    }

    /// <summary>How long other streams wait for their tokens while a long prompt is computed.</summary>
    /// <param name="streams">How many others.</param>
    /// <param name="longTokens">Tokens of the prompt.</param>
    /// <param name="cancellation">Ends the measurement.</param>
    public async Task<ComparisonResult> LongPromptAsync(int streams, int longTokens, CancellationToken cancellation)
    {
        using var settled = new CountdownEvent(streams);
        var ready = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        int enough = Math.Max(2, shape.OutputTokens / 3);
        // Half a character is held back until it is whole: a wait for the text of two tokens is not a wait for one.
        bool countTokens = (await endpoint.AskAsync(prompts.Next(1), 2, shape.Seed, countTokens: true, cancellation: cancellation).ConfigureAwait(false)).Error is null;
        Task<RequestTiming>[] others = [.. Enumerable.Range(0, streams).Select(Other)];
        // A stream that fails never gets far enough; its end must not be waited for.
        await Task.WhenAny(ready.Task, Task.WhenAll(others)).ConfigureAwait(false);
        RequestTiming intruder = await endpoint.AskAsync(prompts.Next(longTokens), 8, shape.Seed + streams, cancellation: cancellation).ConfigureAwait(false);
        RequestTiming[] timings = await Task.WhenAll(others).ConfigureAwait(false);
        _ = Succeeded(timings, "the other streams");
        _ = Succeeded([intruder], $"the prompt of {longTokens} tokens");

        double begun = timings.Max(t => t.Pieces[0].At), computed = intruder.Pieces[0].At;
        TextGap[] all = [.. timings.SelectMany(t => t.Gaps)], gaps = [.. all.Where(g => g.Tokens <= 1)];
        var before = new Distribution(gaps.Where(g => g.From >= begun && g.To < intruder.Sent).Select(g => g.Seconds));
        var during = new Distribution(gaps.Where(g => g.To >= intruder.Sent && g.From < computed).Select(g => g.Seconds));
        if (before.Count == 0 || during.Count == 0)
            throw new FathomException($"the other streams ended before the prompt of {longTokens} tokens was computed; give them more with --output-tokens");
        double delay = during.Max - before.Percentile(50);
        string text = Invariant($"""
            {Distribution.Header}
            {before.Row("between tokens, before")}
            {during.Row("between tokens, during")}

            A prompt of {(intruder.PromptTokens > 0 ? intruder.PromptTokens : longTokens)} tokens took {(computed - intruder.Sent) * 1e3:F1} ms to its first token and delayed {streams} streams' tokens by at most {delay * 1e3:F1} ms
            {all.Length - gaps.Length} of {all.Length} waits were for pieces of several tokens and do not count{(gaps.Any(g => g.Tokens == 0) ? "; the server does not say of how many tokens all pieces are" : "")}
            """);
        return new ComparisonResult(text, new JsonObject
        {
            ["streams"] = streams,
            ["prompt_tokens"] = intruder.PromptTokens,
            ["time_to_first_token_ms"] = (computed - intruder.Sent) * 1e3,
            ["before"] = before.ToJson(),
            ["during"] = during.ToJson(),
            ["largest_delay_ms"] = delay * 1e3,
            ["waits_for_several_tokens"] = all.Length - gaps.Length,
        });

        Task<RequestTiming> Other(int index)
        {
            string text = prompts.Next(shape.PromptTokens);
            int pieces = 0;
            return Task.Run(() => endpoint.AskAsync(text, shape.OutputTokens, shape.Seed + index, piece: Count, countTokens: countTokens, cancellation: cancellation), cancellation);

            void Count()
            {
                if (++pieces == enough && settled.Signal()) ready.SetResult();
            }
        }
    }

    /// <summary>Time to the first token of prompts that begin alike, against those that do not. One at a time.</summary>
    /// <param name="prefixTokens">Tokens that the prompts share.</param>
    /// <param name="cancellation">Ends the measurement.</param>
    public async Task<ComparisonResult> PrefixAsync(int prefixTokens, CancellationToken cancellation)
    {
        int each = Math.Clamp(shape.Requests / 2, 1, 16);
        string shared = prompts.Next(prefixTokens);
        // The first of them fills the cache; it is of neither kind.
        _ = Succeeded([await AskAsync(shared).ConfigureAwait(false)], "the first request with the prefix");
        var with = new List<RequestTiming>();
        var without = new List<RequestTiming>();
        for (int i = 0; i < each; i++)
        {
            // In turn, so that a disturbance of the machine meets both.
            without.Add(await AskAsync(prompts.Next(prefixTokens)).ConfigureAwait(false));
            with.Add(await AskAsync(shared).ConfigureAwait(false));
        }

        LoadReport found = Succeeded(with, "requests with the shared prefix"), computed = Succeeded(without, "requests with prefixes of their own");
        double ratio = computed.TimeToFirst.Percentile(50) / found.TimeToFirst.Percentile(50);
        string text = Invariant($"""
            {Distribution.Header}
            {computed.TimeToFirst.Row("first token, own prefix")}
            {found.TimeToFirst.Row("first token, shared")}

            {(double)found.CachedTokens / each:F0} of {(double)found.PromptTokens / each:F0} prompt tokens from the cache where the prefix is shared, {(double)computed.CachedTokens / each:F0} where it is not
            A shared prefix of {prefixTokens} tokens makes the first token {ratio:F2} times as fast (medians)
            """);
        return new ComparisonResult(text, new JsonObject { ["prefix_tokens"] = prefixTokens, ["own"] = computed.ToJson(), ["shared"] = found.ToJson(), ["ratio"] = ratio });

        Task<RequestTiming> AskAsync(string prefix) =>
            endpoint.AskAsync($"{prefix}\n\n{prompts.Next(shape.PromptTokens)}", Math.Min(shape.OutputTokens, 8), shape.Seed, cancellation: cancellation);
    }

    /// <summary>A comparison is of nothing where requests failed.</summary>
    private static LoadReport Succeeded(IReadOnlyList<RequestTiming> timings, string what)
    {
        var report = new LoadReport(timings);
        return report.Failed == 0 ? report : throw new FathomException($"{report.Failed} of {timings.Count} requests failed ({what}): {report.FirstError}");
    }
}

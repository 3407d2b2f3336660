// Two kinds of load. Open loop: requests come at random moments at a given rate, whether or not the server keeps up, as those of many
// people do; its queue shows in the times. Closed loop: so many streams, each asking again when it was answered; it shows throughput.
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks.Serve;

/// <summary>What is asked.</summary>
/// <param name="Requests">How many requests.</param>
/// <param name="PromptTokens">Tokens of each prompt, about.</param>
/// <param name="OutputTokens">Tokens of each answer, at most.</param>
/// <param name="Seed">Of arrivals and answers.</param>
internal sealed record LoadShape(int Requests, int PromptTokens, int OutputTokens, int Seed);

/// <summary>Puts load on a server.</summary>
internal sealed class LoadGenerator(ServeEndpoint endpoint, PromptSource prompts, LoadShape shape)
{
    private const int WarmUps = 8;

    /// <summary>Asks a few times, so that the server is warm, and learns how long the tokens of this text are.</summary>
    /// <exception cref="FathomException">The server does not answer.</exception>
    public async Task WarmUpAsync(CancellationToken cancellation)
    {
        int characters = 0, tokens = 0;
        for (int i = 0; i < WarmUps; i++)
        {
            // No more characters than tokens are wanted, where those are many: so it fits where the load does.
            string prompt = prompts.Slice(Math.Clamp(shape.PromptTokens, 300, 1024));
            RequestTiming timing = await endpoint.AskAsync(prompt, i == 0 ? Math.Min(shape.OutputTokens, 8) : 1, shape.Seed, cancellation: cancellation).ConfigureAwait(false);
            if (i == 0 && timing.Error is { } error) throw new FathomException($"a first request to {endpoint.Address} for the model '{endpoint.Model}' failed: {error}");
            if (timing.PromptTokens == 0) break; // the server does not say
            (characters, tokens) = (characters + prompt.Length, tokens + timing.PromptTokens);
        }

        if (tokens > 0) prompts.CharactersPerToken = (double)characters / tokens;
    }

    /// <summary>The moments of a Poisson process, in seconds from its start.</summary>
    /// <param name="count">How many.</param>
    /// <param name="rate">A second.</param>
    /// <param name="seed">Of their randomness.</param>
    internal static double[] Arrivals(int count, double rate, int seed)
    {
        var random = new Random(seed);
        var moments = new double[count];
        double now = 0;
        for (int i = 0; i < count; i++) moments[i] = now += -Math.Log(1 - random.NextDouble()) / rate;
        return moments;
    }

    /// <summary>Open loop with Poisson arrivals.</summary>
    /// <param name="rate">Requests a second.</param>
    /// <param name="cancellation">Ends the measurement.</param>
    public async Task<IReadOnlyList<RequestTiming>> ArriveAsync(double rate, CancellationToken cancellation)
    {
        string[] texts = [.. Enumerable.Range(0, shape.Requests).Select(_ => prompts.Next(shape.PromptTokens))];
        var running = new Task<RequestTiming>[shape.Requests];
        double start = endpoint.Now;
        double[] arrivals = Arrivals(shape.Requests, rate, shape.Seed);
        for (int i = 0; i < running.Length; i++)
        {
            double due = start + arrivals[i];
            // Timers fire late by up to a tick of a millisecond; what is left of it counts as the request's time.
            if (due - endpoint.Now is > 0 and var wait) await Task.Delay(TimeSpan.FromSeconds(wait), cancellation).ConfigureAwait(false);
            int index = i;
            running[i] = Task.Run(() => endpoint.AskAsync(texts[index], shape.OutputTokens, shape.Seed + index, due, cancellation: cancellation), cancellation);
        }

        return await Task.WhenAll(running).ConfigureAwait(false);
    }

    /// <summary>Closed loop.</summary>
    /// <param name="streams">How many requests are under way at any time.</param>
    /// <param name="cancellation">Ends the measurement.</param>
    public async Task<IReadOnlyList<RequestTiming>> KeepBusyAsync(int streams, CancellationToken cancellation)
    {
        string[] texts = [.. Enumerable.Range(0, shape.Requests).Select(_ => prompts.Next(shape.PromptTokens))];
        var timings = new RequestTiming[texts.Length];
        int next = -1;
        await Task.WhenAll(Enumerable.Range(0, Math.Min(streams, texts.Length)).Select(_ => Task.Run(StreamAsync, cancellation))).ConfigureAwait(false);
        return timings;

        async Task StreamAsync()
        {
            for (int i = Interlocked.Increment(ref next); i < texts.Length; i = Interlocked.Increment(ref next))
                timings[i] = await endpoint.AskAsync(texts[i], shape.OutputTokens, shape.Seed + i, cancellation: cancellation).ConfigureAwait(false);
        }
    }
}

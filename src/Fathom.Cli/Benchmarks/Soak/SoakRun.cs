// A soak: every question once alone, then all requests of the plan, so many at a time, then a sample of the questions alone again. What the
// server counts is compared before and after, and when all is over nothing may be left in it.
using System.Diagnostics;
using System.Globalization;
using Fathom.Cli.Benchmarks.Serve;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks.Soak;

/// <summary>How long and how hard.</summary>
/// <param name="Requests">How many requests.</param>
/// <param name="Streams">How many at a time.</param>
/// <param name="Seed">Decides what is asked.</param>
internal sealed record SoakShape(int Requests, int Streams, int Seed);

/// <summary>Runs a soak.</summary>
/// <param name="address">The server.</param>
/// <param name="keys">Its keys.</param>
/// <param name="server">The process, where it is ours; null for a server somewhere.</param>
internal sealed class SoakRun(Uri address, SoakKeys keys, SoakServer? server)
{
    private const int MostQuestions = 500, Sample = 20, Moments = 40;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);
    private readonly SoakReport report = new();

    /// <summary>Runs it, with the series of memory and files on the standard output.</summary>
    /// <exception cref="FathomException">The server is not there, or does not answer a question that is asked alone.</exception>
    public async Task<SoakReport> RunAsync(SoakShape shape, PromptSource prompts, CancellationToken cancellation)
    {
        int filesBefore;
        IReadOnlyDictionary<string, double> before;
        using (var client = new SoakClient(address, keys))
        {
            SoakPlan plan = await PrepareAsync(client, shape, prompts, cancellation).ConfigureAwait(false);
            before = await MetricsAsync(client, cancellation).ConfigureAwait(false);
            filesBefore = server?.OpenFiles ?? -1;
            await LoadAsync(client, plan, shape, cancellation).ConfigureAwait(false);
            foreach (SoakQuestion question in plan.Questions.Take(Sample))
            {
                SoakAnswer[] again = await client.AskAsync(question, cancellation).ConfigureAwait(false);
                if (!again.Zip(question.Answers).All(pair => pair.First.Is(pair.Second))) report.Add($"asked alone after the load, the answer is {again[0]}; before it was {question.Answers[0]}");
            }
        }

        using (var client = new SoakClient(address, keys)) await SettleAsync(client, before, cancellation).ConfigureAwait(false);
        report.Files = (filesBefore, await FilesAsync(filesBefore, cancellation).ConfigureAwait(false));
        report.Judge();
        return report;
    }

    private async Task<SoakPlan> PrepareAsync(SoakClient client, SoakShape shape, PromptSource prompts, CancellationToken cancellation)
    {
        int context;
        try
        {
            var models = System.Text.Json.Nodes.JsonNode.Parse(await client.GetAsync("v1/models", cancellation).ConfigureAwait(false))!;
            context = (int?)models["data"]?[0]?["max_model_len"] ?? throw new FathomException($"{address} does not say its context; a soak is for a server of 'fathom serve'");
            string slice = prompts.Slice(2000);
            prompts.CharactersPerToken = (double)slice.Length / await client.CountAsync(slice, cancellation).ConfigureAwait(false);
        }
        catch (HttpRequestException error)
        {
            throw new FathomException($"asking {address} for its model failed: {error.Message}; start a server with 'fathom serve', or give --model and leave the address away", error);
        }

        if (context < 256) throw new FathomException($"the server's context is {context} tokens; a soak needs 256");
        var plan = new SoakPlan(Math.Clamp(shape.Requests / 10, 20, MostQuestions), prompts, context, shape.Seed, keys.Ordinary.Count > 0 && keys.Limited is not null);
        var time = Stopwatch.StartNew();
        foreach (SoakQuestion question in plan.Questions) question.Answers = await client.AskAsync(question, cancellation).ConfigureAwait(false);
        Console.WriteLine(Invariant($"{plan.Questions.Count} questions were answered alone in {time.Elapsed.TotalSeconds:F1} s; now {shape.Requests:N0} requests, {shape.Streams} at a time"));
        return plan;
    }

    private async Task LoadAsync(SoakClient client, SoakPlan plan, SoakShape shape, CancellationToken cancellation)
    {
        Console.WriteLine();
        Console.WriteLine(SoakMoment.Header);
        var time = Stopwatch.StartNew();
        int next = -1, over = 0;
        await Task.WhenAll(Enumerable.Range(0, shape.Streams).Select(_ => Task.Run(WorkAsync, cancellation))).ConfigureAwait(false);
        Console.WriteLine();

        async Task WorkAsync()
        {
            for (int i = Interlocked.Increment(ref next); i < shape.Requests; i = Interlocked.Increment(ref next))
            {
                (SoakKind kind, SoakQuestion question, Random random) = plan.Request(i);
                report.Add(kind, await client.RunAsync(kind, question, random, cancellation).ConfigureAwait(false));
                int now = Interlocked.Increment(ref over);
                if (now == shape.Requests || (long)now * Moments / shape.Requests != (long)(now - 1) * Moments / shape.Requests) Note(now);
            }
        }

        void Note(int requests)
        {
            var moment = new SoakMoment(requests, time.Elapsed.TotalSeconds, server?.ResidentBytes ?? 0, server?.OpenFiles ?? -1);
            lock (report.Series)
            {
                report.Series.Add(moment);
                if (report.Series.Count % 2 == 0) Console.WriteLine(moment);
            }
        }
    }

    /// <summary>Waits until nothing runs any more, and compares the server's counts.</summary>
    private async Task SettleAsync(SoakClient client, IReadOnlyDictionary<string, double> before, CancellationToken cancellation)
    {
        string[] gauges = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"];
        var time = Stopwatch.StartNew();
        IReadOnlyDictionary<string, double> after;
        do
        {
            await Task.Delay(50, cancellation).ConfigureAwait(false);
            after = await MetricsAsync(client, cancellation).ConfigureAwait(false);
        }
        while (gauges.Any(g => after[g] != 0) && time.Elapsed < Patience);
        foreach (string gauge in gauges.Where(g => after[g] != 0)) report.Add(Invariant($"{gauge} is {after[gauge]} after the load"));
        report.Counted = after.ToDictionary(c => c.Key, c => gauges.Contains(c.Key) ? c.Value : c.Value - before.GetValueOrDefault(c.Key));
        if (report.Counted["engine_faults"] != 0) report.Add(Invariant($"the engine had {report.Counted["engine_faults"]} faults"));
    }

    /// <summary>Files once the connections of the load have gone, which takes the server a moment.</summary>
    private async Task<int> FilesAsync(int before, CancellationToken cancellation)
    {
        if (server is null) return -1;
        var time = Stopwatch.StartNew();
        while (server.OpenFiles > before + SoakReport.MostFiles && time.Elapsed < Patience) await Task.Delay(100, cancellation).ConfigureAwait(false);
        return server.OpenFiles;
    }

    /// <summary>Counters and gauges, by name without prefix and _total; several series of a name are summed.</summary>
    private static async Task<IReadOnlyDictionary<string, double>> MetricsAsync(SoakClient client, CancellationToken cancellation)
    {
        Dictionary<string, double> sums = [];
        foreach (string line in (await client.GetAsync("metrics", cancellation).ConfigureAwait(false)).Split('\n'))
        {
            if (line.StartsWith('#') || line.IndexOf('{', StringComparison.Ordinal) is not (> 0 and var labels) || line.Contains("_bucket{", StringComparison.Ordinal)) continue;
            string name = line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..labels];
            if (name.EndsWith("_total", StringComparison.Ordinal)) name = name[..^"_total".Length];
            sums[name] = sums.GetValueOrDefault(name) + double.Parse(line[(line.LastIndexOf(' ') + 1)..], CultureInfo.InvariantCulture);
        }

        return sums;
    }
}

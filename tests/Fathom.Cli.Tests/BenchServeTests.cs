// The load generator against a server whose times are known: what it prints must be what the server did, within what a busy machine adds
// between the two. Times can only be added, so lower bounds are tight and upper ones carry the slack. A machine that stands still for a
// second adds more than any slack: times outside their range are measured again, on a new server, a few times. What is counted is not.
using System.Globalization;
using System.Text.Json.Nodes;
using Fathom.Cli.Benchmarks.Serve;
using Fathom.Testing;
using Xunit;

namespace Fathom.Cli.Tests;

/// <summary>Tests of <c>fathom bench serve</c>.</summary>
public sealed class BenchServeTests : IDisposable
{
    // A client that is woken late for the first token sees the others closer together: on a busy machine by some milliseconds.
    private const int WarmUps = 8;
    private const double EarlyMilliseconds = 6, LateMilliseconds = 60;
    private const int Attempts = 4;
    private readonly TemporaryFolder folder = new();
    private readonly ITestOutputHelper output;

    public BenchServeTests(ITestOutputHelper output)
    {
        this.output = output;
        var random = new Random(5);
        File.WriteAllText(Text, string.Join(' ', Enumerable.Range(0, 20_000).Select(_ => random.Next(100_000).ToString(CultureInfo.InvariantCulture))));
    }

    private string Text => folder.File("words.txt");

    public void Dispose() => folder.Dispose();

    [Fact]
    public Task A_closed_loop_measures_what_the_server_did() => TimedAsync(async () =>
    {
        await using FakeEndpoint server = await FakeEndpoint.StartAsync();
        JsonNode report = Run(server, "--streams", "4", "--requests", "24", "--prompt-tokens", "100", "--output-tokens", "10");
        FakeAnswer[] answers = server.Answers[WarmUps..];
        JsonNode load = report["load"]!;
        Assert.Equal("fake", (string?)report["model"]);
        Assert.Equal(24, (int)load["answered"]!);
        Assert.Equal(0, (int)load["failed"]!);
        Assert.Equal(240, (long)load["output_tokens"]!);
        Assert.Equal(answers.Sum(a => (long)a.PromptTokens), (long)load["prompt_tokens"]!);
        Assert.All(answers, a => Assert.InRange(a.PromptTokens, 99, 100)); // learnt from the warm-up: the server's tokens are not the usual ones
        Assert.All(answers, a => Assert.True((bool)a.Body["ignore_eos"]!));
        Assert.Equal(4, server.MostInFlight);
        Close("time_to_first_token", load, answers.Average(a => a.TimeToFirst));
        Close("time_per_token", load, answers.Average(a => a.TimePerToken));
        Close("between_tokens", load, answers.SelectMany(a => a.Written.Zip(a.Written.Skip(1), (x, y) => y - x)).Average());
        Close("end_to_end", load, answers.Average(a => a.Written[^1] - a.Asked));
        Assert.Equal(24 * 9, (int)load["between_tokens"]!["count"]!);
        Assert.Equal(240 / (double)load["seconds"]!, (double)load["output_tokens_per_second"]!, 1e-6);
        foreach (string name in (string[])["time_to_first_token", "time_per_token", "between_tokens", "end_to_end"])
        {
            double[] rising = [.. new[] { "p50_ms", "p90_ms", "p99_ms", "max_ms" }.Select(p => (double)load[name]![p]!)];
            Assert.Equal(rising.Order(), rising);
        }
    });

    [Fact]
    public void Arrivals_are_those_of_a_Poisson_process()
    {
        const int Count = 20_000;
        const double Rate = 80;
        double[] moments = LoadGenerator.Arrivals(Count, Rate, 7), gaps = [.. moments.Zip(moments.Prepend(0), (a, b) => a - b)];
        double mean = gaps.Average(), deviation = Math.Sqrt(gaps.Average(g => (g - mean) * (g - mean)));
        Assert.Equal(1 / Rate, mean, 4 / Rate / Math.Sqrt(Count));
        Assert.Equal(1, deviation / mean, 0.04);
        foreach (double t in (double[])[0.2, 1, 3]) Assert.Equal(Math.Exp(-t), gaps.Count(g => g > t / Rate) / (double)Count, 2 / Math.Sqrt(Count));
        Assert.Equal(moments, LoadGenerator.Arrivals(Count, Rate, 7));
        Assert.NotEqual(moments[0], LoadGenerator.Arrivals(1, Rate, 8)[0]);
    }

    [Fact]
    public Task An_open_loop_does_not_wait() => TimedAsync(async () =>
    {
        const int Requests = 200;
        const double Rate = 80;
        await using FakeEndpoint server = await FakeEndpoint.StartAsync(new FakeBehaviour { FirstToken = (_, _) => TimeSpan.FromMilliseconds(400) });
        JsonNode report = Run(server, "--rate", "80", "--requests", "200", "--prompt-tokens", "40", "--output-tokens", "3", "--natural-end", "--completions");
        FakeAnswer[] answers = server.Answers[WarmUps..];
        double seconds = answers[^1].Asked - answers[0].Asked;
        output.WriteLine($"{Requests} arrivals in {seconds:F2} s (expected {Requests / Rate:F2}); {server.MostInFlight} in flight at most");
        Assert.Equal(Requests, answers.Length);
        InTime(seconds, 0.75 * Requests / Rate, 1.25 * Requests / Rate); // the sum of 200 exponential gaps deviates by 7 %
        InTime(server.MostInFlight, 20, Requests); // 80 a second that take 0.43 s each are 34 on average
        Assert.All(answers, a => Assert.Equal("/v1/completions", a.Route));
        Assert.All(answers, a => Assert.False(a.Body.ContainsKey("ignore_eos")));
        Close("time_to_first_token", report["load"]!, answers.Average(a => a.TimeToFirst));
    });

    [Fact]
    public async Task Failures_are_counted_by_reason_and_are_in_no_time()
    {
        await using FakeEndpoint server = await FakeEndpoint.StartAsync(new FakeBehaviour
        {
            Fault = number => number < WarmUps ? 0 : (number % 4) switch { 1 => 503, 2 => -1, 3 => -2, _ => 0 },
        });
        JsonNode load = Run(server, "--streams", "1", "--requests", "20", "--prompt-tokens", "20", "--output-tokens", "4")["load"]!;
        Assert.Equal(5, (int)load["answered"]!);
        Assert.Equal(15, (int)load["failed"]!);
        Assert.Equal(20, (int)load["output_tokens"]!);
        Assert.Equal(5, (int)load["time_to_first_token"]!["count"]!);
        Dictionary<string, int> errors = load["errors"]!.AsArray().ToDictionary(e => (string)e!["reason"]!, e => (int)e!["count"]!);
        foreach ((string reason, int count) in errors) output.WriteLine($"{count} x {reason}");
        Assert.Equal(5, errors["HTTP 503: too much at once"]);
        Assert.Equal(5, errors["while streaming: the engine stopped"]);
        Assert.Equal(5, errors.Where(e => e.Key.StartsWith("the connection", StringComparison.Ordinal)).Sum(e => e.Value));
    }

    [Fact]
    public Task Many_streams_are_compared_with_one() => TimedAsync(async () =>
    {
        await using FakeEndpoint server = await FakeEndpoint.StartAsync();
        JsonNode result = Run(server, "--compare", "streams", "--streams", "8", "--requests", "32", "--prompt-tokens", "20", "--output-tokens", "12")["streams"]!;
        output.WriteLine($"ratio {(double)result["ratio"]!:F2}; the server takes as long for eight as for one");
        Assert.Equal(32, (int)result["many"]!["answered"]!);
        Assert.Equal(8, server.MostInFlight);
        InTime((double)result["ratio"]!, 5, 11);
    });

    [Theory]
    [InlineData(600, false)]
    [InlineData(0, false)]
    [InlineData(0, true)]
    public Task The_delay_by_a_long_prompt_is_seen(int stallMilliseconds, bool halves) => TimedAsync(async () =>
    {
        await using FakeEndpoint server = await FakeEndpoint.StartAsync(new FakeBehaviour
        {
            StallingCharacters = stallMilliseconds > 0 ? 2000 : int.MaxValue,
            FirstToken = (prompt, _) => TimeSpan.FromMilliseconds(prompt.Length > 2000 ? 600 : 20),
            NextToken = TimeSpan.FromMilliseconds(halves ? 60 : 15),
            FirstHalf = token => halves && token % 5 == 2,
        });
        JsonNode result = Run(server, "--compare", "long-prompt", "--streams", "3", "--long-tokens", "1000", "--prompt-tokens", "20", "--output-tokens", "90")["long-prompt"]!;
        double delay = (double)result["largest_delay_ms"]!;
        output.WriteLine($"stalled by {stallMilliseconds} ms: delay {delay:F1} ms, between tokens {(double)result["before"]!["p50_ms"]!:F1} ms before and {(double)result["during"]!["p50_ms"]!:F1} during");
        Assert.InRange((int)result["prompt_tokens"]!, 990, 1000);
        InTime((double)result["time_to_first_token_ms"]!, 600 - EarlyMilliseconds, 1200);
        // Of 90 tokens 18 are the second half of a character: their text has waited for two.
        Assert.Equal(halves ? 3 * 18 : 0, (int)result["waits_for_several_tokens"]!);
        if (stallMilliseconds > 0) InTime(delay, stallMilliseconds - 100, stallMilliseconds + 400);
        else InTime(delay, -15, halves ? 45 : 300);
    });

    [Fact]
    public Task A_shared_prefix_is_seen() => TimedAsync(async () =>
    {
        await using FakeEndpoint server = await FakeEndpoint.StartAsync(new FakeBehaviour { FirstToken = (_, seen) => TimeSpan.FromMilliseconds(seen ? 50 : 400) });
        JsonNode result = Run(server, "--compare", "prefix", "--prefix-tokens", "200", "--requests", "8", "--prompt-tokens", "20", "--output-tokens", "3")["prefix"]!;
        output.WriteLine($"ratio {(double)result["ratio"]!:F2} of 8");
        Assert.Equal(400, (int)result["shared"]!["cached_tokens"]!); // 4 requests, 100 tokens each
        Assert.Equal(0, (int)result["own"]!["cached_tokens"]!);
        InTime((double)result["ratio"]!, 3.5, 8.5);
    });

    [Fact]
    public async Task What_cannot_be_measured_is_said()
    {
        await using FakeEndpoint server = await FakeEndpoint.StartAsync(new FakeBehaviour { Fault = _ => 401 });
        Refused("which load?", "bench", "serve", server.Address);
        Refused("--rate is an open loop", "bench", "serve", server.Address, "--rate", "1", "--streams", "2");
        Refused("--requests is 0", "bench", "serve", server.Address, "--rate", "1", "--requests", "0");
        Refused("HTTP 401", "bench", "serve", server.Address, "--rate", "1", "--data", Text);
        Refused("--model", "bench", "serve", "http://127.0.0.1:9", "--rate", "1", "--data", Text);
        Refused("http://127.0.0.1:8000", "bench", "serve", "nowhere", "--rate", "1", "--data", Text);

        void Refused(string reason, params string[] arguments)
        {
            Outcome outcome = FathomProcess.Run(arguments).Expect(2);
            output.WriteLine(outcome.Error.Trim());
            Assert.Contains(reason, outcome.Error, StringComparison.Ordinal);
        }
    }

    private JsonNode Run(FakeEndpoint server, params string[] arguments)
    {
        string json = folder.File("report.json");
        Outcome outcome = FathomProcess.Run(["bench", "serve", server.Address, "--data", Text, "--json", json, .. arguments]).Expect(0);
        output.WriteLine(outcome.Output);
        return JsonNode.Parse(File.ReadAllText(json))!;
    }

    private async Task TimedAsync(Func<Task> measure)
    {
        for (int attempt = 1; ; attempt++)
        {
            try
            {
                await measure();
                return;
            }
            catch (OutOfTimeException late) when (attempt < Attempts)
            {
                output.WriteLine($"attempt {attempt} of {Attempts}: {late.Message}");
            }
        }
    }

    private static void InTime(double value, double low, double high)
    {
        if (!(value >= low && value <= high)) throw new OutOfTimeException($"{value:F1} is not in {low:F1} to {high:F1}");
    }

    private void Close(string name, JsonNode load, double serverSeconds)
    {
        double measured = (double)load[name]!["mean_ms"]!, known = serverSeconds * 1e3;
        output.WriteLine($"{name}: measured {measured:F2} ms, the server's own account {known:F2} ms");
        InTime(measured, known - EarlyMilliseconds, known + LateMilliseconds);
    }

    private sealed class OutOfTimeException(string message) : Exception(message);
}

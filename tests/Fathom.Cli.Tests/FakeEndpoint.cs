// A server that speaks OpenAI's API, computes nothing and takes its time: exactly as long as a test says. It keeps its own account of
// when it was asked and when it wrote, against which a client's numbers can be held.
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;

namespace Fathom.Cli.Tests;

/// <summary>How the server behaves.</summary>
internal sealed record FakeBehaviour
{
    /// <summary>Characters that it counts as one token.</summary>
    public const int CharactersPerToken = 3;

    /// <summary>Before the first token, given the prompt and whether its beginning was seen before.</summary>
    public Func<string, bool, TimeSpan> FirstToken { get; init; } = (_, _) => TimeSpan.FromMilliseconds(60);

    /// <summary>Before each further token.</summary>
    public TimeSpan NextToken { get; init; } = TimeSpan.FromMilliseconds(15);

    /// <summary>Prompts of more characters stop all other answers until they have their first token.</summary>
    public int StallingCharacters { get; init; } = int.MaxValue;

    /// <summary>Tokens of which each is half a character: nothing is written for the first of a pair, and both come with the second.</summary>
    public Func<int, bool> FirstHalf { get; init; } = _ => false;

    /// <summary>What goes wrong with a request, by its number from 0: a status, -1 to break off, -2 for an error within the stream, 0 for nothing.</summary>
    public Func<int, int> Fault { get; init; } = _ => 0;
}

/// <summary>What the server saw of a request, in seconds of its own clock.</summary>
internal sealed record FakeAnswer(double Asked, int PromptTokens, string Route, JsonObject Body)
{
    public List<double> Written { get; } = [];

    public double TimeToFirst => Written[0] - Asked;

    public double TimePerToken => (Written[^1] - Written[0]) / (Written.Count - 1);
}

/// <summary>Runs as long as this object, on a free port.</summary>
internal sealed class FakeEndpoint : IAsyncDisposable
{
    private const int PrefixCharacters = 300;
    private readonly FakeBehaviour behaviour;
    private readonly WebApplication application;
    private readonly Stopwatch clock = Stopwatch.StartNew();
    private readonly ConcurrentDictionary<string, bool> prefixes = new();
    private readonly SemaphoreSlim computing = new(1);
    private volatile TaskCompletionSource? stall;
    private int asked, inFlight, mostInFlight;

    private FakeEndpoint(FakeBehaviour behaviour, WebApplication application) => (this.behaviour, this.application) = (behaviour, application);

    /// <summary>Its address without /v1.</summary>
    public string Address => application.Urls.First();

    /// <summary>All answers that ended well, in order of their requests' arrival; the first are those of the warm-up.</summary>
    public FakeAnswer[] Answers => [.. Finished.OrderBy(a => a.Asked)];

    /// <summary>The most requests that were under way at a time.</summary>
    public int MostInFlight => mostInFlight;

    private ConcurrentBag<FakeAnswer> Finished { get; } = [];

    /// <summary>Starts a server.</summary>
    public static async Task<FakeEndpoint> StartAsync(FakeBehaviour? behaviour = null)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        WebApplication application = builder.Build();
        var endpoint = new FakeEndpoint(behaviour ?? new FakeBehaviour(), application);
        application.MapGet("/v1/models", () => Results.Json(new { data = new[] { new { id = "fake" } } }));
        application.MapPost("/v1/chat/completions", endpoint.AnswerAsync);
        application.MapPost("/v1/completions", endpoint.AnswerAsync);
        await application.StartAsync();
        return endpoint;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await application.DisposeAsync();
        computing.Dispose();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        double arrived = clock.Elapsed.TotalSeconds;
        int number = Interlocked.Increment(ref asked) - 1, now = Interlocked.Increment(ref inFlight);
        for (int most = mostInFlight; now > most && Interlocked.CompareExchange(ref mostInFlight, now, most) != most; most = mostInFlight) ;
        try
        {
            JsonObject body = (JsonObject)(await JsonNode.ParseAsync(context.Request.Body))!;
            string prompt = (string)(body["prompt"] ?? body["messages"]![0]!["content"])!;
            var answer = new FakeAnswer(arrived, prompt.Length / FakeBehaviour.CharactersPerToken, context.Request.Path, body);
            if (behaviour.Fault(number) is > 0 and var status)
            {
                context.Response.StatusCode = status;
                await context.Response.WriteAsJsonAsync(new { error = new { message = "too much at once", type = "server_error" } });
                return;
            }

            await StreamAsync(context, answer, prompt, behaviour.Fault(number));
        }
        finally
        {
            Interlocked.Decrement(ref inFlight);
        }
    }

    private async Task StreamAsync(HttpContext context, FakeAnswer answer, string prompt, int fault)
    {
        int tokens = (int)answer.Body["max_tokens"]!;
        bool chat = answer.Route.EndsWith("/chat/completions", StringComparison.Ordinal);
        bool seen = !prefixes.TryAdd(prompt[..Math.Min(PrefixCharacters, prompt.Length)], true);
        context.Response.ContentType = "text/event-stream";
        context.Features.Get<IHttpResponseBodyFeature>()!.DisableBuffering();
        if (chat) await SendAsync("""{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}""");
        if (prompt.Length > behaviour.StallingCharacters)
        {
            await computing.WaitAsync();
            var mine = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            stall = mine;
            await Task.Delay(behaviour.FirstToken(prompt, seen));
            stall = null;
            mine.SetResult();
            computing.Release();
        }
        else
        {
            await Task.Delay(behaviour.FirstToken(prompt, seen));
        }

        for (int i = 0; i < tokens; i++)
        {
            if (i > 0) await Task.Delay(behaviour.NextToken);
            if (stall is { } wait) await wait.Task;
            if (i + 1 < tokens && behaviour.FirstHalf(i)) continue;
            answer.Written.Add(clock.Elapsed.TotalSeconds);
            JsonObject choice = chat ? new() { ["delta"] = new JsonObject { ["content"] = "word " } } : new() { ["text"] = "word " };
            if (answer.Body.ContainsKey("logprobs"))
            {
                var said = new JsonArray([.. Enumerable.Repeat("half", i > 0 && behaviour.FirstHalf(i - 1) ? 2 : 1).Select(token => JsonValue.Create(token))]);
                choice["logprobs"] = new JsonObject { [chat ? "content" : "tokens"] = said };
            }

            await SendAsync(new JsonObject { ["choices"] = new JsonArray(choice) }.ToJsonString());
            if (i == 1 && fault == -1)
            {
                context.Abort();
                return;
            }

            if (i == 1 && fault == -2)
            {
                await SendAsync("""{"error":{"message":"the engine stopped","type":"server_error"}}""");
                return;
            }
        }

        int cached = seen ? PrefixCharacters / FakeBehaviour.CharactersPerToken : 0;
        var usage = new JsonObject
        {
            ["choices"] = new JsonArray(),
            ["usage"] = new JsonObject { ["prompt_tokens"] = answer.PromptTokens, ["completion_tokens"] = tokens, ["prompt_tokens_details"] = new JsonObject { ["cached_tokens"] = cached } },
        };
        Finished.Add(answer);
        await SendAsync(usage.ToJsonString());
        await SendAsync("[DONE]");

        async Task SendAsync(string data)
        {
            await context.Response.WriteAsync($"data: {data}\n\n");
            await context.Response.Body.FlushAsync();
        }
    }
}

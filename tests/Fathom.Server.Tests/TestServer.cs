// A real server on a free port of the loopback address, over the small random model.
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using Fathom.Compute.Cpu;
using Fathom.Inference;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Fathom.Server.Tests;

/// <summary>A server that runs as long as this object.</summary>
public sealed class TestServer : IAsyncDisposable
{
    private readonly CpuDevice device;

    private TestServer(CpuDevice device, InferenceEngine engine, FathomServer server, LogLines log)
    {
        (this.device, Engine, Server, Log) = (device, engine, server, log);
        Client = new HttpClient { BaseAddress = server.Address, Timeout = TimeSpan.FromSeconds(60) };
    }

    /// <summary>The engine behind it.</summary>
    public InferenceEngine Engine { get; }

    /// <summary>The server.</summary>
    public FathomServer Server { get; }

    /// <summary>What it wrote to its log.</summary>
    public LogLines Log { get; }

    /// <summary>A client of it.</summary>
    public HttpClient Client { get; }

    /// <summary>Starts a server.</summary>
    public static async Task<TestServer> StartAsync(Action<FathomServerOptions>? configure = null, EngineOptions? engineOptions = null)
    {
        var device = new CpuDevice(1);
        var engine = new InferenceEngine(TestModel.Open(device), engineOptions ?? new EngineOptions { ContextTokens = 1024, CacheTokens = 16 * 1024 });
        var options = new FathomServerOptions { Port = 0, DrainDeadline = TimeSpan.FromSeconds(5) };
        configure?.Invoke(options);
        var log = new LogLines();
        FathomServer server = await FathomServer.StartAsync(engine, options, logging => logging.AddProvider(log));
        return new TestServer(device, engine, server, log);
    }

    /// <summary>Posts JSON.</summary>
    public Task<HttpResponseMessage> PostAsync(string path, string body, string? key = null, CancellationToken cancellation = default)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(body, Encoding.UTF8, "application/json") };
        if (key is not null) request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
        return Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation);
    }

    /// <summary>Posts JSON and reads JSON of an expected status.</summary>
    public async Task<JsonNode> CallAsync(string path, string body, int status = 200, string? key = null)
    {
        using HttpResponseMessage response = await PostAsync(path, body, key);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True((int)response.StatusCode == status, $"{path} gave {(int)response.StatusCode}, expected {status}: {text}");
        return JsonNode.Parse(text)!;
    }

    /// <summary>Gets JSON of an expected status.</summary>
    public async Task<JsonNode> GetAsync(string path, int status = 200, string? key = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        if (key is not null) request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
        using HttpResponseMessage response = await Client.SendAsync(request);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True((int)response.StatusCode == status, $"{path} gave {(int)response.StatusCode}, expected {status}: {text}");
        return JsonNode.Parse(text)!;
    }

    /// <summary>Posts a request that streams and gives the raw body.</summary>
    public async Task<string> StreamAsync(string path, string body, string? key = null)
    {
        using HttpResponseMessage response = await PostAsync(path, body, key);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, text);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        return text;
    }

    /// <summary>The data of the events of a stream, after checking its framing to the byte.</summary>
    public static List<JsonNode> Events(string stream)
    {
        Assert.EndsWith("data: [DONE]\n\n", stream, StringComparison.Ordinal);
        string[] parts = stream.Split("\n\n");
        Assert.Equal("", parts[^1]);
        List<JsonNode> events = [];
        foreach (string part in parts[..^2])
        {
            if (part == ": keep-alive") continue;
            Assert.StartsWith("data: {", part, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', part);
            events.Add(JsonNode.Parse(part["data: ".Length..])!);
        }

        return events;
    }

    /// <summary>Waits until something holds.</summary>
    public static async Task Eventually(Func<bool> holds, string what, int seconds = 10)
    {
        for (int i = 0; i < seconds * 100; i++)
        {
            if (holds()) return;
            await Task.Delay(10);
        }

        Assert.Fail($"not within {seconds} s: {what}");
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await Server.DisposeAsync();
        Engine.Dispose();
        device.Dispose();
    }
}

/// <summary>A log in memory.</summary>
public sealed class LogLines : ILoggerProvider, ILogger
{
    private readonly List<string> lines = [];

    /// <summary>All lines.</summary>
    public string Text
    {
        get
        {
            lock (lines) return string.Join('\n', lines);
        }
    }

    public ILogger CreateLogger(string categoryName) => this;

    public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        lock (lines) lines.Add($"{logLevel}: {formatter(state, exception)} {exception}");
    }

    public void Dispose()
    {
    }
}

// Readiness, draining, metrics, the log, and an application of its own that maps the routes.
using System.Diagnostics;
using System.Net;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Fathom.Compute.Cpu;
using Fathom.Inference;
using Fathom.Numerics;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Fathom.Server.Tests;

public sealed partial class OperationTests(ITestOutputHelper output)
{
    private const string Long = """{"stream":true,"n":16,"max_tokens":1900,"ignore_eos":true,"messages":[{"role":"user","content":"write"}]}""";
    private static readonly EngineOptions Large = new() { ContextTokens = 2048, CacheTokens = 40_000 };

    [Fact]
    public async Task The_server_says_when_it_is_warm()
    {
        await using TestServer server = await TestServer.StartAsync();
        Assert.Equal("ok", (string)(await server.GetAsync("/health"))["status"]!);
        await TestServer.Eventually(() => server.Log.Text.Contains("ready; the warm-up took", StringComparison.Ordinal), "it is ready");
        Assert.Equal("ready", (string)(await server.GetAsync("/ready"))["status"]!);
        Assert.Matches(@"^\d+\.\d+\.\d+$", (string)(await server.GetAsync("/version"))["version"]!);
        using HttpResponseMessage response = await server.Client.GetAsync("/health");
        Assert.StartsWith("req_", Assert.Single(response.Headers.GetValues("x-request-id")), StringComparison.Ordinal);
        Assert.False(response.Headers.Contains("Server"));
    }

    [Fact]
    public async Task Draining_finishes_what_runs_and_refuses_what_is_new()
    {
        await using TestServer server = await TestServer.StartAsync(o => o.DrainDeadline = TimeSpan.FromSeconds(60), Large);
        using HttpResponseMessage running = await server.PostAsync("/v1/chat/completions", Long);
        Task stop = server.Server.StopAsync();
        JsonNode refused = await server.CallAsync("/v1/chat/completions", Long, 503);
        Assert.Equal("server_overloaded", (string)refused["error"]!["code"]!);
        Assert.Equal("draining", (string)(await server.GetAsync("/ready", 503))["status"]!);
        List<JsonNode> events = TestServer.Events(await running.Content.ReadAsStringAsync());
        await stop;
        string[] reasons = [.. events.SelectMany(e => e["choices"]!.AsArray()).Select(c => (string?)c!["finish_reason"]).OfType<string>()];
        Assert.Equal(Enumerable.Repeat("length", 16), reasons);
        await Assert.ThrowsAsync<HttpRequestException>(() => server.Client.GetAsync("/health"));
    }

    [Fact]
    public async Task Draining_cuts_at_its_deadline()
    {
        await using TestServer server = await TestServer.StartAsync(o => o.DrainDeadline = TimeSpan.FromMilliseconds(100), Large);
        using HttpResponseMessage running = await server.PostAsync("/v1/chat/completions", Long);
        var time = Stopwatch.StartNew();
        Task stop = server.Server.StopAsync();
        List<JsonNode> events = TestServer.Events(await running.Content.ReadAsStringAsync());
        await stop;
        output.WriteLine($"stopped after {time.ElapsedMilliseconds} ms");
        Assert.Contains(events, e => (string?)e["choices"]![0]!["finish_reason"] == "insufficient_system_resource");
        Assert.InRange(time.Elapsed.TotalSeconds, 0, 5);
    }

    [Fact]
    public async Task An_answer_is_cut_at_its_deadline()
    {
        await using TestServer server = await TestServer.StartAsync(o => o.AnswerDeadline = TimeSpan.FromMilliseconds(200), Large);
        JsonNode reply = await server.CallAsync("/v1/chat/completions", Long.Replace("\"stream\":true,", "", StringComparison.Ordinal));
        Assert.Contains(reply["choices"]!.AsArray(), c => (string)c!["finish_reason"]! == "insufficient_system_resource");
    }

    [Fact]
    public async Task Who_waits_is_kept_alive_and_refused_in_the_end()
    {
        EngineOptions one = new() { ContextTokens = 2048, CacheTokens = 4096, MostRunning = 1 };
        await using TestServer server = await TestServer.StartAsync(
            o => (o.KeepAlive, o.QueueDeadline, o.MaxChoices) = (TimeSpan.FromMilliseconds(20), TimeSpan.FromMilliseconds(150), 100), one);
        string first = Long.Replace("\"n\":16", "\"n\":100,\"priority\":-1", StringComparison.Ordinal); // a hundred one after another, before all others
        using HttpResponseMessage running = await ComputedAsync(server, first);
        using HttpResponseMessage waiting = await server.PostAsync("/v1/chat/completions", Long.Replace("16", "1", StringComparison.Ordinal));
        string text = await waiting.Content.ReadAsStringAsync();
        output.WriteLine(text);
        Assert.StartsWith(": keep-alive\n\n: keep-alive\n\n", text, StringComparison.Ordinal);
        Assert.Contains("\"code\":\"server_overloaded\"", text, StringComparison.Ordinal);

        using HttpResponseMessage whole = await server.PostAsync("/v1/chat/completions", """{"messages":[{"role":"user","content":"a"}]}""");
        string blank = await whole.Content.ReadAsStringAsync();
        Assert.StartsWith("\n\n", blank, StringComparison.Ordinal);
        Assert.Equal("server_overloaded", (string)JsonNode.Parse(blank)!["error"]!["code"]!);
    }

    /// <summary>A stream whose computation has begun. A machine that stands still may let even the first request wait too long: it is asked again.</summary>
    private static async Task<HttpResponseMessage> ComputedAsync(TestServer server, string body)
    {
        for (int attempt = 0; ; attempt++)
        {
            HttpResponseMessage reply = await server.PostAsync("/v1/chat/completions", body);
            var lines = new StreamReader(await reply.Content.ReadAsStreamAsync());
            string? line = await lines.ReadLineAsync();
            while (line is not null && !line.Contains('{', StringComparison.Ordinal)) line = await lines.ReadLineAsync();
            if (line is not null && !line.Contains("server_overloaded", StringComparison.Ordinal)) return reply;
            reply.Dispose();
            Assert.True(attempt < 10, "no request is ever computed");
        }
    }

    [Theory]
    [InlineData("fathom")]
    [InlineData("vllm")]
    public async Task Metrics_have_the_names_that_dashboards_know(string prefix)
    {
        await using TestServer server = await TestServer.StartAsync(o => (o.MetricsPrefix, o.ModelName) = (prefix, "a \"b\""));
        JsonNode usage = (await server.CallAsync("/v1/chat/completions", """{"max_tokens":5,"ignore_eos":true,"messages":[{"role":"user","content":"a"}]}"""))["usage"]!;
        string text = await server.Client.GetStringAsync("/metrics");
        output.WriteLine(text);
        foreach (string name in (string[])
                 [
                     "num_requests_running", "num_requests_waiting", "engine_longest_step_seconds", "kv_cache_usage_perc", "prefix_cache_queries_total", "prefix_cache_hits_total", "num_preemptions_total", "prompt_tokens_total",
                     "generation_tokens_total", "request_success_total", "time_to_first_token_seconds_bucket", "inter_token_latency_seconds_sum", "e2e_request_latency_seconds_count",
                     "request_queue_time_seconds_bucket", "request_inference_time_seconds_bucket", "request_prefill_time_seconds_bucket", "request_decode_time_seconds_bucket",
                     "request_prompt_tokens_bucket", "request_generation_tokens_bucket", "request_params_n_bucket", "request_params_max_tokens_bucket",
                     "iteration_tokens_total_bucket", "cache_config_info",
                 ])
        {
            Assert.Contains($"\n{prefix}:{name}{{model_name=\"a \\\"b\\\"\"", text, StringComparison.Ordinal);
        }

        Assert.Equal(1, Value(text, $"{prefix}:request_success_total", "finished_reason=\"length\""));
        Assert.Equal(5, Value(text, $"{prefix}:request_generation_tokens_sum"));
        Assert.Equal(Value(text, $"{prefix}:engine_steps_total"), Value(text, $"{prefix}:iteration_tokens_total_count"));
        Assert.Equal(1, Value(text, $"{prefix}:cache_config_info", "block_size=\"64\",num_gpu_blocks=\"256\""));
        Assert.Equal((int)usage["prompt_tokens"]!, Value(text, $"{prefix}:request_prompt_tokens_sum"));
        Assert.Equal(1, Value(text, $"{prefix}:time_to_first_token_seconds_bucket", "le=\"+Inf\""));
        Assert.Equal(23, Regex.Count(text, $"{prefix}:time_to_first_token_seconds_bucket"));
        Assert.All(text.TrimEnd('\n').Split('\n'), line => Assert.Matches(Line, line));
    }

    [Fact]
    public async Task The_log_holds_prompts_only_where_it_was_asked_to()
    {
        const string Ask = """{"max_tokens":3,"messages":[{"role":"user","content":"a secret thing"}]}""";
        await using (TestServer server = await TestServer.StartAsync())
        {
            await server.CallAsync("/v1/chat/completions", Ask);
            await TestServer.Eventually(() => server.Log.Text.Contains("/v1/chat/completions 200", StringComparison.Ordinal), "the request is logged");
            Assert.DoesNotContain("secret", server.Log.Text, StringComparison.Ordinal);
        }

        await using TestServer open = await TestServer.StartAsync(o => o.LogPrompts = true);
        await open.CallAsync("/v1/chat/completions", Ask);
        await TestServer.Eventually(() => open.Log.Text.Contains("a secret thing", StringComparison.Ordinal), "the prompt is logged");
    }

    [Fact]
    public async Task Metrics_and_traces_are_sent_with_OTLP()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Logging.ClearProviders();
        await using WebApplication collector = builder.Build();
        var body = new MemoryStream();
        var spans = new MemoryStream();
        collector.MapPost("/v1/metrics", async (HttpContext http) => await http.Request.Body.CopyToAsync(body));
        collector.MapPost("/v1/traces", async (HttpContext http) => await http.Request.Body.CopyToAsync(spans));
        await collector.StartAsync();
        await using (TestServer server = await TestServer.StartAsync(o => o.OtlpEndpoint = new Uri(collector.Urls.First())))
        {
            server.Client.DefaultRequestHeaders.Add("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            await server.CallAsync("/v1/chat/completions", """{"max_tokens":3,"messages":[{"role":"user","content":"a secret"}]}""");
            await server.CallAsync("/v1/chat/completions", """{"model":"gpt","messages":[{"role":"user","content":"a"}]}""", 404);
        }

        string traced = System.Text.Encoding.Latin1.GetString(spans.ToArray());
        foreach (string name in (string[])["chat tiny", "gen_ai.operation.name", "gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.response.finish_reasons", "model_not_found"])
            Assert.Contains(name, traced, StringComparison.Ordinal);
        Assert.Contains("\u000a\u00f7\u0065\u0019\u0016\u00cd\u0043\u00dd", traced, StringComparison.Ordinal); // the client's trace
        Assert.DoesNotContain("secret", traced, StringComparison.Ordinal);
        string sent = System.Text.Encoding.Latin1.GetString(body.ToArray());
        output.WriteLine($"{body.Length} bytes");
        Assert.Contains("fathom.time_to_first_token_seconds", sent, StringComparison.Ordinal);
        Assert.Contains("fathom.num_requests_running", sent, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_application_of_its_own_can_map_the_routes()
    {
        using var device = new CpuDevice(1);
        using var engine = new InferenceEngine(TestModel.Open(device), new EngineOptions { ContextTokens = 512 });
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Logging.ClearProviders();
        builder.Services.AddFathom(engine, o => o.Aliases.Add("deepseek-chat"));
        await using WebApplication app = builder.Build();
        app.MapGet("/", () => "mine");
        app.MapGroup("/llm").MapFathom();
        await app.StartAsync();
        using var client = new HttpClient { BaseAddress = new Uri(app.Urls.First()) };
        Assert.Equal("mine", await client.GetStringAsync("/"));
        using HttpResponseMessage reply = await client.PostAsync("/llm/v1/chat/completions", new StringContent("""{"model":"deepseek-chat","max_tokens":2,"messages":[{"role":"user","content":"a"}]}"""));
        Assert.Equal(HttpStatusCode.OK, reply.StatusCode);
        Assert.Equal("deepseek-chat", (string)JsonNode.Parse(await reply.Content.ReadAsStringAsync())!["model"]!);
    }

    [Fact]
    public async Task The_description_names_every_route_and_no_other()
    {
        using var device = new CpuDevice(1);
        using var engine = new InferenceEngine(TestModel.Open(device), new EngineOptions { ContextTokens = 512 });
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Logging.ClearProviders();
        builder.Services.AddFathom(engine);
        builder.Services.AddFathomRuns([]);
        await using WebApplication app = builder.Build();
        app.MapFathom();
        app.MapFathomRuns();
        await app.StartAsync();
        IEnumerable<string> mapped = ((IEndpointRouteBuilder)app).DataSources.SelectMany(s => s.Endpoints).OfType<RouteEndpoint>()
            .Select(e => $"{e.Metadata.GetMetadata<HttpMethodMetadata>()!.HttpMethods[0].ToLowerInvariant()} {e.RoutePattern.RawText!.Replace("**", "", StringComparison.Ordinal)}");
        using var client = new HttpClient { BaseAddress = new Uri(app.Urls.First()) };
        JsonNode description = JsonNode.Parse(await client.GetStringAsync("/openapi.json"))!;
        IEnumerable<string> described = description["paths"]!.AsObject().SelectMany(p => p.Value!.AsObject().Select(m => $"{m.Key} {p.Key}"));
        Assert.Equal(mapped.Order(), described.Order());
    }

    [Fact]
    public void Options_that_are_not_possible_are_named()
    {
        Check("the host to listen on is an address or localhost, not 'example.com'", o => o.Host = "example.com");
        Check("the port is 0 to 65535, not 70000", o => o.Port = 70000);
        Check("the metrics' prefix is fathom or vllm, not 'x'", o => o.MetricsPrefix = "x");
        Check("the drain time must be above zero", o => o.DrainDeadline = TimeSpan.Zero);
        Check("a price for a million tokens has at most three decimals", o => o.Prices = new PriceList("CNY", 0.0001m, 1, 1));
        Check("a currency is three capital letters", o => o.Prices = new PriceList("yuan", 1, 1, 1));

        static void Check(string message, Action<FathomServerOptions> set)
        {
            var options = new FathomServerOptions();
            set(options);
            Assert.Contains(message, Assert.Throws<FathomException>(options.Validate).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Listening_to_others_without_keys_is_said()
    {
        await using TestServer open = await TestServer.StartAsync(o => o.Host = "0.0.0.0");
        Assert.Contains("Warning: listening on 0.0.0.0 without keys", open.Log.Text, StringComparison.Ordinal);
        await using TestServer closed = await TestServer.StartAsync();
        Assert.DoesNotContain("Warning", closed.Log.Text, StringComparison.Ordinal);
        Assert.Equal(IPAddress.Loopback.ToString(), closed.Server.Address.Host);
    }

    private static double Value(string text, string name, string label = "") => double.Parse(
        Assert.Single(text.Split('\n'), l => l.StartsWith(name + "{", StringComparison.Ordinal) && l.Contains(label, StringComparison.Ordinal)).Split(' ')[^1], System.Globalization.CultureInfo.InvariantCulture);

    [GeneratedRegex(@"^(# (HELP|TYPE) [a-z]+:[a-z0-9_]+ .+|[a-z]+:[a-z0-9_]+\{[a-z_]+=""([^""\\]|\\.)*""(,[a-z_]+=""([^""\\]|\\.)*"")*\} [-+0-9.eE]+)$")]
    private static partial Regex Line { get; }
}

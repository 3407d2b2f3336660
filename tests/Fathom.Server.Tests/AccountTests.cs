// Keys, limits, balances and usage.
using System.Net;
using System.Text.Json.Nodes;
using Fathom.Numerics;
using Fathom.Server.Accounts;
using Fathom.Server.Answers;
using Fathom.Server.Http;
using Fathom.Testing;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class AccountTests(ITestOutputHelper output) : IDisposable
{
    private const string Ask = """{"max_tokens":6,"ignore_eos":true,"messages":[{"role":"user","content":"the question"}]}""";
    private readonly TemporaryFolder folder = new();

    private string File => folder.File("keys.db");

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task Every_route_but_health_needs_a_key_once_there_is_one()
    {
        await using TestServer server = await TestServer.StartAsync(o => o.KeysFile = File);
        await server.GetAsync("/v1/models"); // none yet
        using var store = new KeyStore(File);
        (string key, Account account) = store.Add("ann");
        output.WriteLine($"{key} {account}");
        await server.GetAsync("/health");
        foreach (string path in (string[])["/v1/models", "/models", "/v1/models/tiny", "/version", "/user/balance", "/ready", "/metrics"])
        {
            JsonNode refused = await server.GetAsync(path, 401);
            Assert.Equal("authentication_error", (string)refused["error"]!["type"]!);
            using var request = new HttpRequestMessage(HttpMethod.Get, path);
            request.Headers.Add("Authorization", $"Bearer {key}");
            using HttpResponseMessage answered = await server.Client.SendAsync(request);
            Assert.NotEqual(HttpStatusCode.Unauthorized, answered.StatusCode);
        }

        foreach (string path in (string[])["/v1/chat/completions", "/beta/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/tokenize", "/detokenize"])
            await server.CallAsync(path, Ask, 401);
        await server.CallAsync("/v1/chat/completions", Ask, 200, key);

        // Anthropic's header; wrong keys; a key cut short; a revoked one.
        using var anthropic = new HttpRequestMessage(HttpMethod.Get, "/v1/models") { Headers = { { "x-api-key", key } } };
        using HttpResponseMessage listed = await server.Client.SendAsync(anthropic);
        Assert.Equal(HttpStatusCode.OK, listed.StatusCode);
        string wrong = (string)(await server.GetAsync("/v1/models", 401, "sk-" + new string('0', 76)))["error"]!["message"]!;
        string known = (string)(await server.GetAsync("/v1/models", 401, key[..^1] + (key[^1] == '0' ? '1' : '0')))["error"]!["message"]!;
        Assert.Equal(wrong, known); // nothing tells that the id exists
        await server.GetAsync("/v1/models", 401, key[..^1]);
        Assert.True(store.Revoke(account.Id));
        await server.GetAsync("/v1/models", 401, key);
        Assert.True(store.HasKeys); // and the server stays closed
        await server.GetAsync("/v1/models", 401);
    }

    [Fact]
    public void The_file_holds_no_key_and_is_its_owners_alone()
    {
        string key;
        using (var store = new KeyStore(File)) (key, _) = store.Add("ann");
        Assert.Equal(79, key.Length);
        byte[] file = [.. Directory.GetFiles(folder.Path).SelectMany(System.IO.File.ReadAllBytes)];
        Assert.Equal(-1, file.AsSpan().IndexOf(System.Text.Encoding.ASCII.GetBytes(key[15..])));
        if (!OperatingSystem.IsWindows()) Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, System.IO.File.GetUnixFileMode(File));
        System.IO.File.WriteAllText(folder.File("text.db"), string.Concat(Enumerable.Repeat("not a database ", 100)));
        Assert.Contains("cannot open the key file", Assert.Throws<FathomException>(() => new KeyStore(folder.File("text.db"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Usage_adds_up_and_is_paid_to_the_last_billionth()
    {
        await using TestServer server = await TestServer.StartAsync(o => o.KeysFile = File);
        using var store = new KeyStore(File);
        (string key, Account account) = store.Add("ann", balance: 0.001m);
        long hit = 0, miss = 0, generated = 0, requests = 0;
        for (int i = 0; i < 4; i++)
        {
            JsonNode usage = (await server.CallAsync("/v1/chat/completions", Ask, 200, key))["usage"]!;
            hit += (long)usage["prompt_cache_hit_tokens"]!;
            miss += (long)usage["prompt_cache_miss_tokens"]!;
            generated += (long)usage["completion_tokens"]!;
            requests++;
        }

        UsageTotal total = Assert.Single(store.Usage);
        output.WriteLine($"{total}");
        Assert.Equal(new UsageTotal(account.Id, "tiny", requests, hit, miss, generated, (hit * 100) + (miss * 1000) + (generated * 2000)), total);
        Assert.Equal(1_000_000 - total.CostNano, store.Get(account.Id)!.BalanceNano);
        JsonNode balance = await server.GetAsync("/user/balance", 200, key);
        Assert.True((bool)balance["is_available"]!);
        Assert.Equal("CNY", (string)balance["balance_infos"]![0]!["currency"]!);
        Assert.Equal(1_000_000 - total.CostNano, (long)(decimal.Parse((string)balance["balance_infos"]![0]!["total_balance"]!, System.Globalization.CultureInfo.InvariantCulture) * 1_000_000_000m));

        store.AddBalance(account.Id, -1);
        JsonNode spent = await server.CallAsync("/v1/chat/completions", Ask, 402, key);
        Assert.Equal("insufficient_balance", (string)spent["error"]!["code"]!);
        await server.GetAsync("/user/balance", 200, key);
    }

    [Fact]
    public async Task A_request_that_is_left_is_paid_as_far_as_it_came()
    {
        await using TestServer server = await TestServer.StartAsync(o => o.KeysFile = File, new() { ContextTokens = 2048, CacheTokens = 40_000 });
        using var store = new KeyStore(File);
        (string key, _) = store.Add("ann");
        using (HttpResponseMessage response = await server.PostAsync("/v1/chat/completions", """{"stream":true,"n":16,"max_tokens":1900,"ignore_eos":true,"messages":[{"role":"user","content":"a"}]}""", key))
        {
            using Stream stream = await response.Content.ReadAsStreamAsync();
            await stream.ReadExactlyAsync(new byte[300]);
        }

        await TestServer.Eventually(() => store.Usage.Count == 1, "the usage is written");
        UsageTotal total = store.Usage[0];
        output.WriteLine($"{total}");
        Assert.Equal(server.Engine.Statistics.GeneratedTokens - 2, total.OutputTokens); // less those of the warm-up
    }

    [Fact]
    public async Task Records_are_written_once_however_often_they_are_sent()
    {
        using var store = new KeyStore(File);
        (_, Account account) = store.Add("ann", balance: 1);
        UsageRecord[] records = [.. Enumerable.Range(0, 300).Select(i => new UsageRecord($"req_{i % 100}", account.Id, "m", new TokenUsage(1, 2, 3, 0), DateTimeOffset.UtcNow))];
        await Task.WhenAll(records.Select(r => store.RecordAsync(r, PriceList.DeepSeekV3Launch)));
        UsageTotal total = Assert.Single(store.Usage);
        Assert.Equal((100, 100, 200, 300), (total.Requests, total.HitTokens, total.MissTokens, total.OutputTokens));
        Assert.Equal(1_000_000_000 - total.CostNano, store.Get(account.Id)!.BalanceNano);
        Assert.Equal(100 * (100 + 2000 + 6000), total.CostNano);
    }

    [Fact]
    public void Rates_fill_up_again()
    {
        var clock = new ManualClock();
        var rates = new RateLimits(clock);
        var account = new Account("a", "a", 6, 100, null, DateTimeOffset.UnixEpoch, null);
        for (int i = 0; i < 6; i++) rates.Admit(account);
        ApiException refused = Assert.Throws<ApiException>(() => rates.Admit(account));
        Assert.Equal((429, 10), (refused.Status, refused.RetryAfter));
        clock.Advance(10);
        rates.Admit(account);
        Assert.Throws<ApiException>(() => rates.Admit(account));

        clock.Advance(60);
        rates.Charge(account, 250); // more than a minute's worth: it is paid off
        refused = Assert.Throws<ApiException>(() => rates.Admit(account));
        Assert.Equal((429, 90), (refused.Status, refused.RetryAfter is > 85 and <= 91 ? 90 : refused.RetryAfter));
        clock.Advance(refused.RetryAfter!.Value);
        rates.Admit(account);
        for (int i = 0; i < 10_000; i++) rates.Admit(account with { Id = "free", RequestsPerMinute = null, TokensPerMinute = null });
    }

    [Fact]
    public async Task A_key_beyond_its_rate_gets_429_with_the_time_to_wait()
    {
        await using TestServer server = await TestServer.StartAsync(o => o.KeysFile = File);
        using var store = new KeyStore(File);
        (string key, _) = store.Add("ann", requestsPerMinute: 2);
        (string tokens, _) = store.Add("bob", tokensPerMinute: 5);
        await server.CallAsync("/v1/chat/completions", Ask, 200, key);
        await server.CallAsync("/v1/chat/completions", Ask, 200, key);
        using HttpResponseMessage refused = await server.PostAsync("/v1/chat/completions", Ask, key);
        Assert.Equal(HttpStatusCode.TooManyRequests, refused.StatusCode);
        Assert.InRange(refused.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 30);
        await server.CallAsync("/v1/chat/completions", Ask, 200, tokens);
        await server.CallAsync("/v1/chat/completions", Ask, 429, tokens);
        await server.GetAsync("/v1/models", 200, key); // looking costs nothing
    }

    [Fact]
    public async Task Keys_do_not_share_the_cache()
    {
        await using TestServer server = await TestServer.StartAsync(o => o.KeysFile = File);
        using var store = new KeyStore(File);
        (string ann, _) = store.Add("ann");
        (string bob, _) = store.Add("bob");
        string body = $$"""{"max_tokens":1,"messages":[{"role":"user","content":"{{string.Concat(Enumerable.Repeat("the model reads a token. ", 30))}}"}]}""";
        await server.CallAsync("/v1/chat/completions", body, 200, ann);
        Assert.True((int)(await server.CallAsync("/v1/chat/completions", body, 200, ann))["usage"]!["prompt_cache_hit_tokens"]! > 0);
        Assert.Equal(0, (int)(await server.CallAsync("/v1/chat/completions", body, 200, bob))["usage"]!["prompt_cache_hit_tokens"]!);
    }

    [Theory]
    [InlineData("CNY", 0.1, 1, 2, 10, 20, 30, 1000 + 20_000 + 60_000)]
    [InlineData("USD", 0.014, 0.14, 0.28, 1, 1, 1, 14 + 140 + 280)]
    [InlineData("USD", 0, 0, 0, 5, 5, 5, 0)]
    public void Prices_are_exact(string currency, double hit, double miss, double output, int hits, int misses, int outputs, long nano)
    {
        var prices = new PriceList(currency, (decimal)hit, (decimal)miss, (decimal)output);
        prices.Validate();
        Assert.Equal(nano, prices.CostNano(hits, misses, outputs));
    }

    private sealed class ManualClock : TimeProvider
    {
        private long seconds;

        public override long TimestampFrequency => 1;

        public override long GetTimestamp() => seconds;

        public void Advance(int by) => seconds += by;
    }
}

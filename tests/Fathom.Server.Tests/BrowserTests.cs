// What a page in a browser can reach: the server's own pages and those of this machine everything, strangers nothing, whatever name they
// have given this machine.
using System.Net;
using System.Text.Json.Nodes;
using Fathom.Compute.Cpu;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Server.Accounts;
using Fathom.Testing;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class BrowserTests(SharedServer shared) : IClassFixture<SharedServer>
{
    private const string Ask = """{"max_tokens":2,"messages":[{"role":"user","content":"a"}]}""";

    [Theory]
    [InlineData(null, null, 200)] // a program
    [InlineData("http://127.0.0.1:8000", null, 200)]
    [InlineData("http://localhost:3000", "localhost:8000", 200)]
    [InlineData("https://app.localhost", null, 200)]
    [InlineData("http://[::1]:3000", "[::1]:8000", 200)]
    [InlineData("http://192.168.1.5", "192.168.1.5", 200)] // its own page by another address
    [InlineData("https://evil.example", null, 403)]
    [InlineData("http://localhost.evil.example", null, 403)]
    [InlineData("http://evil.example:8000", "evil.example:8000", 403)] // rebound
    [InlineData(null, "evil.example:8000", 403)]
    [InlineData("null", null, 403)] // a sandboxed frame
    [InlineData("file://", null, 403)]
    [InlineData("chrome-extension://abc", null, 403)]
    public async Task Pages_of_strangers_are_refused(string? origin, string? host, int status)
    {
        foreach ((HttpMethod method, string path) in new[] { (HttpMethod.Post, "/v1/chat/completions"), (HttpMethod.Get, "/v1/models"), (HttpMethod.Get, "/") })
        {
            using HttpResponseMessage reply = await SendAsync(shared.Server, method, path, origin, host);
            Assert.Equal(status, (int)reply.StatusCode);
            Assert.Equal(status == 200 && origin is not null ? origin : null, reply.Headers.TryGetValues("Access-Control-Allow-Origin", out IEnumerable<string>? allowed) ? allowed.Single() : null);
            if (status != 403) continue;
            JsonNode error = JsonNode.Parse(await reply.Content.ReadAsStringAsync())!["error"]!;
            Assert.Equal("permission_error", (string)error["type"]!);
            Assert.Equal(host?.StartsWith("evil", StringComparison.Ordinal) == true ? "host_not_allowed" : "origin_not_allowed", (string)error["code"]!);
        }
    }

    [Fact]
    public async Task A_browser_is_told_what_it_may_before_it_asks()
    {
        using HttpResponseMessage allowed = await PreflightAsync("http://localhost:3000");
        Assert.Equal(HttpStatusCode.NoContent, allowed.StatusCode);
        Assert.Equal("content-type, authorization", allowed.Headers.GetValues("Access-Control-Allow-Headers").Single());
        Assert.Contains("POST", allowed.Headers.GetValues("Access-Control-Allow-Methods").Single(), StringComparison.Ordinal);
        using HttpResponseMessage refused = await PreflightAsync("https://evil.example");
        Assert.Equal(HttpStatusCode.Forbidden, refused.StatusCode);
        Assert.False(refused.Headers.Contains("Access-Control-Allow-Origin"));

        async Task<HttpResponseMessage> PreflightAsync(string origin)
        {
            using var request = new HttpRequestMessage(HttpMethod.Options, "/v1/chat/completions");
            request.Headers.Add("Origin", origin);
            request.Headers.Add("Access-Control-Request-Method", "POST");
            request.Headers.Add("Access-Control-Request-Headers", "content-type, authorization");
            return await shared.Server.Client.SendAsync(request);
        }
    }

    [Fact]
    public async Task Origins_and_hosts_can_be_allowed()
    {
        await using (TestServer server = await TestServer.StartAsync(o =>
        {
            o.AllowedOrigins.Add("https://app.example.com");
            o.AllowedHosts.Add("models.example.com");
        }))
        {
            await ExpectAsync(server, "https://app.example.com", "models.example.com", 200);
            await ExpectAsync(server, "https://models.example.com", "models.example.com", 200); // its own page, behind a proxy
            await ExpectAsync(server, "https://models.example.com", null, 403);
            await ExpectAsync(server, "https://other.example.com", null, 403);
            await ExpectAsync(server, null, "other.example.com", 403);
        }

        await using TestServer open = await TestServer.StartAsync(o =>
        {
            o.AllowedOrigins.Add("*");
            o.AllowedHosts.Add("*");
        });
        await ExpectAsync(open, "https://any.example", "any.example", 200);

        static async Task ExpectAsync(TestServer server, string? origin, string? host, int status)
        {
            using HttpResponseMessage reply = await SendAsync(server, HttpMethod.Post, "/v1/chat/completions", origin, host);
            Assert.Equal(status, (int)reply.StatusCode);
        }
    }

    [Fact]
    public async Task With_keys_the_name_does_not_matter()
    {
        using var folder = new TemporaryFolder();
        string file = folder.File("keys.db"), key;
        using (var store = new KeyStore(file)) (key, _) = store.Add("ann");
        await using TestServer server = await TestServer.StartAsync(o => o.KeysFile = file);
        using HttpResponseMessage stranger = await SendAsync(server, HttpMethod.Get, "/v1/models", null, "models.example.com");
        Assert.Equal(HttpStatusCode.Unauthorized, stranger.StatusCode);
        using HttpResponseMessage known = await SendAsync(server, HttpMethod.Get, "/v1/models", null, "models.example.com", key);
        Assert.Equal(HttpStatusCode.OK, known.StatusCode);
    }

    [Fact]
    public void Origins_and_hosts_that_are_none_are_named()
    {
        var options = new FathomServerOptions();
        options.AllowedOrigins.Add("https://app.example.com/path");
        Assert.Contains("without a path, not 'https://app.example.com/path'", Assert.Throws<FathomException>(options.Validate).Message, StringComparison.Ordinal);
        options.AllowedOrigins.Clear();
        options.AllowedHosts.Add("a b");
        Assert.Contains("a host is * or a name", Assert.Throws<FathomException>(options.Validate).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_model_of_a_run_has_the_run_s_name()
    {
        using var folder = new TemporaryFolder();
        string model = TestModel.Write(folder.Path), run = folder.File("my-run");
        Directory.CreateDirectory(run);
        File.WriteAllText(Path.Combine(run, "run.json"), "{}");
        Directory.Move(model, Path.Combine(run, "model"));
        using var device = new CpuDevice(1);
        Assert.Equal("my-run", LoadedModel.Open(device, run).Name);
        Assert.Equal("my-run", LoadedModel.Open(device, Path.Combine(run, "model") + "/").Name);
        Assert.Equal("tiny", TestModel.Open(device).Name);
    }

    private static async Task<HttpResponseMessage> SendAsync(TestServer server, HttpMethod method, string path, string? origin, string? host, string? key = null)
    {
        using var request = new HttpRequestMessage(method, path) { Content = method == HttpMethod.Post ? new StringContent(Ask) : null };
        if (origin is not null) request.Headers.Add("Origin", origin);
        if (key is not null) request.Headers.Add("x-api-key", key);
        request.Headers.Host = host;
        return await server.Client.SendAsync(request);
    }
}

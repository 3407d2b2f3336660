// What a hostile or broken client can send: the right status, soon, and a server that goes on.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Server.Http;
using Fathom.Server.OpenAI;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class AbuseTests(SharedServer shared, ITestOutputHelper output) : IClassFixture<SharedServer>
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(5);

    public static TheoryData<string, int> Bodies => new()
    {
        { string.Concat(Enumerable.Repeat("[", 100_000)), 400 },
        { "{\"messages\":" + string.Concat(Enumerable.Repeat("{\"a\":", 70)) + "1" + new string('}', 71), 400 },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"stop\":[" + string.Join(',', Enumerable.Range(0, 10_000).Select(i => $"\"{i}\"")) + "]}", 422 },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"logit_bias\":{" + string.Join(',', Enumerable.Range(0, 20_000).Select(i => $"\"{i}\":1")) + "}}", 422 },
        { "{\"messages\":[" + string.Join(',', Enumerable.Repeat("{\"role\":\"user\",\"content\":\"\"}", 20_000)) + "]}", 422 },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":[" + string.Join(',', Enumerable.Range(0, 1000).Select(i => $"{{\"type\":\"function\",\"function\":{{\"name\":\"f{i}\"}}}}")) + "]}", 422 },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"" + new string('a', 9 << 20) + "\"}]}", 413 },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"" + new string('a', 1 << 20) + "\"}]}", 400 },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"n\":1000000000}", 422 },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"chat_template_kwargs\":{\"messages\":5},\"max_tokens\":1}", 400 },
    };

    [Theory]
    [MemberData(nameof(Bodies))]
    public async Task A_hostile_body_is_refused_soon(string body, int status)
    {
        var time = Stopwatch.StartNew();
        JsonNode reply = await shared.Server.CallAsync("/v1/chat/completions", body, status);
        output.WriteLine($"{time.ElapsedMilliseconds} ms: {reply.ToJsonString()}");
        Assert.True(time.Elapsed < Soon);
        Assert.True(((string)reply["error"]!["message"]!).Length < 400);
        await shared.Server.GetAsync("/health");
    }

    [Fact]
    public async Task Bytes_that_are_not_UTF_8_are_refused()
    {
        byte[] body = [.. "{\"messages\":[{\"role\":\"user\",\"content\":\""u8, 0xC3, 0x28, 0xFF, .. "\"}]}"u8];
        using HttpResponseMessage response = await shared.Server.Client.PostAsync("/v1/chat/completions", new ByteArrayContent(body));
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Contains("not valid UTF-8", await response.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(70, 10, "431")]
    [InlineData(20, 2000, "431")]
    public async Task A_flood_of_headers_is_refused(int count, int length, string status)
    {
        string headers = string.Concat(Enumerable.Range(0, count).Select(i => $"x-{i}: {new string('a', length)}\r\n"));
        Assert.Contains($"HTTP/1.1 {status}", await RawAsync($"GET /health HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("GET /health\r\n\r\n")]
    [InlineData("\0\0\0\0\r\n\r\n")]
    [InlineData("GET /health HTTP/1.1\r\n\r\n")] // no host
    [InlineData("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n")]
    [InlineData("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")]
    [InlineData("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: gzip, chunked, gzip\r\n\r\n")]
    public async Task What_is_no_HTTP_is_refused(string text) => Assert.Contains("HTTP/1.1 4", await RawAsync(text), StringComparison.Ordinal);

    [Fact]
    public async Task A_body_that_does_not_come_is_not_waited_for()
    {
        await using TestServer server = await TestServer.StartAsync(o => o.BodyDeadline = TimeSpan.FromMilliseconds(200));
        using var socket = new TcpClient();
        await socket.ConnectAsync(IPAddress.Loopback, server.Server.Address.Port);
        NetworkStream stream = socket.GetStream();
        await stream.WriteAsync("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"mess"u8.ToArray());
        using var reader = new StreamReader(stream);
        Assert.Equal("HTTP/1.1 408 Request Timeout", await reader.ReadLineAsync().WaitAsync(Soon));
    }

    [Fact]
    public async Task A_reader_that_does_not_read_holds_nobody_else_up()
    {
        await using TestServer server = await TestServer.StartAsync(engineOptions: new() { ContextTokens = 2048, CacheTokens = 40_000 });
        using var socket = new TcpClient { ReceiveBufferSize = 1024 };
        await socket.ConnectAsync(IPAddress.Loopback, server.Server.Address.Port);
        const string Body = """{"stream":true,"n":16,"max_tokens":1900,"ignore_eos":true,"logprobs":true,"top_logprobs":20,"messages":[{"role":"user","content":"a"}]}""";
        await socket.GetStream().WriteAsync(Encoding.ASCII.GetBytes($"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {Body.Length}\r\n\r\n{Body}"));
        await TestServer.Eventually(() => server.Engine.Statistics.GeneratedTokens > 500, "it runs");
        var time = Stopwatch.StartNew();
        await server.CallAsync("/v1/chat/completions", """{"max_tokens":4,"messages":[{"role":"user","content":"a"}]}""");
        output.WriteLine($"another was answered in {time.ElapsedMilliseconds} ms");
        Assert.True(time.Elapsed < Soon);
        socket.Close();
        await TestServer.Eventually(() => server.Engine.Statistics is { Running: 0, Waiting: 0 }, "its generations end");
    }

    [Fact]
    public async Task Many_at_once_are_answered_each_with_its_own()
    {
        string[] bodies = [.. Enumerable.Range(0, 12).Select(i => $$"""{"max_tokens":20,"seed":{{i}},"messages":[{"role":"user","content":"question {{i}}"}]}""")];
        string[] alone = new string[bodies.Length];
        for (int i = 0; i < bodies.Length; i++) alone[i] = Text(await shared.Server.CallAsync("/v1/chat/completions", bodies[i]));
        string[] together = await Task.WhenAll(Enumerable.Range(0, 96).Select(async i => Text(await shared.Server.CallAsync("/v1/chat/completions", bodies[i % 12]))));
        for (int i = 0; i < together.Length; i++) Assert.Equal(alone[i % 12], together[i]);

        static string Text(JsonNode reply) => (string)reply["choices"]![0]!["message"]!["content"]!;
    }

    [Fact]
    public async Task Random_bodies_never_make_the_server_fail()
    {
        (string Path, string Body)[] seeds =
        [
            ("/v1/chat/completions", """{"model":"tiny","messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","content":"b","tool_call_id":"1"}],"max_tokens":1,"stop":["x"],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]}"""),
            ("/v1/chat/completions", """{"max_tokens":1,"temperature":0.5,"logit_bias":{"5":-1},"logprobs":true,"top_logprobs":2,"n":2,"seed":-3,"thinking":{"type":"enabled"},"chat_template_kwargs":{"a":[1,2]},"messages":[{"role":"system","content":[{"type":"text","text":"b"}]},{"role":"user","content":"a"}]}"""),
            ("/v1/completions", """{"prompt":["a",[1,2]],"suffix":null,"max_tokens":1,"logprobs":2,"stop":"x","best_of":1,"top_k":3,"min_p":0.1}"""),
            ("/v1/responses", """{"max_output_tokens":1,"instructions":"b","input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"1"}],"text":{"format":{"type":"text"}},"reasoning":{"effort":"low"},"metadata":{"a":"b"}}"""),
            ("/v1/messages", """{"max_tokens":1,"system":"b","messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"x":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"1"}]}],"metadata":{"user_id":"u"},"stop_sequences":["x"]}"""),
        ];
        string[] values = ["null", "1", "-1", "1e400", "\"\"", "\"a\"", "[]", "{}", "true", "[[]]", "{\"a\":{}}", "0.1", "[null]", "99999999999999999999"];
        var random = new Random(11);
        var statuses = new Dictionary<int, int>();
        for (int trial = 0; trial < 600; trial++)
        {
            JsonNode body = JsonNode.Parse(seeds[trial % seeds.Length].Body)!;
            Mutate(body, random, values);
            string text = body.ToJsonString(new JsonSerializerOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
            string path = seeds[trial % seeds.Length].Path;
            using HttpResponseMessage response = await shared.Server.PostAsync(path, text);
            int status = (int)response.StatusCode;
            statuses[status] = statuses.GetValueOrDefault(status) + 1;
            Assert.True(status < 500, $"{path} {text} gave {status}: {await response.Content.ReadAsStringAsync()}\n{shared.Server.Log.Text}");
        }

        output.WriteLine(string.Join(", ", statuses.OrderBy(s => s.Key).Select(s => $"{s.Key}: {s.Value}")));
        Assert.True(statuses.GetValueOrDefault(200) > 20 && statuses.GetValueOrDefault(400) > 20 && statuses.GetValueOrDefault(422) > 20);
    }

    [Fact]
    public void Random_bytes_are_never_taken_for_a_request()
    {
        var random = new Random(3);
        int refused = 0;
        for (int trial = 0; trial < 20_000; trial++)
        {
            byte[] bytes = new byte[random.Next(0, 60)];
            random.NextBytes(bytes);
            if (trial % 2 == 0) for (int i = 0; i < bytes.Length; i++) bytes[i] = "{}[]\":,0a\\u "u8[bytes[i] % 12];
            try
            {
                using JsonDocument document = RequestBody.Parse(bytes);
                MessageReader.Read(new JsonField(document.RootElement, "").Require("messages"));
                Assert.Fail("that was no request");
            }
            catch (ApiException)
            {
                refused++;
            }
        }

        Assert.Equal(20_000, refused);
    }

    private static void Mutate(JsonNode body, Random random, string[] values)
    {
        List<(JsonNode Parent, string? Name, int Index)> places = [];
        Collect(body);
        for (int i = random.Next(1, 3); i > 0; i--)
        {
            (JsonNode parent, string? name, int index) = places[random.Next(places.Count)];
            string value = values[random.Next(values.Length)];
            JsonNode? node = JsonNode.Parse(value);
            if (name is not null) parent[name] = node;
            else if (index < parent.AsArray().Count) parent[index] = node;
        }

        void Collect(JsonNode node)
        {
            if (node is JsonObject fields)
            {
                foreach ((string name, JsonNode? field) in fields)
                {
                    places.Add((node, name, 0));
                    if (field is not null) Collect(field);
                }
            }
            else if (node is JsonArray items)
            {
                for (int i = 0; i < items.Count; i++)
                {
                    places.Add((node, null, i));
                    if (items[i] is { } item) Collect(item);
                }
            }
        }
    }

    private async Task<string> RawAsync(string text)
    {
        using var socket = new TcpClient();
        await socket.ConnectAsync(IPAddress.Loopback, shared.Server.Server.Address.Port);
        await socket.GetStream().WriteAsync(Encoding.Latin1.GetBytes(text));
        using var reader = new StreamReader(socket.GetStream());
        try
        {
            return await reader.ReadLineAsync().WaitAsync(Soon) ?? "";
        }
        catch (IOException)
        {
            return "the connection was cut";
        }
    }
}

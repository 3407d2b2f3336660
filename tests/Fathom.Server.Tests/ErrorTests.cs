// What a client can get wrong: the status, the exact shape, and the name of the field.
using System.Net;
using System.Text.Json.Nodes;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class ErrorTests(SharedServer shared, ITestOutputHelper output) : IClassFixture<SharedServer>
{
    private const string Ask = "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]";

    [Theory]
    [InlineData("", 400, null)]
    [InlineData("{", 400, null)]
    [InlineData("[]", 400, null)]
    [InlineData("{}", 400, "messages")]
    [InlineData("{\"messages\":7}", 400, "messages")]
    [InlineData("{\"messages\":[]}", 422, "messages")]
    [InlineData("{\"messages\":[7]}", 400, "messages[0]")]
    [InlineData("{\"messages\":[{\"content\":\"a\"}]}", 400, "messages[0].role")]
    [InlineData("{\"messages\":[{\"role\":\"king\",\"content\":\"a\"}]}", 422, "messages[0].role")]
    [InlineData("{\"messages\":[{\"role\":\"user\"}]}", 400, "messages[0].content")]
    [InlineData("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 422, "messages[0].content[0]")]
    [InlineData("{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}", 400, "messages[0].content")]
    [InlineData("{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"prefix\":true},{\"role\":\"user\",\"content\":\"a\"}]}", 422, "messages[1]")]
    [InlineData("{\"model\":\"gpt\",ASK}", 404, "model")]
    [InlineData("{\"model\":5,ASK}", 400, "model")]
    [InlineData("{ASK,\"temperature\":\"hot\"}", 400, "temperature")]
    [InlineData("{ASK,\"temperature\":3}", 422, "temperature")]
    [InlineData("{ASK,\"top_p\":0}", 422, "top_p")]
    [InlineData("{ASK,\"n\":0}", 422, "n")]
    [InlineData("{ASK,\"n\":1.5}", 400, "n")]
    [InlineData("{ASK,\"max_tokens\":0}", 422, "max_tokens")]
    [InlineData("{ASK,\"max_tokens\":1e30}", 422, "max_tokens")]
    [InlineData("{ASK,\"stream\":1}", 400, "stream")]
    [InlineData("{ASK,\"stop\":[1]}", 400, "stop[0]")]
    [InlineData("{ASK,\"stop\":\"\"}", 422, "stop")]
    [InlineData("{ASK,\"logit_bias\":{\"x\":1}}", 422, "logit_bias")]
    [InlineData("{ASK,\"logit_bias\":{\"99999\":1}}", 422, "logit_bias")]
    [InlineData("{ASK,\"logit_bias\":{\"5\":101}}", 422, "logit_bias.5")]
    [InlineData("{ASK,\"logprobs\":true,\"top_logprobs\":21}", 422, "top_logprobs")]
    [InlineData("{ASK,\"top_logprobs\":2}", 422, "top_logprobs")]
    [InlineData("{ASK,\"tools\":[{\"type\":\"function\"}]}", 400, "tools[0].function")]
    [InlineData("{ASK,\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]}", 422, "tools[0].function.name")]
    [InlineData("{ASK,\"tool_choice\":\"required\"}", 422, "tool_choice")]
    [InlineData("{ASK,\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}", 422, "tool_choice.function.name")]
    [InlineData("{ASK,\"thinking\":{\"type\":\"maybe\"}}", 422, "thinking.type")]
    [InlineData("{ASK,\"reasoning_effort\":\"most\"}", 422, "reasoning_effort")]
    [InlineData("{ASK,\"response_format\":{\"type\":\"xml\"}}", 422, "response_format.type")]
    [InlineData("{ASK,\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\"}}}", 400, "response_format.json_schema.schema")]
    [InlineData("{ASK,\"chat_template_kwargs\":{\"a\":1,\"a\":2}}", 400, "chat_template_kwargs")]
    public async Task A_wrong_chat_names_its_field(string body, int status, string? param)
    {
        JsonNode reply = await shared.Server.CallAsync("/v1/chat/completions", body.Replace("ASK", Ask, StringComparison.Ordinal), status);
        output.WriteLine(reply.ToJsonString());
        Check(reply, param);
    }

    [Theory]
    [InlineData("{}", 400, "prompt")]
    [InlineData("{\"prompt\":{}}", 400, "prompt")]
    [InlineData("{\"prompt\":[]}", 422, "prompt")]
    [InlineData("{\"prompt\":[1,\"a\"]}", 400, "prompt[1]")]
    [InlineData("{\"prompt\":[-1]}", 422, "prompt[0]")]
    [InlineData("{\"prompt\":[100000]}", 422, "prompt[0]")]
    [InlineData("{\"prompt\":[1,2],\"suffix\":\"a\"}", 422, "suffix")]
    [InlineData("{\"prompt\":\"a\",\"best_of\":3}", 422, "best_of")]
    [InlineData("{\"prompt\":\"a\",\"echo\":true,\"logprobs\":1}", 422, "echo")]
    [InlineData("{\"prompt\":[\"a\",\"b\",\"c\"],\"n\":6}", 422, "prompt")]
    public async Task A_wrong_completion_names_its_field(string body, int status, string param) =>
        Check(await shared.Server.CallAsync("/v1/completions", body, status), param);

    [Theory]
    [InlineData("{}", 400, "input")]
    [InlineData("{\"input\":5}", 400, "input")]
    [InlineData("{\"input\":\"a\",\"previous_response_id\":\"resp_1\"}", 422, "previous_response_id")]
    [InlineData("{\"input\":[{\"type\":\"magic\"}]}", 422, "input[0].type")]
    [InlineData("{\"input\":\"a\",\"tools\":[{\"type\":\"web_search\"}]}", 422, "tools[0].type")]
    public async Task A_wrong_response_names_its_field(string body, int status, string param) =>
        Check(await shared.Server.CallAsync("/v1/responses", body, status), param);

    [Theory]
    [InlineData("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "max_tokens")]
    [InlineData("{\"max_tokens\":5,\"messages\":[{\"role\":\"system\",\"content\":\"a\"}]}", "messages[0].role")]
    [InlineData("{\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}", "messages[0].content[0].type")]
    public async Task Anthropic_gets_its_own_shape(string body, string field)
    {
        JsonNode reply = await shared.Server.CallAsync("/v1/messages", body, 400);
        Assert.Equal(["type", "error"], reply.AsObject().Select(f => f.Key));
        Assert.Equal("error", (string)reply["type"]!);
        Assert.Equal("invalid_request_error", (string)reply["error"]!["type"]!);
        Assert.Contains(field, (string)reply["error"]!["message"]!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_prompt_beyond_the_context_is_refused_with_its_code()
    {
        string text = string.Concat(Enumerable.Repeat("0 ", 3000));
        JsonNode reply = await shared.Server.CallAsync("/v1/chat/completions", $$"""{"messages":[{"role":"user","content":"{{text}}"}]}""", 400);
        Check(reply, "messages");
        Assert.Equal("context_length_exceeded", (string)reply["error"]!["code"]!);
    }

    [Fact]
    public async Task Unknown_fields_and_null_are_let_be() => await shared.Server.CallAsync(
        "/v1/chat/completions", $$"""{{{Ask}},"max_tokens":2,"stop":null,"tools":null,"store":true,"frobnicate":{"a":[1]},"service_tier":"auto"}""");

    [Fact]
    public async Task What_does_not_exist_is_404_and_a_wrong_method_405()
    {
        using HttpResponseMessage nothing = await shared.Server.Client.GetAsync("/v1/nothing"), method = await shared.Server.Client.GetAsync("/v1/chat/completions");
        Assert.Equal(HttpStatusCode.NotFound, nothing.StatusCode);
        Assert.Equal(HttpStatusCode.MethodNotAllowed, method.StatusCode);
        Check(await shared.Server.GetAsync("/v1/models/other", 404), "model");
    }

    [Fact]
    public async Task The_queue_refuses_what_it_cannot_hold()
    {
        await using TestServer server = await TestServer.StartAsync(
            o => o.WarmUp = false, new() { ContextTokens = 2048, MostRunning = 1, MostWaiting = 0, CacheTokens = 4096 });
        string busy = """{"stream":true,"max_tokens":1900,"ignore_eos":true,"messages":[{"role":"user","content":"write"}]}""";
        using HttpResponseMessage running = await server.PostAsync("/v1/chat/completions", busy);
        using HttpResponseMessage refused = await server.PostAsync("/v1/chat/completions", busy);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, refused.StatusCode);
        Assert.NotNull(refused.Headers.RetryAfter);
        Check(JsonNode.Parse(await refused.Content.ReadAsStringAsync())!, null);
        using HttpResponseMessage anthropic = await server.PostAsync("/v1/messages", """{"max_tokens":5,"messages":[{"role":"user","content":"a"}]}""");
        Assert.Equal(529, (int)anthropic.StatusCode);
    }

    private static void Check(JsonNode reply, string? param)
    {
        Assert.Equal(["error"], reply.AsObject().Select(f => f.Key));
        Assert.Equal(["message", "type", "param", "code"], reply["error"]!.AsObject().Select(f => f.Key));
        Assert.Equal(param, (string?)reply["error"]!["param"]);
        Assert.NotEmpty((string)reply["error"]!["message"]!);
        Assert.NotNull((string?)reply["error"]!["type"]);
    }
}

/// <summary>A server for the tests of a class.</summary>
public sealed class SharedServer : IAsyncLifetime
{
    private TestServer? server;

    /// <summary>The server.</summary>
    public TestServer Server => server!;

    public async ValueTask InitializeAsync() => server = await TestServer.StartAsync();

    public async ValueTask DisposeAsync()
    {
        if (server is not null) await server.DisposeAsync();
    }
}

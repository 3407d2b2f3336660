// Strict functions with a model that writes noise: whoever speaks which API, every call's arguments follow their schema, also where the model
// first reasons or writes text. A bias on the marks makes the noise open calls.
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Inference;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class StrictToolTests(SharedServer shared, ITestOutputHelper output) : IClassFixture<SharedServer>
{
    private const string Schema = """{"type":"object","properties":{"ok":{"type":"boolean"},"kind":{"enum":["red","green"]}},"required":["ok","kind"],"additionalProperties":false}""";
    private const int Seeds = 24;

    private static readonly string[] Functions = ["paint", "empty", "loose"];

    private static readonly string Bias =
        $"\"logit_bias\":{{\"{Id(AnswerMarks.Calls)}\":4,\"{Id(AnswerMarks.EndCalls)}\":2,\"{Id(AnswerMarks.Think)}\":4,\"{Id(AnswerMarks.EndThink)}\":5}}";

    private static readonly string Chat =
        $$$"""{"type":"function","function":{"name":"paint","strict":true,"parameters":{{{Schema}}}}},{"type":"function","function":{"name":"empty","strict":true}},{"type":"function","function":{"name":"loose","parameters":{"type":"object","additionalProperties":false} }}""";

    private TestServer Server => shared.Server;

    [Theory]
    [InlineData("\"tool_choice\":\"auto\"")]
    [InlineData("\"tool_choice\":\"required\"")]
    [InlineData("\"tool_choice\":\"required\",\"parallel_tool_calls\":false")]
    [InlineData("\"tool_choice\":\"auto\",\"thinking\":{\"type\":\"enabled\"}")]
    [InlineData("\"tool_choice\":\"required\",\"thinking\":{\"type\":\"enabled\"}")]
    [InlineData("\"tool_choice\":\"auto\",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"strict\":true,\"schema\":SCHEMA}}")]
    public async Task Chats_hold_every_call_to_its_schema(string asked)
    {
        asked = asked.Replace("SCHEMA", Schema, StringComparison.Ordinal);
        bool required = asked.Contains("\"required\"", StringComparison.Ordinal) && !asked.Contains("response_format", StringComparison.Ordinal);
        int calls = 0, several = 0, afterText = 0, none = 0, cut = 0;
        for (int seed = 0; seed < Seeds; seed++)
        {
            string body = $"{{\"messages\":[{{\"role\":\"user\",\"content\":\"a\"}}],\"max_tokens\":600,\"seed\":{seed},{Bias},\"tools\":[{Chat}],{asked}}}";
            JsonNode choice = (await Server.CallAsync("/v1/chat/completions", body))["choices"]![0]!;
            JsonArray made = choice["message"]!["tool_calls"]?.AsArray() ?? [];
            if ((string)choice["finish_reason"]! == "length")
            {
                cut++;
                continue;
            }

            foreach (JsonNode? call in made) Check((string)call!["function"]!["name"]!, (string)call["function"]!["arguments"]!);
            Assert.Equal(made.Count > 0 ? "tool_calls" : "stop", (string)choice["finish_reason"]!);
            if (required) Assert.NotEmpty(made);
            if (asked.Contains("parallel", StringComparison.Ordinal)) Assert.Single(made);
            if (made.Count == 0 && asked.Contains("response_format", StringComparison.Ordinal)) CheckDocument((string)choice["message"]!["content"]!);
            if (seed < 4) await StreamIsTheSame(body, made);
            calls += made.Count;
            several += made.Count > 1 ? 1 : 0;
            none += made.Count == 0 ? 1 : 0;
            afterText += made.Count > 0 && ((string?)choice["message"]!["content"] ?? (string?)choice["message"]!["reasoning_content"]) is { Length: > 0 } ? 1 : 0;
        }

        output.WriteLine($"{Seeds} answers: {calls} calls, {several} answers with several, {afterText} with calls after text, {none} without, {cut} cut by their length");
        Assert.True(calls > 0);
        Assert.True(cut < Seeds / 2);
    }

    [Fact]
    public async Task Messages_and_responses_hold_every_call_to_its_schema()
    {
        int calls = 0;
        for (int seed = 0; seed < Seeds; seed++)
        {
            JsonNode message = await Server.CallAsync("/v1/messages", $$$"""{"messages":[{"role":"user","content":"a"}],"max_tokens":600,"seed":{{{seed}}},{{{Bias}}},"tools":[{"name":"paint","strict":true,"input_schema":{{{Schema}}}},{"name":"empty","strict":true}],"tool_choice":{"type":"{{{(seed % 2 == 0 ? "any" : "auto")}}}"}}""");
            if ((string)message["stop_reason"]! != "max_tokens")
            {
                foreach (JsonNode? block in message["content"]!.AsArray().Where(b => (string)b!["type"]! == "tool_use")) Check((string)block!["name"]!, block["input"]!.ToJsonString());
                calls += message["content"]!.AsArray().Count(b => (string)b!["type"]! == "tool_use");
            }

            JsonNode response = await Server.CallAsync("/v1/responses", $$$"""{"input":"a","max_output_tokens":600,"seed":{{{seed}}},{{{Bias}}},"tools":[{"type":"function","name":"paint","strict":true,"parameters":{{{Schema}}}},{"type":"function","name":"empty","strict":true}],"tool_choice":"{{{(seed % 2 == 0 ? "required" : "auto")}}}"}""");
            if ((string)response["status"]! != "completed") continue;
            foreach (JsonNode? item in response["output"]!.AsArray().Where(i => (string)i!["type"]! == "function_call")) Check((string)item!["name"]!, (string)item["arguments"]!);
            calls += response["output"]!.AsArray().Count(i => (string)i!["type"]! == "function_call");
        }

        output.WriteLine($"{calls} calls");
        Assert.True(calls > Seeds);
    }

    private static int Id(string mark) => TestModel.Tokenizer.TryGetId(mark)!.Value;

    private static void Check(string name, string arguments)
    {
        Assert.Contains(name, Functions);
        if (name == "paint") CheckDocument(arguments);
        else Assert.Empty(JsonNode.Parse(arguments)!.AsObject());
    }

    private static void CheckDocument(string text)
    {
        JsonObject value = JsonNode.Parse(text)!.AsObject();
        Assert.Equal(["ok", "kind"], value.Select(f => f.Key));
        Assert.True(value["ok"]!.GetValueKind() is JsonValueKind.True or JsonValueKind.False);
        Assert.True((string)value["kind"]! is "red" or "green");
    }

    private async Task StreamIsTheSame(string body, JsonArray made)
    {
        List<JsonNode> events = TestServer.Events(await Server.StreamAsync("/v1/chat/completions", body.Replace("\"seed\"", "\"stream\":true,\"seed\"", StringComparison.Ordinal)));
        List<(string Name, string Arguments)> streamed = [];
        foreach (JsonNode? part in events.SelectMany(e => e["choices"]![0]!["delta"]!["tool_calls"]?.AsArray() ?? []))
        {
            int index = (int)part!["index"]!;
            if (index == streamed.Count) streamed.Add(((string)part["function"]!["name"]!, ""));
            streamed[index] = (streamed[index].Name, streamed[index].Arguments + (string)part["function"]!["arguments"]!);
        }

        Assert.Equal(made.Select(c => ((string)c!["function"]!["name"]!, (string)c["function"]!["arguments"]!)), streamed);
    }
}

// Completions, thinking, prefixes, tokens; Anthropic's messages and OpenAI's responses, as a plain HTTP client sees them.
using System.Text.Json.Nodes;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class DialectTests(SharedServer shared, ITestOutputHelper output) : IClassFixture<SharedServer>
{
    private TestServer Server => shared.Server;

    [Theory]
    [InlineData("/v1/completions")]
    [InlineData("/completions")]
    [InlineData("/beta/completions")]
    public async Task A_text_is_continued_and_streams_the_same(string path)
    {
        const string Body = """{"prompt":"the model","seed":3,"max_tokens":20,"echo":true}""";
        JsonNode whole = await Server.CallAsync(path, Body);
        output.WriteLine(whole.ToJsonString());
        Assert.Equal("text_completion", (string)whole["object"]!);
        string text = (string)whole["choices"]![0]!["text"]!;
        Assert.StartsWith("the model", text, StringComparison.Ordinal);
        List<JsonNode> events = TestServer.Events(await Server.StreamAsync(path, Body.Replace("\"seed\"", "\"stream\":true,\"seed\"", StringComparison.Ordinal)));
        Assert.Equal(text, string.Concat(events.Select(e => (string)e["choices"]![0]!["text"]!)));
    }

    [Fact]
    public async Task Several_prompts_are_answered_in_order_whatever_their_form()
    {
        JsonNode texts = await Server.CallAsync("/v1/completions", """{"prompt":["the model","a token"],"n":2,"seed":3,"max_tokens":6,"echo":true,"temperature":0}""");
        Assert.Equal([0, 1, 2, 3], texts["choices"]!.AsArray().Select(c => (int)c!["index"]!));
        Assert.Equal(["the model", "the model", "a token", "a token"], texts["choices"]!.AsArray().Select(c => ((string)c!["text"]!)[..(((int)c["index"]!) < 2 ? 9 : 7)]));
        string[] tokens = [.. new[] { "the model", "a token" }.Select(t => $"[{string.Join(',', TestModel.Tokenizer.Encode(t).Prepend(0))}]")];
        JsonNode ids = await Server.CallAsync("/v1/completions", $$"""{"prompt":[{{string.Join(',', tokens)}}],"n":2,"seed":3,"max_tokens":6,"temperature":0}""");
        Assert.Equal(
            texts["choices"]!.AsArray().Select(c => ((string)c!["text"]!)[(((int)c["index"]!) < 2 ? 9 : 7)..]),
            ids["choices"]!.AsArray().Select(c => (string)c!["text"]!));
        JsonNode one = await Server.CallAsync("/v1/completions", $$"""{"prompt":{{tokens[0]}},"max_tokens":6,"temperature":0}""");
        Assert.Equal((string)ids["choices"]![0]!["text"]!, (string)one["choices"]![0]!["text"]!);
    }

    [Fact]
    public async Task A_middle_is_filled_in_with_the_tokens_for_it()
    {
        JsonNode filled = await Server.CallAsync("/beta/completions", """{"prompt":"the","suffix":"day","seed":3,"max_tokens":8}""");
        int[] tokenizer = TestModel.Tokenizer.Encode("<｜begin▁of▁sentence｜><｜fim▁begin｜>the<｜fim▁hole｜>day<｜fim▁end｜>");
        Assert.Equal(tokenizer.Length, (int)filled["usage"]!["prompt_tokens"]!);
        JsonNode same = await Server.CallAsync("/v1/completions", $$"""{"prompt":[{{string.Join(',', tokenizer)}}],"seed":3,"max_tokens":8}""");
        Assert.Equal((string)same["choices"]![0]!["text"]!, (string)filled["choices"]![0]!["text"]!);
    }

    [Fact]
    public async Task The_old_log_probabilities_are_lists()
    {
        JsonNode logProbs = (await Server.CallAsync("/v1/completions", """{"prompt":"the model","max_tokens":5,"logprobs":2,"ignore_eos":true,"logit_bias":{"1":-100}}"""))["choices"]![0]!["logprobs"]!;
        foreach (string list in (string[])["tokens", "token_logprobs", "top_logprobs", "text_offset"]) Assert.Equal(5, logProbs[list]!.AsArray().Count);
        Assert.Equal(0, (int)logProbs["text_offset"]![0]!);
    }

    [Fact]
    public async Task Thinking_is_told_apart_from_the_answer()
    {
        const string Body = """{"thinking":{"type":"enabled"},"seed":4,"max_tokens":16,"ignore_eos":true,"messages":[{"role":"user","content":"why"}]}""";
        JsonNode reply = await Server.CallAsync("/chat/completions", Body);
        output.WriteLine(reply.ToJsonString());
        JsonNode message = reply["choices"]![0]!["message"]!;
        Assert.Equal("", (string)message["content"]!);
        Assert.NotEmpty((string)message["reasoning_content"]!);
        Assert.Equal(16, (int)reply["usage"]!["completion_tokens_details"]!["reasoning_tokens"]!);
        List<JsonNode> events = TestServer.Events(await Server.StreamAsync("/chat/completions", Body.Replace("\"seed\"", "\"stream\":true,\"seed\"", StringComparison.Ordinal)));
        Assert.Equal((string)message["reasoning_content"]!, string.Concat(events.Select(e => (string?)e["choices"]![0]!["delta"]!["reasoning_content"] ?? "")));
    }

    [Theory]
    [InlineData("/v1/chat/completions", "\"response_format\":{\"type\":\"json_object\"}")]
    [InlineData("/v1/chat/completions", "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"strict\":true,\"schema\":SCHEMA}}")]
    [InlineData("/v1/chat/completions", "\"thinking\":{\"type\":\"enabled\"},\"logit_bias\":{\"ENDTHINK\":8},\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"strict\":true,\"schema\":SCHEMA}}")]
    [InlineData("/v1/chat/completions", "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":SCHEMA}}],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}")]
    [InlineData("/v1/responses", "\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"a\",\"strict\":true,\"schema\":SCHEMA}}")]
    public async Task Structured_output_is_what_was_asked_for(string path, string asked)
    {
        const string Schema = """{"type":"object","properties":{"ok":{"type":"boolean"},"kind":{"enum":["red","green"]}},"required":["ok","kind"],"additionalProperties":false}""";
        asked = asked.Replace("SCHEMA", Schema, StringComparison.Ordinal).Replace("ENDTHINK", TestModel.Tokenizer.TryGetId("</think>").ToString(), StringComparison.Ordinal);
        bool schema = asked.Contains("\"kind\"", StringComparison.Ordinal);
        for (int seed = 0; seed < 5; seed++)
        {
            string ask = path.EndsWith("responses", StringComparison.Ordinal) ? "\"input\":\"a\",\"max_output_tokens\":400" : "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":400";
            JsonNode reply = await Server.CallAsync(path, $"{{{ask},\"seed\":{seed},{asked}}}");
            JsonNode? message = reply["choices"]?[0]!["message"];
            string text = (string?)message?["tool_calls"]?[0]!["function"]!["arguments"] ?? (string?)message?["content"] ?? (string)reply["output"]![0]!["content"]![0]!["text"]!;
            output.WriteLine(text);
            if (schema || (string?)reply["choices"]?[0]!["finish_reason"] != "length")
            {
                JsonObject value = JsonNode.Parse(text)!.AsObject();
                if (schema) Assert.True(value.Count == 2 && value["ok"]!.GetValueKind() is System.Text.Json.JsonValueKind.True or System.Text.Json.JsonValueKind.False && (string)value["kind"]! is "red" or "green");
                if (schema && message is not null) Assert.Equal(message["tool_calls"] is null ? "stop" : "tool_calls", (string)reply["choices"]![0]!["finish_reason"]!);
            }
        }
    }

    [Theory]
    [InlineData("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"strict\":true,\"schema\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}}}}}", "response_format")]
    [InlineData("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":\"what\"}}}", "response_format")]
    [InlineData("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"e\"}},{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":{\"type\":\"object\"}}}]", "tools[1]")]
    public async Task Structured_output_that_cannot_be_had_is_refused(string asked, string param)
    {
        JsonNode reply = await Server.CallAsync("/v1/chat/completions", $"{{\"messages\":[{{\"role\":\"user\",\"content\":\"a\"}}],\"max_tokens\":4,{asked}}}", 422);
        output.WriteLine(reply.ToJsonString());
        Assert.Equal(param, (string)reply["error"]!["param"]!);
    }

    [Fact]
    public async Task A_prefix_begins_the_answer()
    {
        JsonNode reply = await Server.CallAsync("/beta/chat/completions", """{"temperature":0,"max_tokens":8,"messages":[{"role":"user","content":"the question"},{"role":"assistant","content":"It is","prefix":true}]}""");
        int[] prompt = TestModel.Tokenizer.Encode("<｜begin▁of▁sentence｜><｜User｜>the question<｜Assistant｜>It is");
        JsonNode same = await Server.CallAsync("/v1/completions", $$"""{"prompt":[{{string.Join(',', prompt)}}],"temperature":0,"max_tokens":8}""");
        Assert.Equal(prompt.Length, (int)reply["usage"]!["prompt_tokens"]!);
        Assert.Equal((int)same["usage"]!["completion_tokens"]!, (int)reply["usage"]!["completion_tokens"]!);
    }

    [Fact]
    public async Task Text_becomes_tokens_and_tokens_text()
    {
        JsonNode tokens = await Server.CallAsync("/tokenize", """{"prompt":"the model","add_special_tokens":false,"return_token_strs":true}""");
        Assert.Equal(TestModel.Tokenizer.Encode("the model"), tokens["tokens"]!.AsArray().Select(t => (int)t!));
        Assert.Equal("the model", string.Concat(tokens["token_strs"]!.AsArray().Select(t => (string)t!)));
        Assert.Equal("the model", (string)(await Server.CallAsync("/detokenize", $$"""{"tokens":{{tokens["tokens"]!.ToJsonString()}}}"""))["prompt"]!);
        JsonNode chat = await Server.CallAsync("/tokenize", """{"messages":[{"role":"user","content":"a"}]}""");
        Assert.Equal(TestModel.Tokenizer.Encode("<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜>"), chat["tokens"]!.AsArray().Select(t => (int)t!));
        await Server.CallAsync("/detokenize", """{"tokens":[100000]}""", 422);
    }

    [Theory]
    [InlineData("")]
    [InlineData("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024},")]
    [InlineData("\"tools\":[{\"name\":\"f\",\"input_schema\":{\"type\":\"object\"}}],\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"},")]
    public async Task Anthropic_messages_and_their_stream_agree(string more)
    {
        string body = $$"""{{{more}}"model":"tiny","max_tokens":18,"seed":6,"temperature":1,"system":[{"type":"text","text":"be brief"}],"messages":[{"role":"user","content":[{"type":"text","text":"why"}]}]}""";
        JsonNode whole = await Server.CallAsync("/v1/messages", body);
        output.WriteLine(whole.ToJsonString());
        Assert.Equal(["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"], whole.AsObject().Select(f => f.Key));
        (List<string> names, List<JsonNode> events) = Named(await Server.StreamAsync("/anthropic/v1/messages", body.Replace("\"model\"", "\"stream\":true,\"model\"", StringComparison.Ordinal)));
        output.WriteLine(string.Join(' ', names));
        Assert.Equal("message_start", names[0]);
        Assert.Equal(["message_delta", "message_stop"], names[^2..]);
        Assert.Equal(names, events.Select(e => (string)e["type"]!));
        int blocks = whole["content"]!.AsArray().Count;
        Assert.Equal(blocks, names.Count(n => n == "content_block_start"));
        Assert.Equal(blocks, names.Count(n => n == "content_block_stop"));
        Assert.Equal((string)whole["stop_reason"]!, (string)events[^2]["delta"]!["stop_reason"]!);
        Assert.Equal((int)whole["usage"]!["output_tokens"]!, (int)events[^2]["usage"]!["output_tokens"]!);
        JsonNode first = whole["content"]![0]!;
        string streamed = string.Concat(events.Where(e => (string)e["type"]! == "content_block_delta").Select(e => (string?)(e["delta"]!["text"] ?? e["delta"]!["thinking"] ?? e["delta"]!["partial_json"])));
        string type = more.Contains("tool", StringComparison.Ordinal) ? "tool_use" : more.Length > 0 ? "thinking" : "text";
        Assert.Equal(type, (string)first["type"]!);
        if (type != "tool_use") Assert.Equal(string.Concat(whole["content"]!.AsArray().Select(b => (string?)(b!["text"] ?? b["thinking"]))), streamed);
        else Assert.Equal("f", (string)first["name"]!);

        JsonNode count = await Server.CallAsync("/v1/messages/count_tokens", body);
        Assert.Equal((int)whole["usage"]!["input_tokens"]! + (int)whole["usage"]!["cache_read_input_tokens"]!, (int)count["input_tokens"]!);
    }

    [Fact]
    public async Task Anthropic_conversations_with_tools_are_read()
    {
        JsonNode reply = await Server.CallAsync("/v1/messages", """
            {"max_tokens":4,"tools":[{"name":"f","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":"a"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"tool_use","id":"t1","name":"f","input":{"x":1}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"42"}]}]}]}
            """);
        Assert.InRange((int)reply["usage"]!["output_tokens"]!, 1, 4);
    }

    [Theory]
    [InlineData("")]
    [InlineData("\"reasoning\":{\"effort\":\"low\"},")]
    [InlineData("\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}],\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"},")]
    public async Task Responses_and_their_stream_agree(string more)
    {
        string body = $$"""{{{more}}"model":"tiny","max_output_tokens":18,"seed":6,"instructions":"be brief","input":[{"role":"user","content":[{"type":"input_text","text":"why"}]}]}""";
        JsonNode whole = await Server.CallAsync("/v1/responses", body);
        output.WriteLine(whole.ToJsonString());
        Assert.Equal("response", (string)whole["object"]!);
        (List<string> names, List<JsonNode> events) = Named(await Server.StreamAsync("/v1/responses", body.Replace("\"model\"", "\"stream\":true,\"model\"", StringComparison.Ordinal)));
        output.WriteLine(string.Join(' ', names));
        Assert.Equal(["response.created", "response.in_progress", "response.output_item.added"], names[..3]);
        Assert.Equal("response." + (string)whole["status"]!, names[^1]);
        Assert.Equal(Enumerable.Range(0, events.Count), events.Select(e => (int)e["sequence_number"]!));
        JsonNode last = events[^1]["response"]!;
        Assert.Equal(Text(whole), Text(last));
        Assert.Equal((int)whole["usage"]!["output_tokens"]!, (int)last["usage"]!["output_tokens"]!);
        Assert.Equal(Text(whole), string.Concat(events.Where(e => ((string)e["type"]!).EndsWith(".delta", StringComparison.Ordinal)).Select(e => (string)e["delta"]!)));
        Assert.Equal(whole["output"]!.AsArray().Count, names.Count(n => n == "response.output_item.done"));
        Assert.All(events.Where(e => e["item_id"] is not null), e => Assert.Contains(last["output"]!.AsArray(), item => (string)item!["id"]! == (string)e["item_id"]!));

        static string Text(JsonNode response) => string.Concat(response["output"]!.AsArray().Select(item => (string?)item!["arguments"] ?? (string?)item["content"]?[0]?["text"] ?? ""));
    }

    [Fact]
    public async Task Responses_conversations_with_tools_are_read()
    {
        JsonNode reply = await Server.CallAsync("/v1/responses", """
            {"max_output_tokens":4,"input":[{"role":"user","content":"a"},{"type":"reasoning","summary":[]},{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},
            {"type":"function_call_output","call_id":"c1","output":"42"}]}
            """);
        Assert.InRange((int)reply["usage"]!["output_tokens"]!, 1, 4);
    }

    [Fact]
    public async Task An_answer_that_ends_at_once_is_empty_and_whole()
    {
        const string End = "\"logit_bias\":{\"1\":100}"; // the end of sequence
        const string Chat = "{\"max_tokens\":8," + End + ",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", Text = "{\"max_tokens\":8," + End + ",\"prompt\":\"a\"}", Input = "{\"max_output_tokens\":8," + End + ",\"input\":\"a\"}";
        JsonNode chat = await Server.CallAsync("/v1/chat/completions", Chat), text = await Server.CallAsync("/v1/completions", Text);
        Assert.Equal(("", "stop", 1), ((string)chat["choices"]![0]!["message"]!["content"]!, (string)chat["choices"]![0]!["finish_reason"]!, (int)chat["usage"]!["completion_tokens"]!));
        Assert.Equal(("", "stop", 1), ((string)text["choices"]![0]!["text"]!, (string)text["choices"]![0]!["finish_reason"]!, (int)text["usage"]!["completion_tokens"]!));
        foreach ((string path, string body) in (IEnumerable<(string, string)>)[("/v1/chat/completions", Chat), ("/v1/completions", Text)])
        {
            List<JsonNode> chunks = TestServer.Events(await Server.StreamAsync(path, Streamed(body)));
            Assert.Equal("stop", (string)Assert.Single(chunks, c => c["choices"]![0]!["finish_reason"] is not null)["choices"]![0]!["finish_reason"]!);
            Assert.All(chunks, c => Assert.Equal("", (string?)(c["choices"]![0]!["delta"]?["content"] ?? c["choices"]![0]!["text"]) ?? ""));
        }

        JsonNode message = await Server.CallAsync("/v1/messages", Chat);
        Assert.Empty(message["content"]!.AsArray());
        Assert.Equal(("end_turn", 1), ((string)message["stop_reason"]!, (int)message["usage"]!["output_tokens"]!));
        Assert.Equal(["message_start", "message_delta", "message_stop"], Named(await Server.StreamAsync("/v1/messages", Streamed(Chat))).Names);

        JsonNode response = await Server.CallAsync("/v1/responses", Input);
        output.WriteLine(response.ToJsonString());
        (List<string> names, List<JsonNode> events) = Named(await Server.StreamAsync("/v1/responses", Streamed(Input)));
        output.WriteLine(string.Join(' ', names));
        Assert.Equal(("completed", 1), ((string)response["status"]!, (int)response["usage"]!["output_tokens"]!));
        Assert.Equal("response.completed", names[^1]);
        Assert.Equal(response["output"]!.AsArray().Count, events[^1]["response"]!["output"]!.AsArray().Count);

        static string Streamed(string body) => body.Insert(1, "\"stream\":true,");
    }

    private static (List<string> Names, List<JsonNode> Events) Named(string stream)
    {
        string[] parts = stream.Split("\n\n");
        Assert.Equal("", parts[^1]);
        List<string> names = [];
        List<JsonNode> events = [];
        foreach (string part in parts[..^1])
        {
            string[] lines = part.Split('\n');
            Assert.Equal(2, lines.Length);
            Assert.StartsWith("event: ", lines[0], StringComparison.Ordinal);
            Assert.StartsWith("data: ", lines[1], StringComparison.Ordinal);
            names.Add(lines[0]["event: ".Length..]);
            events.Add(JsonNode.Parse(lines[1]["data: ".Length..])!);
        }

        return (names, events);
    }
}

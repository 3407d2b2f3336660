// Chats over the real engine, as a plain HTTP client sees them.
using System.Text;
using System.Text.Json.Nodes;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class ChatTests(ITestOutputHelper output)
{
    private const string Hello = """{"model":"tiny","seed":5,"max_tokens":24,"messages":[{"role":"user","content":"the question of the day"}]}""";

    [Fact]
    public async Task A_chat_is_answered_in_the_exact_shape()
    {
        await using TestServer server = await TestServer.StartAsync();
        JsonNode reply = await server.CallAsync("/v1/chat/completions", Hello);
        output.WriteLine(reply.ToJsonString());
        Assert.Equal(["id", "object", "created", "model", "system_fingerprint", "choices", "usage"], reply.AsObject().Select(f => f.Key));
        Assert.StartsWith("chatcmpl-", (string)reply["id"]!, StringComparison.Ordinal);
        Assert.Equal("chat.completion", (string)reply["object"]!);
        Assert.Equal("tiny", (string)reply["model"]!);
        JsonNode choice = Assert.Single(reply["choices"]!.AsArray())!;
        Assert.Equal("assistant", (string)choice["message"]!["role"]!);
        Assert.True((string)choice["finish_reason"]! is "stop" or "length");
        JsonNode usage = reply["usage"]!;
        Assert.Equal((int)usage["prompt_tokens"]!, (int)usage["prompt_cache_hit_tokens"]! + (int)usage["prompt_cache_miss_tokens"]!);
        Assert.Equal((int)usage["total_tokens"]!, (int)usage["prompt_tokens"]! + (int)usage["completion_tokens"]!);
        Assert.InRange((int)usage["completion_tokens"]!, 1, 24);
    }

    [Theory]
    [InlineData("/v1/chat/completions")]
    [InlineData("/chat/completions")]
    [InlineData("/beta/chat/completions")]
    public async Task A_stream_holds_the_same_text(string path)
    {
        await using TestServer server = await TestServer.StartAsync();
        JsonNode whole = await server.CallAsync(path, Hello);
        string stream = await server.StreamAsync(path, Hello.Replace("\"seed\"", "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"seed\"", StringComparison.Ordinal));
        output.WriteLine(stream);
        List<JsonNode> events = TestServer.Events(stream);
        Assert.All(events, e => Assert.Equal("chat.completion.chunk", (string)e["object"]!));
        Assert.Equal("assistant", (string)events[0]["choices"]![0]!["delta"]!["role"]!);
        Assert.Equal((string)whole["choices"]![0]!["message"]!["content"]!, Content(events));
        Assert.Equal((string)whole["choices"]![0]!["finish_reason"]!, (string)events[^2]["choices"]![0]!["finish_reason"]!);
        Assert.Empty(events[^1]["choices"]!.AsArray());
        Assert.Equal((int)whole["usage"]!["completion_tokens"]!, (int)events[^1]["usage"]!["completion_tokens"]!);
        Assert.All(events[..^1], e => Assert.Null(e["usage"]));
    }

    [Fact]
    public async Task Several_answers_differ_and_each_is_what_its_seed_gives()
    {
        await using TestServer server = await TestServer.StartAsync();
        string body = Hello.Replace("\"seed\"", "\"n\":4,\"temperature\":1.5,\"seed\"", StringComparison.Ordinal);
        JsonNode whole = await server.CallAsync("/v1/chat/completions", body);
        List<JsonNode> events = TestServer.Events(await server.StreamAsync("/v1/chat/completions", body.Replace("\"seed\"", "\"stream\":true,\"seed\"", StringComparison.Ordinal)));
        string[] texts = [.. whole["choices"]!.AsArray().Select(c => (string)c!["message"]!["content"]!)];
        Assert.Equal([0, 1, 2, 3], whole["choices"]!.AsArray().Select(c => (int)c!["index"]!));
        Assert.Equal(4, texts.Distinct().Count());
        for (int i = 0; i < 4; i++) Assert.Equal(texts[i], Content(events, i));
        int prompt = (int)whole["usage"]!["prompt_tokens"]!;
        Assert.InRange(prompt, 5, 60); // paid once, not four times
    }

    [Fact]
    public async Task A_stop_sequence_ends_the_text_before_it()
    {
        await using TestServer server = await TestServer.StartAsync();
        string text = (string)(await server.CallAsync("/v1/chat/completions", Hello))["choices"]![0]!["message"]!["content"]!;
        char stop = text.Skip(3).First(c => c is not '\uFFFD' && !char.IsSurrogate(c));
        JsonNode reply = await server.CallAsync("/v1/chat/completions", Hello.Replace("\"seed\"", $"\"stop\":[{JsonValue.Create(stop.ToString()).ToJsonString()},\"never seen\"],\"seed\"", StringComparison.Ordinal));
        Assert.Equal(text[..text.IndexOf(stop, StringComparison.Ordinal)], (string)reply["choices"]![0]!["message"]!["content"]!);
        Assert.Equal("stop", (string)reply["choices"]![0]!["finish_reason"]!);
    }

    [Fact]
    public async Task Log_probabilities_have_bytes_and_alternatives_and_cover_the_text()
    {
        await using TestServer server = await TestServer.StartAsync();
        string body = Hello.Replace("\"seed\"", "\"logprobs\":true,\"top_logprobs\":3,\"seed\"", StringComparison.Ordinal);
        JsonNode choice = (await server.CallAsync("/v1/chat/completions", body))["choices"]![0]!;
        JsonArray tokens = choice["logprobs"]!["content"]!.AsArray();
        byte[] bytes = [.. tokens.SelectMany(t => t!["bytes"]!.AsArray().Select(b => (byte)(int)b!))];
        // Control tokens are left out of the text, and have bytes all the same.
        string text = Encoding.UTF8.GetString(bytes);
        foreach (string special in TestModel.Tokenizer.AddedTokens.Select(t => t.Content)) text = text.Replace(special, "", StringComparison.Ordinal);
        Assert.Equal((string)choice["message"]!["content"]!, text);
        Assert.All(tokens, t =>
        {
            Assert.True((double)t!["logprob"]! <= 0);
            Assert.Equal(3, t["top_logprobs"]!.AsArray().Count);
            Assert.True((double)t["top_logprobs"]![0]!["logprob"]! >= (double)t["top_logprobs"]![1]!["logprob"]!);
        });
        List<JsonNode> events = TestServer.Events(await server.StreamAsync("/v1/chat/completions", body.Replace("\"seed\"", "\"stream\":true,\"seed\"", StringComparison.Ordinal)));
        Assert.Equal(tokens.Count, events.Sum(e => e["choices"]![0]!["logprobs"]?["content"]?.AsArray().Count ?? 0));
    }

    [Fact]
    public async Task A_long_beginning_is_found_in_the_cache_by_the_same_user_alone()
    {
        await using TestServer server = await TestServer.StartAsync();
        string Body(string user) => $$"""{"user_id":"{{user}}","max_tokens":2,"messages":[{"role":"system","content":"{{string.Concat(Enumerable.Repeat("the model reads a token. ", 30))}}"},{"role":"user","content":"a"}]}""";
        JsonNode first = (await server.CallAsync("/chat/completions", Body("ann")))["usage"]!, again = (await server.CallAsync("/chat/completions", Body("ann")))["usage"]!;
        JsonNode other = (await server.CallAsync("/chat/completions", Body("bob")))["usage"]!;
        output.WriteLine($"{first}\n{again}\n{other}");
        Assert.Equal(0, (int)first["prompt_cache_hit_tokens"]!);
        Assert.True((int)again["prompt_cache_hit_tokens"]! >= 64);
        Assert.Equal((int)again["prompt_cache_hit_tokens"]!, (int)again["prompt_tokens_details"]!["cached_tokens"]!);
        Assert.Equal(0, (int)other["prompt_cache_hit_tokens"]!);
    }

    [Fact]
    public async Task A_client_that_goes_away_frees_its_place_at_once()
    {
        await using TestServer server = await TestServer.StartAsync(engineOptions: new() { ContextTokens = 2048, CacheTokens = 40_000 });
        using (var gone = new CancellationTokenSource())
        {
            string body = """{"stream":true,"n":16,"max_tokens":1900,"ignore_eos":true,"messages":[{"role":"user","content":"write"}]}""";
            using HttpResponseMessage response = await server.PostAsync("/v1/chat/completions", body, cancellation: gone.Token);
            using Stream stream = await response.Content.ReadAsStreamAsync();
            await stream.ReadExactlyAsync(new byte[400]);
        }

        await TestServer.Eventually(() => server.Engine.Statistics is { Running: 0, Waiting: 0 }, "the generation ends");
        await TestServer.Eventually(() => server.Engine.Statistics.Blocks == server.Engine.Statistics.FreeBlocks, "every block comes back");
        long generated = server.Engine.Statistics.GeneratedTokens;
        output.WriteLine($"{generated} tokens generated of 30400");
        Assert.InRange(generated, 1, 15_000);
    }

    private static string Content(IEnumerable<JsonNode> events, int index = 0) => string.Concat(
        events.SelectMany(e => e["choices"]!.AsArray()).Where(c => (int)c!["index"]! == index).Select(c => (string?)c!["delta"]!["content"] ?? ""));
}

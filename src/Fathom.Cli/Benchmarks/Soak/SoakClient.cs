// Makes one request of the plan and says what is wrong with what came back, if anything. Each reply is read as its dialect has it; answers
// are compared with those that the question had alone, so that a lost or crossed answer cannot hide.
using System.Net.Http.Headers;
using System.Net.ServerSentEvents;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks.Soak;

/// <summary>Keys that a soak asks with.</summary>
/// <param name="Ordinary">Keys without limits; empty where the server wants none.</param>
/// <param name="Limited">A key with a low rate, or null.</param>
internal sealed record SoakKeys(IReadOnlyList<string> Ordinary, string? Limited);

/// <summary>A client of one server. Safe for many requests side by side.</summary>
internal sealed class SoakClient(Uri address, SoakKeys keys) : IDisposable
{
    private static readonly string[] Looks = ["v1/models", "metrics", "health", "ready", "version", "openapi.json"];

    private readonly HttpClient http = new(new SocketsHttpHandler { UseProxy = false }) { BaseAddress = address, Timeout = TimeSpan.FromMinutes(5) };

    /// <summary>A question, asked alone and answered whole.</summary>
    /// <exception cref="FathomException">It is not answered.</exception>
    public async Task<SoakAnswer[]> AskAsync(SoakQuestion question, CancellationToken cancellation)
    {
        using HttpResponseMessage reply = await SendAsync("v1/chat/completions", question.Body.ToJsonString(), Key(0), cancellation).ConfigureAwait(false);
        string text = await reply.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false);
        if (!reply.IsSuccessStatusCode) throw new FathomException($"a question that was asked alone was refused with {(int)reply.StatusCode}: {text}");
        return SoakAnswer.OfChat(JsonNode.Parse(text)!);
    }

    /// <summary>The text of a page.</summary>
    public async Task<string> GetAsync(string path, CancellationToken cancellation)
    {
        using HttpResponseMessage reply = await GetAsync(path, Key(0), cancellation).ConfigureAwait(false);
        return await reply.EnsureSuccessStatusCode().Content.ReadAsStringAsync(cancellation).ConfigureAwait(false);
    }

    /// <summary>The tokens of a text.</summary>
    public async Task<int> CountAsync(string text, CancellationToken cancellation)
    {
        using HttpResponseMessage reply = await SendAsync("tokenize", new JsonObject { ["prompt"] = text }.ToJsonString(), Key(0), cancellation).ConfigureAwait(false);
        return (int)JsonNode.Parse(await reply.EnsureSuccessStatusCode().Content.ReadAsStringAsync(cancellation).ConfigureAwait(false))!["count"]!;
    }

    /// <summary>Makes a request.</summary>
    /// <returns>What is wrong with the reply, or null.</returns>
    public async Task<string?> RunAsync(SoakKind kind, SoakQuestion question, Random random, CancellationToken cancellation)
    {
        try
        {
            string? key = Key(random.Next());
            return kind switch
            {
                SoakKind.Whole => await WholeAsync("v1/chat/completions", question.Body, question, SoakAnswer.OfChat, key, cancellation).ConfigureAwait(false),
                SoakKind.Messages or SoakKind.Responses => await OtherDialectAsync(kind == SoakKind.Messages, question, random, key, cancellation).ConfigureAwait(false),
                SoakKind.RateLimited => await LimitedAsync(question, cancellation).ConfigureAwait(false),
                SoakKind.Malformed => await MalformedAsync(random, key, cancellation).ConfigureAwait(false),
                SoakKind.WrongKey => await StatusAsync(await SendAsync("v1/chat/completions", question.Body.ToJsonString(), random.Next(2) == 0 ? null : "sk-nobody", cancellation).ConfigureAwait(false), 401, cancellation).ConfigureAwait(false),
                SoakKind.Broken => await BrokenAsync(question, random, cancellation).ConfigureAwait(false),
                SoakKind.Look => await StatusAsync(await GetAsync(Looks[random.Next(Looks.Length)], key, cancellation).ConfigureAwait(false), 200, cancellation).ConfigureAwait(false),
                _ => await StreamAsync(kind, question, random, key, cancellation).ConfigureAwait(false),
            };
        }
        catch (Exception error) when (error is HttpRequestException or IOException or JsonException or InvalidOperationException or NullReferenceException or ArgumentOutOfRangeException || error is OperationCanceledException && !cancellation.IsCancellationRequested)
        {
            return $"{error.GetType().Name}: {error.Message}";
        }
    }

    /// <inheritdoc/>
    public void Dispose() => http.Dispose();

    private string? Key(int number) => keys.Ordinary.Count > 0 ? keys.Ordinary[number % keys.Ordinary.Count] : null;

    private async Task<string?> WholeAsync(string path, JsonObject body, SoakQuestion question, Func<JsonNode, SoakAnswer[]> read, string? key, CancellationToken cancellation)
    {
        using HttpResponseMessage reply = await SendAsync(path, body.ToJsonString(), key, cancellation).ConfigureAwait(false);
        string text = await reply.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false);
        return reply.IsSuccessStatusCode ? Compare(read(JsonNode.Parse(text)!), question) : $"status {(int)reply.StatusCode}: {text}";
    }

    private async Task<string?> StreamAsync(SoakKind kind, SoakQuestion question, Random random, string? key, CancellationToken cancellation)
    {
        using HttpResponseMessage reply = await SendAsync("v1/chat/completions", Streaming(question.Body).ToJsonString(), key, cancellation).ConfigureAwait(false);
        if (!reply.IsSuccessStatusCode) return $"status {(int)reply.StatusCode}: {await reply.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false)}";
        Stream body = await reply.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        if (kind == SoakKind.SlowReader) body = new SlowStream(body, random);
        SoakAnswer[] answers = [.. Enumerable.Range(0, question.Choices).Select(_ => new SoakAnswer())];
        int events = kind == SoakKind.Cancelled ? random.Next(12) : int.MaxValue;
        await using (body.ConfigureAwait(false))
        {
            await foreach (SseItem<string> item in SseParser.Create(body).EnumerateAsync(cancellation).ConfigureAwait(false))
            {
                if (item.Data == "[DONE]") return Compare(answers, question);
                JsonNode next = JsonNode.Parse(item.Data)!;
                if (next["error"] is { } error) return "while streaming: " + error.ToJsonString();
                SoakAnswer.TakeChat(answers, next);
                if (--events > 0) continue;
                return answers.Zip(question.Answers).All(pair => pair.First.Begins(pair.Second)) ? null : $"a stream that was cut has {answers[0]}, which is not how the answer alone begins: {question.Answers[0]}";
            }
        }

        return "the stream ended before the answer";
    }

    private async Task<string?> OtherDialectAsync(bool messages, SoakQuestion question, Random random, string? key, CancellationToken cancellation)
    {
        string path = messages ? "v1/messages" : "v1/responses";
        JsonObject body = messages ? AsMessages(question.Body) : AsResponse(question.Body);
        if (random.Next(2) == 0) return await WholeAsync(path, body, question, messages ? SoakAnswer.OfMessage : SoakAnswer.OfResponse, key, cancellation).ConfigureAwait(false);
        using HttpResponseMessage reply = await SendAsync(path, Streaming(body).ToJsonString(), key, cancellation).ConfigureAwait(false);
        if (!reply.IsSuccessStatusCode) return $"status {(int)reply.StatusCode}: {await reply.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false)}";
        var answer = new SoakAnswer();
        Stream stream = await reply.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        await using (stream.ConfigureAwait(false))
        {
            await foreach (SseItem<string> item in SseParser.Create(stream).EnumerateAsync(cancellation).ConfigureAwait(false))
            {
                if (item.EventType == "error") return "while streaming: " + item.Data;
                if (item.EventType is "message_stop" or "response.completed" or "response.incomplete") return Compare([answer], question);
                JsonNode next = JsonNode.Parse(item.Data)!;
                if (messages) SoakAnswer.TakeMessage(answer, next);
                else SoakAnswer.TakeResponse(answer, next);
            }
        }

        return "the stream ended before the answer";
    }

    private async Task<string?> LimitedAsync(SoakQuestion question, CancellationToken cancellation)
    {
        using HttpResponseMessage reply = await SendAsync("v1/chat/completions", question.Body.ToJsonString(), keys.Limited, cancellation).ConfigureAwait(false);
        string text = await reply.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false);
        if ((int)reply.StatusCode == 429) return reply.Headers.RetryAfter is null ? "429 without Retry-After" : null;
        return reply.IsSuccessStatusCode ? Compare(SoakAnswer.OfChat(JsonNode.Parse(text)!), question) : $"status {(int)reply.StatusCode}: {text}";
    }

    private async Task<string?> MalformedAsync(Random random, string? key, CancellationToken cancellation)
    {
        int which = random.Next(SoakPlan.Refused.Length + 1);
        if (which == SoakPlan.Refused.Length)
        {
            using var notText = new ByteArrayContent([.. "{\"messages\":[{\"role\":\"user\",\"content\":\""u8, 0xC3, 0x28, 0xFF, .. "\"}]}"u8]);
            return await StatusAsync(await SendAsync("v1/chat/completions", notText, key, cancellation).ConfigureAwait(false), 400, cancellation).ConfigureAwait(false);
        }

        (string body, int status) = SoakPlan.Refused[which];
        return await StatusAsync(await SendAsync("v1/chat/completions", body, key, cancellation).ConfigureAwait(false), status, cancellation).ConfigureAwait(false);
    }

    /// <summary>Half a request, or none; what the server makes of it is its own affair, as long as it goes on.</summary>
    private async Task<string?> BrokenAsync(SoakQuestion question, Random random, CancellationToken cancellation)
    {
        using var socket = new TcpClient();
        await socket.ConnectAsync(address.Host, address.Port, cancellation).ConfigureAwait(false);
        byte[] body = Encoding.UTF8.GetBytes(question.Body.ToJsonString());
        byte[] head = Encoding.ASCII.GetBytes($"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.Authority}\r\nAuthorization: Bearer {Key(random.Next())}\r\nContent-Length: {body.Length}\r\n\r\n");
        byte[] noise = new byte[200];
        random.NextBytes(noise);
        byte[] sent = random.Next(5) switch
        {
            0 => [],
            1 => noise,
            2 => head[..random.Next(head.Length)],
            3 => [.. head, .. body[..random.Next(body.Length)]],
            _ => [.. head, .. body], // asked, and nobody there to hear
        };
        try
        {
            await socket.GetStream().WriteAsync(sent, cancellation).ConfigureAwait(false);
        }
        catch (IOException)
        {
            // The server has had enough of it already.
        }

        return null;
    }

    private static string? Compare(SoakAnswer[] answers, SoakQuestion question)
    {
        if (answers.Length != question.Answers.Length) return $"{answers.Length} answers, expected {question.Answers.Length}";
        for (int i = 0; i < answers.Length; i++)
        {
            if (!answers[i].Is(question.Answers[i])) return $"answer {i} is {answers[i]}; alone it was {question.Answers[i]}";
        }

        return null;
    }

    private static async Task<string?> StatusAsync(HttpResponseMessage reply, int expected, CancellationToken cancellation)
    {
        using (reply)
        {
            string text = await reply.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false);
            return (int)reply.StatusCode == expected ? null : $"status {(int)reply.StatusCode}, expected {expected}: {(text.Length <= 200 ? text : text[..200])}";
        }
    }

    private static JsonObject Streaming(JsonObject body) => new(body.DeepClone().AsObject().Select(f => KeyValuePair.Create(f.Key, f.Value?.DeepClone()))) { ["stream"] = true };

    private static JsonObject AsMessages(JsonObject chat)
    {
        var body = (JsonObject)chat.DeepClone();
        if (body["messages"] is JsonArray messages && (string?)messages[0]!["role"] == "system")
        {
            body["system"] = messages[0]!["content"]!.DeepClone();
            messages.RemoveAt(0);
        }

        return body;
    }

    private static JsonObject AsResponse(JsonObject chat)
    {
        var body = (JsonObject)chat.DeepClone();
        (body["input"], body["max_output_tokens"]) = (body["messages"]!.DeepClone(), body["max_tokens"]!.DeepClone());
        body.Remove("messages");
        body.Remove("max_tokens");
        return body;
    }

    private Task<HttpResponseMessage> SendAsync(string path, string body, string? key, CancellationToken cancellation) =>
        SendAsync(path, new StringContent(body, Encoding.UTF8, "application/json"), key, cancellation);

    private async Task<HttpResponseMessage> SendAsync(string path, HttpContent body, string? key, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = body };
        if (key is not null) request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
        return await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
    }

    private async Task<HttpResponseMessage> GetAsync(string path, string? key, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        if (key is not null) request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
        return await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
    }
}

// One streamed request to an OpenAI-compatible server, and the moments at which its text came. Only what any such server has is relied on:
// server-sent events with choices, and usage where it is given. A failed request is a result, not an exception: under load some fail.
using System.Diagnostics;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Net.ServerSentEvents;
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks.Serve;

/// <summary>How requests are made.</summary>
/// <param name="Chat">Whether prompts are messages of a chat; else text to be continued.</param>
/// <param name="IgnoreEnd">Whether answers go on until their tokens are used up (ignore_eos), so that all have the same length.</param>
/// <param name="Timeout">After which a request has failed.</param>
internal sealed record RequestForm(bool Chat, bool IgnoreEnd, TimeSpan Timeout);

/// <summary>A server under measurement. Safe for many requests side by side.</summary>
internal sealed class ServeEndpoint : IDisposable
{
    private readonly HttpClient http;
    private readonly RequestForm form;
    private readonly Stopwatch clock = Stopwatch.StartNew();
    private string model;

    /// <summary>A server.</summary>
    /// <param name="address">Its address, with or without /v1.</param>
    /// <param name="model">The model to ask for, or null for the first that the server lists.</param>
    /// <param name="key">Its key, or null.</param>
    /// <param name="form">How requests are made.</param>
    /// <exception cref="FathomException">The address is none.</exception>
    public ServeEndpoint(string address, string? model, string? key, RequestForm form)
    {
        if (!Uri.TryCreate(address, UriKind.Absolute, out Uri? url) || url.Scheme is not ("http" or "https"))
            throw new FathomException($"the server's address is '{address}'; give one as http://127.0.0.1:8000/v1");
        string root = url.GetLeftPart(UriPartial.Path).TrimEnd('/');
        http = new HttpClient(new SocketsHttpHandler { UseProxy = false, PooledConnectionIdleTimeout = System.Threading.Timeout.InfiniteTimeSpan })
        {
            BaseAddress = new Uri(url.AbsolutePath == "/" ? root + "/v1/" : root + "/"),
            Timeout = System.Threading.Timeout.InfiniteTimeSpan,
        };
        if (key is not null) http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
        this.form = form;
        this.model = model ?? "";
    }

    /// <summary>The address that requests go to.</summary>
    public Uri Address => http.BaseAddress!;

    /// <summary>The model that is asked for.</summary>
    public string Model => model;

    /// <summary>Seconds on the clock that all timings are of.</summary>
    public double Now => clock.Elapsed.TotalSeconds;

    /// <summary>Asks which models there are, where none was named.</summary>
    /// <exception cref="FathomException">The server is not there, or lists none.</exception>
    public async Task FindModelAsync(CancellationToken cancellation)
    {
        if (model.Length > 0) return;
        try
        {
            JsonNode? list = await http.GetFromJsonAsync<JsonNode>("models", cancellation).ConfigureAwait(false);
            model = (string?)list?["data"]?[0]?["id"] ?? throw new FathomException($"{Address}models lists no model; name one with --model");
        }
        catch (Exception error) when (error is HttpRequestException or JsonException or InvalidOperationException)
        {
            throw new FathomException($"asking {Address}models which models there are failed: {error.Message}; name one with --model, or start a server with 'fathom serve'", error);
        }
    }

    /// <summary>Asks once and follows the answer to its end.</summary>
    /// <param name="prompt">Text of the prompt.</param>
    /// <param name="tokens">Most tokens of the answer.</param>
    /// <param name="seed">Of the answer's randomness.</param>
    /// <param name="due">When it was due; now if null.</param>
    /// <param name="piece">Is called with each piece of text.</param>
    /// <param name="countTokens">Whether to ask for log-probabilities, which say of how many tokens a piece is made.</param>
    /// <param name="cancellation">Ends the measurement.</param>
    public async Task<RequestTiming> AskAsync(
        string prompt, int tokens, int seed, double? due = null, Action? piece = null, bool countTokens = false, CancellationToken cancellation = default)
    {
        var timing = new RequestTiming { Due = due ?? Now, Sent = Now };
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(form.Timeout);
        try
        {
            await FollowAsync(Body(prompt, tokens, seed, countTokens), timing, piece, limit.Token).ConfigureAwait(false);
            if (timing.Error is null && timing.Pieces.Count == 0) timing.Error = "the answer had no text";
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            timing.Error = $"no end within {form.Timeout.TotalSeconds:F0} s";
        }
        catch (Exception error) when (error is HttpRequestException or IOException)
        {
            timing.Error = "the connection failed: " + error.Message;
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            timing.Error = "the answer is not what OpenAI's API has: " + error.Message;
        }

        timing.Ended = Now;
        if (timing.OutputTokens == 0) timing.OutputTokens = timing.Pieces.Count;
        return timing;
    }

    /// <inheritdoc/>
    public void Dispose() => http.Dispose();

    private async Task FollowAsync(JsonObject question, RequestTiming timing, Action? piece, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, form.Chat ? "chat/completions" : "completions") { Content = JsonContent.Create(question) };
        using HttpResponseMessage reply = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
        if (!reply.IsSuccessStatusCode)
        {
            string text = await reply.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false);
            timing.Error = $"HTTP {(int)reply.StatusCode}: {Reason(text)}";
            return;
        }

        Stream body = await reply.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        await using (body.ConfigureAwait(false))
        {
            await foreach (SseItem<string> item in SseParser.Create(body).EnumerateAsync(cancellation).ConfigureAwait(false))
            {
                if (item.Data == "[DONE]") return;
                double now = Now;
                using JsonDocument chunk = JsonDocument.Parse(item.Data);
                if (chunk.RootElement.TryGetProperty("error", out JsonElement _))
                {
                    timing.Error = "while streaming: " + Reason(item.Data);
                    return;
                }

                if (HasText(chunk.RootElement))
                {
                    timing.Pieces.Add(new TextPiece(now, Tokens(chunk.RootElement)));
                    piece?.Invoke();
                }

                if (chunk.RootElement.TryGetProperty("usage", out JsonElement usage) && usage.ValueKind == JsonValueKind.Object) ReadUsage(usage, timing);
            }
        }

        timing.Error = "the connection ended before the answer";
    }

    private JsonObject Body(string prompt, int tokens, int seed, bool countTokens)
    {
        var body = new JsonObject
        {
            ["model"] = model,
            ["max_tokens"] = tokens,
            ["temperature"] = 1,
            ["seed"] = seed,
            ["stream"] = true,
            ["stream_options"] = new JsonObject { ["include_usage"] = true },
        };
        if (form.IgnoreEnd) body["ignore_eos"] = true;
        if (countTokens) body["logprobs"] = form.Chat ? true : 0;
        if (form.Chat) body["messages"] = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = prompt });
        else body["prompt"] = prompt;
        return body;
    }

    private static bool HasText(JsonElement chunk)
    {
        if (!chunk.TryGetProperty("choices", out JsonElement choices) || choices.GetArrayLength() == 0) return false;
        JsonElement choice = choices[0];
        if (choice.TryGetProperty("text", out JsonElement text)) return IsText(text);
        if (!choice.TryGetProperty("delta", out JsonElement delta) || delta.ValueKind != JsonValueKind.Object) return false;
        // Reasoning has two names: DeepSeek's, and that of later servers.
        foreach (string field in (string[])["content", "reasoning_content", "reasoning"])
        {
            if (delta.TryGetProperty(field, out JsonElement value) && IsText(value)) return true;
        }

        return delta.TryGetProperty("tool_calls", out JsonElement calls) && calls.ValueKind == JsonValueKind.Array;
    }

    /// <summary>Tokens of a piece, from its log-probabilities: of a chat, or of a completion.</summary>
    private static int Tokens(JsonElement chunk)
    {
        JsonElement choice = chunk.GetProperty("choices")[0];
        if (!choice.TryGetProperty("logprobs", out JsonElement all) || all.ValueKind != JsonValueKind.Object) return 0;
        int count = 0;
        foreach (string field in (string[])["content", "reasoning_content", "tokens"])
        {
            if (all.TryGetProperty(field, out JsonElement list) && list.ValueKind == JsonValueKind.Array) count += list.GetArrayLength();
        }

        return count;
    }

    private static bool IsText(JsonElement value) => value.ValueKind == JsonValueKind.String && !value.ValueEquals(""u8);

    private static void ReadUsage(JsonElement usage, RequestTiming timing)
    {
        timing.PromptTokens = Number(usage, "prompt_tokens");
        timing.OutputTokens = Number(usage, "completion_tokens");
        timing.CachedTokens = usage.TryGetProperty("prompt_tokens_details", out JsonElement details) && details.ValueKind == JsonValueKind.Object
            ? Number(details, "cached_tokens")
            : Number(usage, "prompt_cache_hit_tokens");
    }

    private static int Number(JsonElement fields, string name) =>
        fields.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number ? value.GetInt32() : 0;

    /// <summary>The message of an error body, or the beginning of what came instead of one.</summary>
    private static string Reason(string body)
    {
        try
        {
            JsonNode? error = JsonNode.Parse(body)?["error"];
            if (error is JsonValue text) return text.ToString();
            if ((string?)error?["message"] is { } message) return message;
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            // Proxies answer with pages; their beginning says enough.
        }

        string line = body.ReplaceLineEndings(" ").Trim();
        return line.Length <= 200 ? line : line[..200];
    }
}

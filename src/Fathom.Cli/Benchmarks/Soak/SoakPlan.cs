// What is asked: questions whose answers are known, since each is asked once alone before the load, and everything that clients get wrong.
// Questions differ in length, sampling, number of answers and form; half of them begin with one of a few prefixes. The load draws from them
// in an order that the seed decides.
using System.Text.Json.Nodes;
using Fathom.Cli.Benchmarks.Serve;

namespace Fathom.Cli.Benchmarks.Soak;

/// <summary>How a request is made, or what is wrong with it.</summary>
internal enum SoakKind
{
    /// <summary>A chat, answered whole.</summary>
    Whole,

    /// <summary>A chat, streamed.</summary>
    Stream,

    /// <summary>A chat, streamed to a client that reads slowly.</summary>
    SlowReader,

    /// <summary>A chat, streamed to a client that goes away.</summary>
    Cancelled,

    /// <summary>Anthropic's dialect, whole or streamed.</summary>
    Messages,

    /// <summary>OpenAI's responses, whole or streamed.</summary>
    Responses,

    /// <summary>A key that may ask little: answered, or refused until later.</summary>
    RateLimited,

    /// <summary>A body that is refused.</summary>
    Malformed,

    /// <summary>No key, or a wrong one.</summary>
    WrongKey,

    /// <summary>What is no request, or not all of one.</summary>
    Broken,

    /// <summary>A look at the models, the metrics, the state.</summary>
    Look,
}

/// <summary>A question with what its answers are.</summary>
/// <param name="Body">Of a chat completion.</param>
/// <param name="Plain">Whether other dialects can ask it.</param>
internal sealed record SoakQuestion(JsonObject Body, bool Plain)
{
    /// <summary>The answers, once they are known.</summary>
    public SoakAnswer[] Answers { get; set; } = [];

    /// <summary>How many there are.</summary>
    public int Choices => (int?)Body["n"] ?? 1;
}

/// <summary>Questions and the order of requests.</summary>
internal sealed class SoakPlan
{
    /// <summary>Bodies that are refused, with the status. The first field is for the chat route.</summary>
    public static readonly (string Body, int Status)[] Refused =
    [
        ("", 400), ("{", 400), ("[]", 400), ("{}", 400), ("null", 400), ("{\"messages\":7}", 400), ("{\"messages\":[]}", 422), ("{\"messages\":[{\"role\":\"king\",\"content\":\"a\"}]}", 422),
        (Ask("\"temperature\":\"hot\""), 400), (Ask("\"temperature\":3"), 422), (Ask("\"max_tokens\":0"), 422), (Ask("\"n\":100000"), 422), (Ask("\"model\":\"gpt\""), 404), (Ask("\"stop\":[1]"), 400),
        (Ask("\"logit_bias\":{\"999999999\":1}"), 422), (Ask("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"strict\":true,\"schema\":{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"],\"additionalProperties\":false}}}"), 422),
        (Ask("\"stop\":[" + string.Join(',', Enumerable.Range(0, 10_000).Select(i => $"\"{i}\"")) + "]"), 422),
        (new string('[', 50_000), 400), ("{\"messages\":" + string.Concat(Enumerable.Repeat("{\"a\":", 70)) + "1" + new string('}', 71), 400),
        (Ask("\"x\":\"" + new string('a', 200_000)), 400), ("{\"messages\":[{\"role\":\"user\",\"content\":\"" + string.Concat(Enumerable.Repeat("0 ", 200_000)) + "\"}]}", 400),
    ];

    private const string Schema = """{"type":"object","properties":{"sure":{"type":"boolean"},"colours":{"type":"array","maxItems":3,"items":{"enum":["red","green","blue"]}}},"required":["sure","colours"],"additionalProperties":false}""";

    private static readonly (SoakKind Kind, int Share)[] Shares =
    [
        (SoakKind.Whole, 22), (SoakKind.Stream, 27), (SoakKind.SlowReader, 4), (SoakKind.Cancelled, 11), (SoakKind.Messages, 7), (SoakKind.Responses, 7), (SoakKind.RateLimited, 3),
        (SoakKind.Malformed, 10), (SoakKind.WrongKey, 3), (SoakKind.Broken, 3), (SoakKind.Look, 3),
    ];

    private readonly int seed;
    private readonly bool keys;

    /// <summary>Draws questions.</summary>
    /// <param name="count">How many.</param>
    /// <param name="prompts">Text for them.</param>
    /// <param name="context">Tokens of the server's context.</param>
    /// <param name="seed">Decides everything.</param>
    /// <param name="keys">Whether the server wants keys.</param>
    public SoakPlan(int count, PromptSource prompts, int context, int seed, bool keys)
    {
        (this.seed, this.keys) = (seed, keys);
        var random = new Random(seed);
        string[] prefixes = [.. Enumerable.Range(0, 6).Select(_ => prompts.Next(random.Next(context / 16, context / 4)))];
        Questions = [.. Enumerable.Range(0, count).Select(i => Draw(random, prompts, prefixes, context, i))];
    }

    /// <summary>The questions.</summary>
    public IReadOnlyList<SoakQuestion> Questions { get; }

    /// <summary>What a request is: its kind, its question, and random numbers of its own.</summary>
    public (SoakKind Kind, SoakQuestion Question, Random Random) Request(int index)
    {
        var random = new Random(unchecked((seed * 1_000_003) + index));
        int at = random.Next(Shares.Sum(s => s.Share));
        SoakKind kind = Shares.First(s => (at -= s.Share) < 0).Kind;
        if (!keys && kind is SoakKind.WrongKey or SoakKind.RateLimited) kind = SoakKind.Stream;
        SoakQuestion question = Questions[random.Next(Questions.Count)];
        while (kind is SoakKind.Messages or SoakKind.Responses && !question.Plain) question = Questions[random.Next(Questions.Count)];
        return (kind, question, random);
    }

    private static SoakQuestion Draw(Random random, PromptSource prompts, string[] prefixes, int context, int index)
    {
        string text = prompts.Next((int)Math.Exp(random.NextDouble() * Math.Log(context / 8.0)));
        if (random.Next(2) == 0) text = $"{prefixes[random.Next(prefixes.Length)]}\n\n{text}";
        var messages = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = text });
        if (random.Next(3) == 0) messages.Insert(0, new JsonObject { ["role"] = "system", ["content"] = "Answer in a few words." });
        var body = new JsonObject
        {
            ["messages"] = messages,
            ["seed"] = random.Next(),
            ["max_tokens"] = (int)Math.Exp(random.NextDouble() * Math.Log(Math.Min(96, context / 8))),
            ["temperature"] = (double[])[0, 0.7, 1, 1.4] is var all ? all[random.Next(4)] : 1,
            ["ignore_eos"] = random.Next(2) == 0,
        };
        // The first are of every form, so that the smallest soak has them all.
        switch (index < 5 ? index : random.Next(14))
        {
            case 0:
                body["n"] = random.Next(2, 5);
                return new SoakQuestion(body, false);
            case 1:
                body["max_tokens"] = Math.Min(200, context / 4);
                body["ignore_eos"] = false;
                body["response_format"] = new JsonObject { ["type"] = "json_schema", ["json_schema"] = new JsonObject { ["name"] = "a", ["strict"] = true, ["schema"] = JsonNode.Parse(Schema) } };
                return new SoakQuestion(body, false);
            case 2:
                body["max_tokens"] = Math.Min(200, context / 4);
                body["tools"] = new JsonArray(Tool("paint"), Tool("draw"));
                body["tool_choice"] = "required";
                return new SoakQuestion(body, false);
            case 3:
                body["stop"] = new JsonArray("e", "the ");
                return new SoakQuestion(body, false);
            default:
                if (random.Next(3) == 0) (body["top_p"], body["top_k"], body["frequency_penalty"]) = (0.9, 40, 0.5);
                return new SoakQuestion(body, true);
        }
    }

    private static JsonObject Tool(string name) => new()
    {
        ["type"] = "function",
        ["function"] = new JsonObject { ["name"] = name, ["strict"] = true, ["parameters"] = JsonNode.Parse(Schema) },
    };

    private static string Ask(string field) => $"{{\"messages\":[{{\"role\":\"user\",\"content\":\"a\"}}],{field}}}";
}

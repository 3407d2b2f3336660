// What a model said, read out of any of the dialects, whole or streamed, in one form: the same prompt and seed must give the same answer
// whichever way it is asked, and a stream that was cut must be the beginning of it.
using System.Text;
using System.Text.Json.Nodes;

namespace Fathom.Cli.Benchmarks.Soak;

/// <summary>One answer of a reply.</summary>
internal sealed class SoakAnswer
{
    private readonly StringBuilder reasoning = new(), content = new(), calls = new();

    /// <summary>Why it ended, in OpenAI's words; null where it has not, or the dialect has other words.</summary>
    public string? Finish { get; private set; }

    /// <summary>Whether this is the whole of another answer.</summary>
    public bool Is(SoakAnswer other) =>
        reasoning.Equals(other.reasoning) && content.Equals(other.content) && calls.Equals(other.calls) && (Finish is null || other.Finish is null || Finish == other.Finish);

    /// <summary>Whether another answer may begin with this.</summary>
    public bool Begins(SoakAnswer other) => Begins(reasoning, other.reasoning) && Begins(content, other.content) && Begins(calls, other.calls);

    /// <inheritdoc/>
    public override string ToString() => $"reasoning '{reasoning}', content '{content}', calls '{calls}', {Finish ?? "not ended"}";

    /// <summary>The answers of a chat completion.</summary>
    public static SoakAnswer[] OfChat(JsonNode reply) =>
    [
        .. reply["choices"]!.AsArray().Select(choice =>
        {
            var answer = new SoakAnswer();
            answer.Take(choice!["message"]!);
            answer.Finish = (string?)choice["finish_reason"];
            return answer;
        }),
    ];

    /// <summary>The answer of a message of Anthropic's.</summary>
    public static SoakAnswer[] OfMessage(JsonNode reply)
    {
        var answer = new SoakAnswer();
        foreach (JsonNode? block in reply["content"]!.AsArray())
        {
            answer.reasoning.Append((string?)block!["thinking"]);
            answer.content.Append((string?)block["text"]);
        }

        return [answer];
    }

    /// <summary>The answer of a response.</summary>
    public static SoakAnswer[] OfResponse(JsonNode reply)
    {
        var answer = new SoakAnswer();
        foreach (JsonNode? item in reply["output"]!.AsArray())
        {
            foreach (JsonNode? part in item!["content"]?.AsArray() ?? []) ((string?)item["type"] == "reasoning" ? answer.reasoning : answer.content).Append((string?)part!["text"]);
        }

        return [answer];
    }

    /// <summary>Takes an event of a stream of chat completions.</summary>
    public static void TakeChat(SoakAnswer[] answers, JsonNode next)
    {
        foreach (JsonNode? choice in next["choices"]!.AsArray())
        {
            SoakAnswer answer = answers[(int)choice!["index"]!];
            answer.Take(choice["delta"]!);
            answer.Finish ??= (string?)choice["finish_reason"];
        }
    }

    /// <summary>Takes an event of a stream of Anthropic's.</summary>
    public static void TakeMessage(SoakAnswer answer, JsonNode next)
    {
        answer.reasoning.Append((string?)next["delta"]?["thinking"]);
        answer.content.Append((string?)next["delta"]?["text"]);
    }

    /// <summary>Takes an event of a stream of responses.</summary>
    public static void TakeResponse(SoakAnswer answer, JsonNode next)
    {
        if ((string?)next["type"] == "response.reasoning_text.delta") answer.reasoning.Append((string?)next["delta"]);
        if ((string?)next["type"] == "response.output_text.delta") answer.content.Append((string?)next["delta"]);
    }

    private static bool Begins(StringBuilder part, StringBuilder whole) => part.Length <= whole.Length && whole.ToString(0, part.Length) == part.ToString();

    private void Take(JsonNode message)
    {
        reasoning.Append((string?)message["reasoning_content"]);
        content.Append((string?)message["content"]);
        foreach (JsonNode? call in message["tool_calls"]?.AsArray() ?? [])
        {
            JsonNode function = call!["function"]!;
            if ((string?)function["name"] is { } name) calls.Append('\n').Append(name).Append(' ');
            calls.Append((string?)function["arguments"]);
        }
    }
}

// One message of a conversation, in the shape that chat templates and the OpenAI-style APIs share.
using System.Text.Json.Nodes;

namespace Fathom.Text;

/// <summary>
/// A message of a conversation. A template sees it as a mapping with the keys <c>role</c> and <c>content</c>, and with
/// the other keys only where they are set, since templates ask <c>'tool_calls' in message</c>.
/// </summary>
/// <param name="Role">Who speaks: system, user, assistant or tool.</param>
/// <param name="Content">The text; null for an assistant message that holds tool calls only, which templates see as none.</param>
public sealed record ChatMessage(string Role, string? Content)
{
    /// <summary>Content in parts, as <c>[{"type": "text", "text": …}]</c>; when set, templates see it in place of <see cref="Content"/>.</summary>
    public JsonArray? ContentParts { get; init; }

    /// <summary>The reasoning that came before the content, for templates that show it.</summary>
    public string? ReasoningContent { get; init; }

    /// <summary>
    /// Calls as <c>[{"type": "function", "id": …, "function": {"name": …, "arguments": …}}]</c>. DeepSeek's published
    /// template needs <c>arguments</c> as text, most others as a JSON object: see <see cref="ChatTemplateOptions.ToolArguments"/>.
    /// </summary>
    public JsonArray? ToolCalls { get; init; }

    /// <summary>The name of the speaker or of the tool.</summary>
    public string? Name { get; init; }

    /// <summary>Of a tool message: the id of the call that it answers.</summary>
    public string? ToolCallId { get; init; }

    /// <summary>Further keys, for templates that know more than the ones above.</summary>
    public JsonObject? Extra { get; init; }

    /// <summary>Reads a message from JSON; keys that are not known become <see cref="Extra"/>.</summary>
    /// <param name="json">An object with at least <c>role</c>; it is not kept or changed.</param>
    /// <exception cref="ChatTemplateException">A key is missing or of the wrong type.</exception>
    public static ChatMessage FromJson(JsonObject json)
    {
        ArgumentNullException.ThrowIfNull(json);
        JsonObject? extra = null;
        foreach ((string key, JsonNode? value) in json)
        {
            if (key is "role" or "content" or "reasoning_content" or "tool_calls" or "name" or "tool_call_id") continue;
            (extra ??= [])[key] = value?.DeepClone();
        }

        bool inParts = json["content"] is JsonArray;
        return new(Text(json, "role") ?? throw Wrong("role", "is missing"), inParts ? null : Text(json, "content"))
        {
            ContentParts = inParts ? Items(json, "content") : null,
            ReasoningContent = Text(json, "reasoning_content"),
            ToolCalls = Items(json, "tool_calls"),
            Name = Text(json, "name"),
            ToolCallId = Text(json, "tool_call_id"),
            Extra = extra,
        };
    }

    private static string? Text(JsonObject json, string key) => json[key] switch
    {
        null => null,
        JsonValue value when value.TryGetValue(out string? text) => text,
        _ => throw Wrong(key, key == "content" ? "must be a string, null or an array of parts" : "must be a string"),
    };

    private static JsonArray? Items(JsonObject json, string key) => json[key] switch
    {
        null => null,
        JsonArray array => array.DeepClone().AsArray(),
        _ => throw Wrong(key, "must be an array"),
    };

    private static ChatTemplateException Wrong(string key, string problem) => new($"chat message: '{key}' {problem}");
}

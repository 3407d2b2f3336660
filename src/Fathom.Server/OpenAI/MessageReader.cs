// Messages of a chat. Text in parts is joined, because the templates of text models want text; earlier reasoning is read under both of its
// names, DeepSeek's and vLLM's.
using System.Text.Json.Nodes;
using Fathom.Server.Http;
using Fathom.Text;

namespace Fathom.Server.OpenAI;

/// <summary>A last message that begins the answer.</summary>
/// <param name="Content">How the answer begins.</param>
/// <param name="Reasoning">How the reasoning begins, or null.</param>
internal sealed record AnswerPrefix(string Content, string? Reasoning);

/// <summary>Reads messages.</summary>
internal static class MessageReader
{
    private const int MostMessages = 10_000, MostParts = 1_000, MostCalls = 128;

    /// <summary>Reads a conversation.</summary>
    /// <param name="messages">The array.</param>
    public static (IReadOnlyList<ChatMessage> Messages, AnswerPrefix? Prefix) Read(JsonField messages)
    {
        List<ChatMessage> list = [];
        AnswerPrefix? prefix = null;
        foreach (JsonField item in messages.Items(MostMessages))
        {
            if (prefix is not null) throw item.Impossible("follows a message with 'prefix', which must be the last");
            if (!item.IsObject) throw item.Wrong("an object");
            ChatMessage message = Message(item);
            if (item.Get("prefix")?.Boolean() == true)
            {
                if (message.Role != "assistant") throw item.Impossible("has 'prefix', which only a message of the assistant can have");
                prefix = new AnswerPrefix(message.Content ?? "", message.ReasoningContent);
            }
            else
            {
                list.Add(message);
            }
        }

        if (list.Count == 0) throw messages.Impossible("must hold at least one message to be answered");
        return (list, prefix);
    }

    private static ChatMessage Message(JsonField item)
    {
        JsonField roleField = item.Require("role");
        string role = roleField.Text() switch
        {
            "system" or "developer" => "system",
            "user" => "user",
            "assistant" => "assistant",
            "tool" or "function" => "tool",
            _ => throw roleField.Impossible("is not one of system, developer, user, assistant and tool"),
        };
        JsonArray? calls = role == "assistant" && item.Get("tool_calls") is { Length: > 0 } field ? Calls(field) : null;
        string? content = item.Get("content") is { } given ? Content(given) : null;
        if (content is null && calls is null && role != "assistant") throw ApiException.Format($"'{item.Path}' needs the field 'content'", item.Path + ".content");
        return new ChatMessage(role, content ?? (calls is null ? "" : null))
        {
            ReasoningContent = role == "assistant" ? (item.Get("reasoning_content") ?? item.Get("reasoning"))?.Text() : null,
            ToolCalls = calls,
            Name = item.Get("name")?.Text(),
            ToolCallId = role == "tool" ? item.Get("tool_call_id")?.Text() : null,
        };
    }

    private static string Content(JsonField content)
    {
        if (content.IsString) return content.Text();
        if (!content.IsArray) throw content.Wrong("a string or an array of parts");
        return string.Concat(content.Items(MostParts).Select(part =>
        {
            string type = part.Require("type").Text();
            return type is "text" or "input_text" or "output_text" or "refusal"
                ? part.Require(type == "refusal" ? "refusal" : "text").Text()
                : throw part.Impossible($"is of the type '{(type.Length <= 40 ? type : type[..40])}'; this model reads text alone");
        }));
    }

    private static JsonArray Calls(JsonField calls) =>
    [
        .. calls.Items(MostCalls).Select(call =>
        {
            JsonField function = call.Require("function");
            return (JsonNode)new JsonObject
            {
                ["type"] = "function",
                ["id"] = call.Get("id")?.Text(),
                ["function"] = new JsonObject { ["name"] = function.Require("name").Text(), ["arguments"] = function.Get("arguments")?.Text() ?? "{}" },
            };
        }),
    ];
}

// From the messages of Microsoft.Extensions.AI, whose contents are lists of anything, to the four roles that chat templates know.
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.AI;
using Message = Fathom.Text.ChatMessage;

namespace Fathom.Extensions.AI;

/// <summary>Reads messages.</summary>
internal static class MessageReader
{
    // As models write JSON themselves: no escapes where none are needed.
    private static readonly JsonSerializerOptions Plain = new(AIJsonUtilities.DefaultOptions) { WriteIndented = false, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The messages as a template takes them; a message that holds several results becomes as many.</summary>
    /// <param name="messages">Oldest first.</param>
    /// <param name="instructions">Come before them as a system message, or null.</param>
    /// <exception cref="NotSupportedException">A message holds what is not text.</exception>
    public static List<Message> Read(IEnumerable<ChatMessage> messages, string? instructions)
    {
        List<Message> read = string.IsNullOrEmpty(instructions) ? [] : [new Message("system", instructions)];
        foreach (ChatMessage message in messages) read.AddRange(Read(message));
        return read;
    }

    private static IEnumerable<Message> Read(ChatMessage message)
    {
        string role = message.Role.Value;
        if (role is not ("system" or "user" or "assistant" or "tool"))
            throw new NotSupportedException($"a message has the role '{role}'; expected system, user, assistant or tool");
        var results = new List<Message>();
        var calls = new JsonArray();
        string? text = null, reasoning = null;
        foreach (AIContent content in message.Contents)
        {
            switch (content)
            {
                case TextContent part:
                    text += part.Text;
                    break;
                case TextReasoningContent part:
                    reasoning += part.Text;
                    break;
                case FunctionCallContent call:
                    calls.Add(Call(call));
                    break;
                case FunctionResultContent result:
                    results.Add(new Message("tool", Text(result.Result)) { ToolCallId = result.CallId });
                    break;
                case UsageContent:
                    break; // an account of earlier answers, no part of the conversation
                default:
                    throw new NotSupportedException($"a message holds {content.GetType().Name}; the model reads text, reasoning, function calls and their results");
            }
        }

        if (text is not null || calls.Count > 0 || results.Count == 0)
            yield return new Message(role, text ?? (calls.Count > 0 ? null : "")) { ReasoningContent = reasoning, ToolCalls = calls.Count > 0 ? calls : null, Name = message.AuthorName };
        foreach (Message result in results) yield return result;
    }

    private static JsonObject Call(FunctionCallContent call) => new()
    {
        ["type"] = "function",
        ["id"] = call.CallId,
        ["function"] = new JsonObject { ["name"] = call.Name, ["arguments"] = JsonSerializer.Serialize(call.Arguments ?? new Dictionary<string, object?>(), Plain) },
    };

    private static string Text(object? result) => result switch
    {
        null => "",
        string text => text,
        JsonElement { ValueKind: JsonValueKind.String } json => json.GetString()!,
        _ => JsonSerializer.Serialize(result, Plain),
    };
}

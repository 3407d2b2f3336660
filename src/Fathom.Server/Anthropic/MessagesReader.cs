// Requests of Anthropic's Messages API. Its blocks become the messages that templates know: a tool's result is a message of its own, and
// a last message of the assistant begins the answer.
using System.Text.Json.Nodes;
using Fathom.Inference;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Server.OpenAI;
using Fathom.Text;

namespace Fathom.Server.Anthropic;

/// <summary>Reads requests.</summary>
internal static class MessagesReader
{
    private const int MostMessages = 10_000, MostBlocks = 1_000;

    /// <summary>Reads a request.</summary>
    /// <param name="body">The request.</param>
    /// <param name="service">The model.</param>
    /// <param name="counting">Whether tokens are only counted, for which max_tokens is not needed.</param>
    /// <exception cref="ApiException">It is wrong; the message names the field.</exception>
    public static (Dialog Dialog, string Model, bool Stream) Read(JsonField body, ModelService service, bool counting = false)
    {
        string model = service.ResolveModel(body.Get("model")?.Text());
        List<ChatMessage> messages = [];
        if (body.Get("system") is { } system) messages.Add(new ChatMessage("system", Text(system)));
        JsonField list = body.Require("messages");
        foreach (JsonField item in list.Items(MostMessages)) Add(messages, item);
        string? prefix = null, reasoning = null;
        if (messages is [.., { Role: "assistant", ToolCalls: null } last])
        {
            (prefix, reasoning) = (last.Content, last.ReasoningContent);
            messages.RemoveAt(messages.Count - 1);
        }

        if (messages.All(m => m.Role == "system")) throw list.Impossible("must hold a message of the user");
        IReadOnlyList<ToolDefinition> tools = body.Get("tools") is { } field
            ? ToolReader.Distinct([.. field.Items(ToolReader.MostTools).Select(t => ToolReader.Function(t, "input_schema"))], field)
            : [];
        (ToolMode mode, string? name) = Choice(body.Get("tool_choice"), tools);
        var dialog = new Dialog
        {
            Conversation = new ChatConversation
            {
                Messages = messages,
                Prefix = prefix,
                ReasoningPrefix = reasoning,
                Tools = tools,
                ToolMode = mode,
                ToolName = name,
                ParallelCalls = body.Get("tool_choice")?.Get("disable_parallel_tool_use")?.Boolean() != true,
                Thinking = Thinking(body.Get("thinking")),
            },
            Sampling = Sampling(body, service, counting),
            User = body.Get("metadata")?.Get("user_id")?.Text(),
        };
        return (dialog, model, body.Get("stream")?.Boolean() ?? false);
    }

    private static SamplingOptions Sampling(JsonField body, ModelService service, bool counting)
    {
        SamplingOptions options = SamplingReader.Read(body, service.Options.DefaultMaxTokens, service.Engine.Model.Model.Config.VocabSize);
        if (!counting) body.Require("max_tokens");
        return options with { StopSequences = body.Get("stop_sequences") is { } stops ? SamplingReader.Stops(stops) : [] };
    }

    private static bool? Thinking(JsonField? field)
    {
        if (field?.Require("type") is not { } type) return null;
        return type.Text() switch
        {
            "enabled" or "adaptive" => true,
            "disabled" => false,
            _ => throw type.Impossible("is not one of enabled, adaptive and disabled"),
        };
    }

    private static (ToolMode Mode, string? Name) Choice(JsonField? field, IReadOnlyList<ToolDefinition> tools)
    {
        ToolMode usual = tools.Count > 0 ? ToolMode.Auto : ToolMode.None;
        if (field is not { } choice) return (usual, null);
        JsonField type = choice.Require("type");
        return type.Text() switch
        {
            "auto" => (usual, null),
            "none" => (ToolMode.None, null),
            "any" => tools.Count > 0 ? (ToolMode.Required, null) : throw type.Impossible("is any, but there are no tools"),
            "tool" => ToolReader.Named(choice.Require("name"), tools),
            _ => throw type.Impossible("is not one of auto, any, tool and none"),
        };
    }

    private static void Add(List<ChatMessage> messages, JsonField item)
    {
        JsonField role = item.Require("role"), content = item.Require("content");
        bool answer = role.Text() switch
        {
            "user" => false,
            "assistant" => true,
            _ => throw role.Impossible("is not one of user and assistant"),
        };
        if (content.IsString)
        {
            messages.Add(new ChatMessage(answer ? "assistant" : "user", content.Text()));
            return;
        }

        if (!content.IsArray) throw content.Wrong("a string or an array of blocks");
        string text = "", reasoning = "";
        JsonArray calls = [];
        foreach (JsonField block in content.Items(MostBlocks))
        {
            JsonField type = block.Require("type");
            switch (type.Text())
            {
                case "text":
                    text += block.Require("text").Text();
                    break;
                case "thinking" when answer:
                    reasoning += block.Require("thinking").Text();
                    break;
                case "redacted_thinking" when answer:
                    break;
                case "tool_use" when answer:
                    calls.Add(Call(block));
                    break;
                case "tool_result" when !answer:
                    messages.Add(new ChatMessage("tool", block.Get("content") is { } result ? Text(result) : "") { ToolCallId = block.Require("tool_use_id").Text() });
                    break;
                default:
                    throw type.Impossible("is a block that this model does not read here");
            }
        }

        if (answer) messages.Add(new ChatMessage("assistant", text) { ReasoningContent = reasoning.Length > 0 ? reasoning : null, ToolCalls = calls.Count > 0 ? calls : null });
        else if (text.Length > 0 || content.Length == 0) messages.Add(new ChatMessage("user", text));
    }

    private static JsonObject Call(JsonField block) => new()
    {
        ["type"] = "function",
        ["id"] = block.Get("id")?.Text(),
        ["function"] = new JsonObject { ["name"] = block.Require("name").Text(), ["arguments"] = block.Get("input")?.Node().ToJsonString() ?? "{}" },
    };

    /// <summary>A text, or blocks of text.</summary>
    private static string Text(JsonField field)
    {
        if (field.IsString) return field.Text();
        if (!field.IsArray) throw field.Wrong("a string or an array of blocks");
        return string.Concat(field.Items(MostBlocks).Select(block =>
        {
            JsonField type = block.Require("type");
            return type.Text() == "text" ? block.Require("text").Text() : throw type.Impossible("must be text here");
        }));
    }
}

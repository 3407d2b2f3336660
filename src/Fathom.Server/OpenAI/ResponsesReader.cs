// Requests of OpenAI's Responses API. Nothing is stored here, so a conversation is sent whole each time and previous_response_id is refused.
using System.Text.Json.Nodes;
using Fathom.Inference;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Text;

namespace Fathom.Server.OpenAI;

/// <summary>A response request, read.</summary>
/// <param name="Dialog">The conversation.</param>
/// <param name="Model">The name to answer under.</param>
/// <param name="Stream">Whether the answer streams.</param>
/// <param name="Instructions">As given, or null.</param>
/// <param name="Echo">Fields that the response repeats.</param>
internal sealed record ResponsesRequest(Dialog Dialog, string Model, bool Stream, string? Instructions, JsonObject Echo);

/// <summary>Reads requests.</summary>
internal static class ResponsesReader
{
    private const int MostItems = 10_000, MostParts = 1_000;

    /// <summary>Reads a request.</summary>
    /// <exception cref="ApiException">It is wrong; the message names the field.</exception>
    public static ResponsesRequest Read(JsonField body, ModelService service)
    {
        string model = service.ResolveModel(body.Get("model")?.Text());
        if (body.Get("previous_response_id") is { } previous) throw previous.Impossible("cannot be used: responses are not stored; send the conversation as 'input'");
        if (body.Get("background")?.Boolean() == true) throw ApiException.Value("'background' cannot be used: responses are not stored", "background");
        string? instructions = body.Get("instructions")?.Text();
        List<ChatMessage> messages = [];
        if (instructions is not null) messages.Add(new ChatMessage("system", instructions));
        JsonField input = body.Require("input");
        if (input.IsString) messages.Add(new ChatMessage("user", input.Text()));
        else if (input.IsArray) AddItems(messages, input);
        else throw input.Wrong("a string or an array of items");
        if (messages.All(m => m.Role == "system")) throw input.Impossible("must hold a message to be answered");

        IReadOnlyList<ToolDefinition> tools = Tools(body.Get("tools"));
        (ToolMode mode, string? name) = ToolReader.Choice(body.Get("tool_choice"), tools);
        (AnswerFormat format, JsonNode? schema, bool strict) = ChatReader.Format(body.Get("text")?.Get("format"));
        SamplingOptions sampling = SamplingReader.Read(body, service.Options.DefaultMaxTokens, service.Engine.Model.Model.Config.VocabSize);
        if (body.Get("max_output_tokens") is { } most) sampling = sampling with { MaxNewTokens = (int)most.Integer(1, int.MaxValue) };
        var dialog = new Dialog
        {
            Conversation = new ChatConversation
            {
                Messages = messages,
                Tools = tools,
                ToolMode = mode,
                ToolName = name,
                ParallelCalls = body.Get("parallel_tool_calls")?.Boolean() ?? true,
                Thinking = body.Get("reasoning")?.Get("effort") is { } effort ? ChatReader.Effort(effort) : null,
            },
            Format = format,
            Schema = schema,
            StrictSchema = strict,
            FormatField = "text.format",
            MessagesField = "input",
            Sampling = sampling,
            User = SamplingReader.User(body),
            Priority = SamplingReader.Priority(body),
        };
        JsonObject echo = [];
        foreach (string field in (string[])["max_output_tokens", "metadata", "parallel_tool_calls", "reasoning", "temperature", "text", "tool_choice", "tools", "top_p"])
        {
            if (body.Get(field) is { } given) echo[field] = given.Node();
        }

        return new ResponsesRequest(dialog, model, body.Get("stream")?.Boolean() ?? false, instructions, echo);
    }

    private static void AddItems(List<ChatMessage> messages, JsonField input)
    {
        string? reasoning = null;
        foreach (JsonField item in input.Items(MostItems))
        {
            JsonField? type = item.Get("type");
            switch (type?.Text() ?? "message")
            {
                case "message":
                    ChatMessage message = Message(item);
                    messages.Add(message.Role == "assistant" ? message with { ReasoningContent = reasoning } : message);
                    reasoning = null;
                    break;
                case "reasoning":
                    reasoning = item.Get("content") is { IsArray: true } content ? string.Concat(content.Items(MostParts).Select(p => p.Get("text")?.Text() ?? "")) : null;
                    break;
                case "function_call":
                    AddCall(messages, item, reasoning);
                    reasoning = null;
                    break;
                case "function_call_output":
                    messages.Add(new ChatMessage("tool", Text(item.Require("output"))) { ToolCallId = item.Require("call_id").Text() });
                    break;
                default:
                    throw type!.Value.Impossible("is an item that this model does not read");
            }
        }
    }

    // Calls of one turn are items of their own here, and one message for the template.
    private static void AddCall(List<ChatMessage> messages, JsonField item, string? reasoning)
    {
        var call = new JsonObject
        {
            ["type"] = "function",
            ["id"] = item.Require("call_id").Text(),
            ["function"] = new JsonObject { ["name"] = item.Require("name").Text(), ["arguments"] = item.Get("arguments")?.Text() ?? "{}" },
        };
        if (messages is [.., { Role: "assistant" } last])
        {
            JsonArray calls = (JsonArray?)last.ToolCalls?.DeepClone() ?? [];
            calls.Add(call);
            messages[^1] = last with { ToolCalls = calls };
        }
        else
        {
            messages.Add(new ChatMessage("assistant", null) { ToolCalls = [call], ReasoningContent = reasoning });
        }
    }

    private static ChatMessage Message(JsonField item)
    {
        JsonField role = item.Require("role");
        string name = role.Text() switch
        {
            "system" or "developer" => "system",
            "user" => "user",
            "assistant" => "assistant",
            _ => throw role.Impossible("is not one of system, developer, user and assistant"),
        };
        return new ChatMessage(name, Text(item.Require("content")));
    }

    private static string Text(JsonField content)
    {
        if (content.IsString) return content.Text();
        if (!content.IsArray) throw content.Wrong("a string or an array of parts");
        return string.Concat(content.Items(MostParts).Select(part =>
        {
            JsonField type = part.Require("type");
            return type.Text() is "input_text" or "output_text" or "text" ? part.Require("text").Text() : throw type.Impossible("is a part that this model does not read");
        }));
    }

    private static IReadOnlyList<ToolDefinition> Tools(JsonField? tools)
    {
        if (tools is not { } field) return [];
        return ToolReader.Distinct(
            [
                .. field.Items(ToolReader.MostTools).Select(tool =>
                {
                    JsonField type = tool.Require("type");
                    return type.Text() == "function" ? ToolReader.Function(tool) : throw type.Impossible("must be function: there are no built-in tools here");
                }),
            ],
            field);
    }
}

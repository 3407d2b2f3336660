// Chat requests in OpenAI's shape with DeepSeek's additions (api-docs.deepseek.com: thinking mode, prefix completion, tool calls).
using System.Text.Json.Nodes;
using Fathom.Inference;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Http;

namespace Fathom.Server.OpenAI;

/// <summary>A chat request, read.</summary>
/// <param name="Dialog">The conversation.</param>
/// <param name="Model">The name to answer under.</param>
/// <param name="Stream">Whether the answer streams.</param>
/// <param name="StreamUsage">Whether the stream ends with the usage.</param>
internal sealed record ChatRequest(Dialog Dialog, string Model, bool Stream, bool StreamUsage);

/// <summary>Reads chat requests.</summary>
internal static class ChatReader
{
    /// <summary>Reads a request.</summary>
    /// <exception cref="ApiException">It is wrong; the message names the field.</exception>
    public static ChatRequest Read(JsonField body, ModelService service)
    {
        string model = service.ResolveModel(body.Get("model")?.Text());
        (IReadOnlyList<Fathom.Text.ChatMessage> messages, AnswerPrefix? prefix) = MessageReader.Read(body.Require("messages"));
        IReadOnlyList<ToolDefinition> tools = ToolReader.Tools(body.Get("tools"));
        (ToolMode mode, string? name) = ToolReader.Choice(body.Get("tool_choice"), tools);
        (bool stream, bool usage) = SamplingReader.Streaming(body);
        SamplingOptions sampling = SamplingReader.Read(body, service.Options.DefaultMaxTokens, service.Engine.Model.Model.Config.VocabSize);
        (AnswerFormat format, JsonNode? schema, bool strict) = Format(body.Get("response_format"));
        var dialog = new Dialog
        {
            Conversation = new ChatConversation
            {
                Messages = messages,
                Prefix = prefix?.Content,
                ReasoningPrefix = prefix?.Reasoning,
                Tools = tools,
                ToolMode = mode,
                ToolName = name,
                ParallelCalls = body.Get("parallel_tool_calls")?.Boolean() ?? true,
                Thinking = Thinking(body),
                Variables = Variables(body.Get("chat_template_kwargs")),
            },
            Format = format,
            Schema = schema,
            StrictSchema = strict,
            Sampling = sampling with { LogProbs = LogProbs(body) },
            Choices = (int)(body.Get("n")?.Integer(1, service.Options.MaxChoices) ?? 1),
            User = SamplingReader.User(body),
            Priority = SamplingReader.Priority(body),
        };
        return new ChatRequest(dialog, model, stream, usage);
    }

    /// <summary>text, json_object, or json_schema with its schema.</summary>
    public static (AnswerFormat Format, JsonNode? Schema, bool Strict) Format(JsonField? field)
    {
        if (field is not { } format) return (AnswerFormat.Text, null, false);
        JsonField type = format.Require("type");
        switch (type.Text())
        {
            case "text":
                return (AnswerFormat.Text, null, false);
            case "json_object":
                return (AnswerFormat.Json, null, false);
            case "json_schema":
                JsonField wrapped = format.Get("json_schema") ?? format; // responses have the schema beside the type
                JsonField schema = wrapped.Require("schema");
                return (AnswerFormat.Schema, schema.IsObject ? schema.Node() : throw schema.Wrong("an object"), wrapped.Get("strict")?.Boolean() ?? false);
            default:
                throw type.Impossible("is not one of text, json_object and json_schema");
        }
    }

    private static int? LogProbs(JsonField body)
    {
        bool wanted = body.Get("logprobs")?.Boolean() ?? false;
        if (body.Get("top_logprobs") is not { } top) return wanted ? 0 : null;
        int count = (int)top.Integer(0, SamplingOptions.MostLogProbs);
        return wanted ? count : count == 0 ? null : throw top.Impossible("needs 'logprobs' to be true");
    }

    private static bool? Thinking(JsonField body)
    {
        if (body.Get("thinking")?.Require("type") is { } type)
        {
            return type.Text() switch
            {
                "enabled" => true,
                "disabled" => false,
                _ => throw type.Impossible("is not one of enabled and disabled"),
            };
        }

        return body.Get("reasoning_effort") is { } effort ? Effort(effort) : null;
    }

    /// <summary>How much reasoning is asked for: a model either reasons or does not.</summary>
    public static bool Effort(JsonField effort) => effort.Text() switch
    {
        "none" => false,
        "minimal" or "low" or "medium" or "high" or "xhigh" or "max" or "ultra" => true,
        _ => throw effort.Impossible("is not one of none, minimal, low, medium, high, xhigh, max and ultra"),
    };

    private static JsonObject? Variables(JsonField? field) => field is not { } given ? null : given.IsObject ? (JsonObject)given.Node() : throw given.Wrong("an object");
}

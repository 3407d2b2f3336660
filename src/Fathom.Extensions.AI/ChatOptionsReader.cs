// Every field of ChatOptions, honoured or refused by name. Refused: ConversationId (the client keeps no conversations),
// AllowBackgroundResponses and ContinuationToken (answers live in this process), tools other than functions, and a summary of the reasoning.
// All levels of Reasoning.Effort but None mean the same: the model reasons or not.
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Inference;
using Microsoft.Extensions.AI;

namespace Fathom.Extensions.AI;

/// <summary>Reads options for one model. Safe for many threads.</summary>
internal sealed class ChatOptionsReader(string modelName)
{
    private const int DefaultMaxOutputTokens = 4096;

    /// <summary>Reads a call.</summary>
    /// <exception cref="NotSupportedException">Something cannot be honoured.</exception>
    /// <exception cref="ArgumentException">Something has a value that is not possible.</exception>
    public ChatRequest Read(IEnumerable<ChatMessage> messages, ChatOptions? options, IChatClient client)
    {
        options ??= new ChatOptions();
        Refuse(options);
        (ToolMode mode, string? function) = Mode(options.ToolMode);
        var conversation = new ChatConversation
        {
            Messages = MessageReader.Read(messages, options.Instructions),
            Tools = [.. (options.Tools ?? []).Select(Tool)],
            ToolMode = mode,
            ToolName = function,
            ParallelCalls = options.AllowMultipleToolCalls ?? true,
            Thinking = options.Reasoning?.Effort is { } effort ? effort != ReasoningEffort.None : null,
        };
        if (conversation.Messages.Count == 0) throw new ArgumentException("there are no messages to answer", nameof(messages));
        if (mode is ToolMode.Required or ToolMode.Named && !conversation.CallsTools) throw new ArgumentException("ToolMode requires a call, but Tools has no function", nameof(options));
        if (function is not null && conversation.Tools.All(t => t.Name != function)) throw new ArgumentException($"ToolMode requires the function '{function}', which is not among Tools", nameof(options));
        return AdditionalOptions.Apply(options.AdditionalProperties, new ChatRequest(conversation, Sampling(options, client))
        {
            Answer = options.ResponseFormat is ChatResponseFormatJson format ? new JsonAnswer(format.Schema) : null,
            ShowReasoning = options.Reasoning?.Output != ReasoningOutput.None,
        });
    }

    private void Refuse(ChatOptions options)
    {
        if (options.ConversationId is not null) throw new NotSupportedException("ConversationId is not supported: conversations are not kept; send all messages each time");
#pragma warning disable MEAI001 // these two may still change; a caller who sets them must be told all the same
        if (options.AllowBackgroundResponses == true) throw new NotSupportedException("AllowBackgroundResponses is not supported: an answer ends with its request");
        if (options.ContinuationToken is not null) throw new NotSupportedException("ContinuationToken is not supported: an answer ends with its request");
#pragma warning restore MEAI001
        if (options.Reasoning?.Output == ReasoningOutput.Summary) throw new NotSupportedException("Reasoning.Output cannot be Summary: the model's reasoning comes in full, or with None not at all");
        if (options.ModelId is { } id && id != modelName) throw new ArgumentException($"ModelId is '{id}'; this client has the model '{modelName}'", nameof(options));
    }

    private static SamplingOptions Sampling(ChatOptions options, IChatClient client)
    {
        SamplingOptions basis = options.RawRepresentationFactory?.Invoke(client) switch
        {
            null => new SamplingOptions { MaxNewTokens = DefaultMaxOutputTokens, Seed = (ulong)Random.Shared.NextInt64() },
            SamplingOptions given => given,
            object other => throw new NotSupportedException($"RawRepresentationFactory gave {other.GetType().Name}; this client takes SamplingOptions"),
        };
        return basis with
        {
            Temperature = options.Temperature ?? basis.Temperature,
            TopP = options.TopP ?? basis.TopP,
            TopK = options.TopK ?? basis.TopK,
            FrequencyPenalty = options.FrequencyPenalty ?? basis.FrequencyPenalty,
            PresencePenalty = options.PresencePenalty ?? basis.PresencePenalty,
            Seed = options.Seed is { } seed ? unchecked((ulong)seed) : basis.Seed,
            MaxNewTokens = options.MaxOutputTokens ?? basis.MaxNewTokens,
            StopSequences = options.StopSequences is { } stops ? [.. stops] : basis.StopSequences,
        };
    }

    private static ToolDefinition Tool(AITool tool) => tool is AIFunctionDeclaration function
        ? new ToolDefinition(function.Name, function.Description, Parameters(function), function.AdditionalProperties.TryGetValue("strict", out object? strict) && strict is true)
        : throw new NotSupportedException($"Tools has {tool.GetType().Name} '{tool.Name}'; the model calls functions only (AIFunction)");

    private static JsonObject? Parameters(AIFunctionDeclaration function) =>
        function.JsonSchema.ValueKind == JsonValueKind.Object ? JsonObject.Create(function.JsonSchema) : null;

    private static (ToolMode Mode, string? Function) Mode(ChatToolMode? mode) => mode switch
    {
        null or AutoChatToolMode => (ToolMode.Auto, null),
        NoneChatToolMode => (ToolMode.None, null),
        RequiredChatToolMode { RequiredFunctionName: { } name } => (ToolMode.Named, name),
        RequiredChatToolMode => (ToolMode.Required, null),
        _ => throw new NotSupportedException($"ToolMode is {mode.GetType().Name}; expected Auto, None or Required"),
    };
}

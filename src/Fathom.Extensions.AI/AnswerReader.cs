// From the engine's pieces to the updates of a streamed response. Text and reasoning are passed on as they come; a call is given whole, when
// its arguments are complete, because FunctionCallContent holds parsed arguments.
using System.Text;
using System.Text.Json;
using Fathom.Inference;
using Microsoft.Extensions.AI;

namespace Fathom.Extensions.AI;

/// <summary>Reads one answer.</summary>
internal sealed class AnswerReader(ChatPrompt prompt, ChatRequest request, IReadOnlyList<string> dropped, AnswerJson json, string? model)
{
    private readonly AnswerParser parser = new(prompt.Start, prompt.CallName, request.Conversation.CallsTools, dropped, json);
    private readonly string id = $"chatcmpl-{Guid.NewGuid():N}";
    private readonly DateTimeOffset created = DateTimeOffset.UtcNow;
    private readonly List<AIContent> ready = [];
    private readonly StringBuilder arguments = new();
    private string? callName;
    private int calls;
    private int reasoningTokens;

    /// <summary>Takes a piece.</summary>
    /// <returns>What it completes.</returns>
    public IEnumerable<ChatResponseUpdate> Take(GenerationPiece piece)
    {
        if (parser.InReasoning) reasoningTokens += piece.Tokens.Count;
        if (piece.Text.Length > 0) parser.Push(piece.Text, Give);
        return Ready();
    }

    /// <summary>Ends the answer.</summary>
    /// <returns>What was held back, and the account.</returns>
    public IEnumerable<ChatResponseUpdate> End(GenerationResult result)
    {
        parser.End(Give);
        CompleteCall();
        ready.Add(new UsageContent(new UsageDetails
        {
            InputTokenCount = result.PromptTokens,
            OutputTokenCount = result.NewTokens,
            TotalTokenCount = result.PromptTokens + result.NewTokens,
            CachedInputTokenCount = result.CachedTokens,
            ReasoningTokenCount = reasoningTokens,
        }));
        ChatFinishReason reason = result.Reason == FinishReason.Length ? ChatFinishReason.Length : calls > 0 ? ChatFinishReason.ToolCalls : ChatFinishReason.Stop;
        return Ready(reason);
    }

    private void Give(AnswerPart part, string text, int call)
    {
        switch (part)
        {
            case AnswerPart.Content:
                ready.Add(new TextContent(text));
                break;
            case AnswerPart.Reasoning:
                if (request.ShowReasoning) ready.Add(new TextReasoningContent(text));
                break;
            case AnswerPart.CallStart:
                CompleteCall();
                callName = text;
                break;
            case AnswerPart.CallArguments:
                arguments.Append(text);
                break;
        }
    }

    private void CompleteCall()
    {
        if (callName is not { } name) return;
        string json = arguments.ToString();
        callName = null;
        arguments.Clear();
        calls++;
        // Arguments that are not a JSON object are the caller's to see: the content then holds the exception.
        ready.Add(FunctionCallContent.CreateFromParsedArguments(json, $"call_{Guid.NewGuid():N}", name, static text =>
            text.Length == 0 ? null : JsonSerializer.Deserialize<Dictionary<string, object?>>(text, AIJsonUtilities.DefaultOptions)));
    }

    // Contents of different kinds go in updates of their own, in order.
    private List<ChatResponseUpdate> Ready(ChatFinishReason? reason = null)
    {
        List<ChatResponseUpdate> updates = [.. ready.Select(content => new ChatResponseUpdate(ChatRole.Assistant, [content])
        {
            ResponseId = id,
            MessageId = id,
            ModelId = model,
            CreatedAt = created,
        })];
        if (reason is not null) updates[^1].FinishReason = reason;
        ready.Clear();
        return updates;
    }
}

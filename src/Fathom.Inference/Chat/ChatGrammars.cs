// What the answer to a conversation is held to: the JSON that was asked for, calls whose arguments follow their functions' schemas, or
// either. A model that may call or not, whose functions are not strict and whose text is free, is left alone. Compiling a grammar takes
// milliseconds and megabytes, and clients send the same functions and schemas again and again, so the latest are kept.
using System.Text;
using System.Text.Json;
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>What an answer is held to.</summary>
/// <param name="Grammar">The text; each answer takes a constraint of its own from it.</param>
/// <param name="Json">What in it is JSON, for the parser.</param>
public sealed record AnswerGrammar(TokenGrammar Grammar, AnswerJson Json);

/// <summary>Compiles what answers are held to, for one model. Safe for many threads.</summary>
/// <param name="model">With a tokenizer.</param>
public sealed class ChatGrammars(LoadedModel model)
{
    private const int MostKept = 64;
    private readonly Dictionary<string, AnswerGrammar> kept = new(StringComparer.Ordinal);
    private readonly Queue<string> order = new();
    private readonly Lock gate = new();

    /// <summary>What the answer to a conversation is held to, or null for nothing.</summary>
    /// <param name="conversation">With its functions and whether they are called.</param>
    /// <param name="prompt">Made of it, which may have begun the reasoning or a call.</param>
    /// <param name="answer">The JSON that text must be; null for anything.</param>
    /// <exception cref="ToolFunctionException">A function's schema cannot be kept.</exception>
    /// <exception cref="FathomException">The answer's schema cannot be kept, or the model has no tokenizer.</exception>
    public AnswerGrammar? Of(ChatConversation conversation, ChatPrompt prompt, JsonAnswer? answer)
    {
        bool tools = conversation.CallsTools, required = conversation.ToolMode is ToolMode.Required or ToolMode.Named;
        if (answer is null && !(tools && (required || !conversation.ParallelCalls || conversation.Tools.Any(t => t.Strict)))) return null;
        string key = Key(conversation, prompt, answer);
        lock (gate)
        {
            if (kept.TryGetValue(key, out AnswerGrammar? known)) return known;
        }

        AnswerGrammar grammar = tools ? Calls(conversation, prompt, answer) : Document(prompt, answer!);
        lock (gate)
        {
            if (kept.TryAdd(key, grammar)) order.Enqueue(key);
            if (order.Count > MostKept) kept.Remove(order.Dequeue());
        }

        return grammar;
    }

    private AnswerGrammar Document(ChatPrompt prompt, JsonAnswer answer)
    {
        bool reasons = prompt.Start == AnswerStart.Reasoning;
        TokenGrammar grammar = answer.Schema is { } schema
            ? JsonConstraints.FromSchema(model.RequireTokenizer(), schema, answer.Strict, [.. model.EosIds], reasons)
            : JsonConstraints.AnyJson(model.RequireTokenizer(), [.. model.EosIds], reasons);
        return new AnswerGrammar(grammar, AnswerJson.Content);
    }

    private AnswerGrammar Calls(ChatConversation conversation, ChatPrompt prompt, JsonAnswer? answer)
    {
        bool named = conversation.ToolMode == ToolMode.Named, required = named || conversation.ToolMode == ToolMode.Required;
        ToolFunction[] functions =
        [
            .. conversation.Tools.Where(t => !named || t.Name == conversation.ToolName)
                .Select(t => new ToolFunction(t.Name, t.Parameters is { } schema ? JsonElement.Parse(schema.ToJsonString()) : null, t.Strict)),
        ];
        var form = new ToolCallForm(prompt.Start, prompt.CallName, model.ChatTemplate is { } template && ToolPrompt.IsShortForm(template), answer);
        TokenGrammar grammar = JsonConstraints.ToolCalls(
            model.RequireTokenizer(), functions, required ? ToolUse.Required : ToolUse.Auto, conversation.ParallelCalls && !named, [.. model.EosIds], form);
        return new AnswerGrammar(grammar, AnswerJson.Arguments | (answer is null || required ? AnswerJson.None : AnswerJson.Content));
    }

    /// <summary>All that a grammar depends on, each part with its length before it.</summary>
    private static string Key(ChatConversation conversation, ChatPrompt prompt, JsonAnswer? answer)
    {
        var key = new StringBuilder($"{prompt.Start} {conversation.ToolMode} {conversation.ParallelCalls} {answer?.Strict} ");
        Add(prompt.CallName);
        Add(conversation.ToolName);
        Add(answer?.Schema is { } schema ? schema.GetRawText() : null);
        foreach (ToolDefinition tool in conversation.CallsTools ? conversation.Tools : [])
        {
            key.Append(tool.Strict);
            Add(tool.Name);
            Add(tool.Parameters?.ToJsonString());
        }

        return key.ToString();

        void Add(string? part) => key.Append(part?.Length ?? -1).Append(':').Append(part);
    }
}

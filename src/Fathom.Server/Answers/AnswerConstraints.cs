// Structured output: what a request asks of its text becomes a grammar over the vocabulary. Compiling one takes milliseconds and megabytes,
// and clients send the same schema again and again, so the latest are kept.
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Server.Http;
using Fathom.Text;

namespace Fathom.Server.Answers;

/// <summary>Makes the constraints of requests. Safe for many threads.</summary>
/// <param name="model">With a tokenizer.</param>
internal sealed class AnswerConstraints(LoadedModel model)
{
    private const int MostKept = 64;
    private const string AnyObject = "";
    private readonly Tokenizer tokenizer = model.RequireTokenizer();
    private readonly Dictionary<string, TokenGrammar> kept = new(StringComparer.Ordinal);
    private readonly Queue<string> order = new();
    private readonly Lock gate = new();

    /// <summary>What restricts the answers to a request, or null.</summary>
    /// <param name="dialog">The request.</param>
    /// <param name="prompt">Its prompt, which may have begun the reasoning or a call.</param>
    /// <returns>Makes a constraint for each answer.</returns>
    /// <exception cref="ApiException">What is asked for cannot be done; the message names the field.</exception>
    public Func<ITokenConstraint>? For(Dialog dialog, ChatPrompt prompt)
    {
        TokenGrammar? grammar = Arguments(dialog.Conversation, prompt) ?? Format(dialog);
        if (grammar is null) return null;
        if (prompt.Start != AnswerStart.Reasoning) return grammar.Begin;
        int end = tokenizer.TryGetId(AnswerMarks.EndThink)
            ?? throw ApiException.Value($"'{dialog.FormatField}' does not go with reasoning here: the model has no token for the end of it", dialog.FormatField);
        return () => new AfterReasoning(grammar.Begin(), end, model.EosIds);
    }

    /// <summary>Arguments of a call that the prompt has begun are a document of their own.</summary>
    private TokenGrammar? Arguments(ChatConversation conversation, ChatPrompt prompt)
    {
        if (!conversation.CallsTools) return null;
        if (prompt.Start == AnswerStart.CallArguments)
        {
            int index = conversation.Tools.ToList().FindIndex(t => t.Name == prompt.CallName);
            ToolDefinition tool = conversation.Tools[index];
            return Grammar(tool.Parameters, tool.Strict, $"tools[{index}]");
        }

        int strict = conversation.Tools.ToList().FindIndex(t => t.Strict);
        return strict < 0 ? null : throw ApiException.Value("'strict' is kept where 'tool_choice' names the function; otherwise it cannot be promised here", $"tools[{strict}].function.strict");
    }

    private TokenGrammar? Format(Dialog dialog)
    {
        if (dialog.Format == AnswerFormat.Text) return null;
        if (dialog.Conversation.Prefix is { Length: > 0 }) throw ApiException.Value($"'{dialog.FormatField}' does not go with a 'prefix': the document begins with the answer", dialog.FormatField);
        return Grammar(dialog.Format == AnswerFormat.Json ? null : dialog.Schema, dialog.StrictSchema, dialog.FormatField);
    }

    /// <summary>The grammar of a schema, or of any object.</summary>
    private TokenGrammar Grammar(JsonNode? schema, bool strict, string field)
    {
        string text = schema is null ? AnyObject : (strict ? "!" : "?") + schema.ToJsonString();
        lock (gate)
        {
            if (kept.TryGetValue(text, out TokenGrammar? known)) return known;
        }

        TokenGrammar grammar;
        try
        {
            grammar = schema is null
                ? JsonConstraints.AnyJson(tokenizer, [.. model.EosIds])
                : JsonConstraints.FromSchema(tokenizer, JsonSerializer.SerializeToElement(schema, JsonTypes.Default.JsonNode), strict, [.. model.EosIds]);
        }
        catch (FathomException error)
        {
            throw ApiException.Value(error.Message, field);
        }

        lock (gate)
        {
            if (kept.TryAdd(text, grammar)) order.Enqueue(text);
            if (order.Count > MostKept) kept.Remove(order.Dequeue());
        }

        return grammar;
    }

    /// <summary>Lets the model reason freely, but not end before it has answered.</summary>
    private sealed class AfterReasoning(ITokenConstraint answer, int end, IReadOnlyList<int> eosIds) : ITokenConstraint
    {
        private bool answering;

        public bool IsComplete => answering && answer.IsComplete;

        public void Mask(Span<ulong> allowed)
        {
            if (answering)
            {
                answer.Mask(allowed);
                return;
            }

            foreach (int id in eosIds) allowed[id >> 6] &= ~(1ul << id);
        }

        public void Accept(int token)
        {
            if (answering) answer.Accept(token);
            else answering = token == end;
        }
    }
}

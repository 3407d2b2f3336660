// What the text of an answer is held to: the response format, or the schema of a function whose call the prompt has begun. A model that
// chooses whether and what to call writes freely.
using System.Text.Json;
using Fathom.Inference;
using Fathom.Text;
using Microsoft.Extensions.AI;

namespace Fathom.Extensions.AI;

/// <summary>Compiles what answers are held to, for one model. Safe for many threads.</summary>
internal sealed class ChatGrammars(Tokenizer tokenizer, IReadOnlyList<int> eosIds)
{
    /// <summary>The grammar of an answer, or null.</summary>
    /// <exception cref="NotSupportedException">What is asked for cannot be kept.</exception>
    public TokenGrammar? Of(ChatRequest request, ChatPrompt prompt)
    {
        if (request.Format is { } format)
        {
            if (prompt.Start == AnswerStart.Reasoning)
                throw new NotSupportedException("ResponseFormat asks for JSON, but the model's template begins the answer with reasoning, which the format would not let through");
            return format.Schema is { } schema ? JsonConstraints.FromSchema(tokenizer, schema, strict: false, [.. eosIds]) : JsonConstraints.AnyJson(tokenizer, [.. eosIds]);
        }

        if (!request.Conversation.CallsTools) return null;
        if (prompt.Start == AnswerStart.CallArguments)
        {
            ToolDefinition tool = request.Conversation.Tools.First(t => t.Name == prompt.CallName);
            return tool.Parameters is { } parameters
                ? JsonConstraints.FromSchema(tokenizer, JsonSerializer.SerializeToElement(parameters, AIJsonUtilities.DefaultOptions), tool.Strict, [.. eosIds])
                : JsonConstraints.AnyJson(tokenizer, [.. eosIds]);
        }

        return request.Conversation.Tools.FirstOrDefault(t => t.Strict) is { } strict
            ? throw new NotSupportedException($"'strict' of the function '{strict.Name}' is kept where ToolMode names the function; otherwise it cannot be promised")
            : null;
    }
}

// Structured output: what a request asks of its text, and whose fault it is where that cannot be kept.
using System.Text.Json;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Server.Http;

namespace Fathom.Server.Answers;

/// <summary>Makes the constraints of requests. Safe for many threads.</summary>
/// <param name="model">With a tokenizer.</param>
internal sealed class AnswerConstraints(LoadedModel model)
{
    private readonly ChatGrammars grammars = new(model);

    /// <summary>What restricts the answers to a request, or null.</summary>
    /// <param name="dialog">The request.</param>
    /// <param name="prompt">Its prompt, which may have begun the reasoning or a call.</param>
    /// <exception cref="ApiException">What is asked for cannot be done; the message names the field.</exception>
    public AnswerGrammar? For(Dialog dialog, ChatPrompt prompt)
    {
        JsonAnswer? answer = dialog.Format switch
        {
            AnswerFormat.Text => null,
            AnswerFormat.Json => new JsonAnswer(),
            _ => new JsonAnswer(JsonSerializer.SerializeToElement(dialog.Schema!, JsonTypes.Default.JsonNode), dialog.StrictSchema),
        };
        if (answer is not null && dialog.Conversation.Prefix is { Length: > 0 })
            throw ApiException.Value($"'{dialog.FormatField}' does not go with a 'prefix': the document begins with the answer", dialog.FormatField);
        try
        {
            return grammars.Of(dialog.Conversation, prompt, answer);
        }
        catch (ToolFunctionException error)
        {
            int index = dialog.Conversation.Tools.ToList().FindIndex(t => t.Name == error.Function);
            throw ApiException.Value(error.Message, $"tools[{index}]");
        }
        catch (FathomException error)
        {
            throw ApiException.Value(error.Message, answer is null ? "tools" : dialog.FormatField);
        }
    }
}

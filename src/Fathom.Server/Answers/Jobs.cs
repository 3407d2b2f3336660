// From a conversation to the texts that the engine generates for it.
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Server.OpenAI;

namespace Fathom.Server.Answers;

/// <summary>Makes jobs.</summary>
internal static class Jobs
{
    /// <summary>One job an answer.</summary>
    /// <exception cref="ApiException">The conversation cannot be rendered, or asks for what is not there.</exception>
    public static IReadOnlyList<Job> Of(Dialog dialog, ModelService service)
    {
        ChatPrompt prompt = Prompt(dialog, service);
        AnswerGrammar? grammar = service.RequireConstraints().For(dialog, prompt);
        return [.. Enumerable.Range(0, dialog.Choices).Select(i => new Job(prompt, SamplingReader.ForChoice(dialog.Sampling, i)) { Grammar = grammar, Tools = dialog.Conversation.CallsTools })];
    }

    /// <summary>The tokens before the answer.</summary>
    /// <exception cref="ApiException">The conversation cannot be rendered.</exception>
    public static ChatPrompt Prompt(Dialog dialog, ModelService service)
    {
        ChatPromptBuilder prompts = service.RequirePrompts();
        return Render(dialog.MessagesField, () => prompts.Build(dialog.Conversation));
    }

    /// <summary>Makes a prompt; what the template refuses is the fault of a field.</summary>
    public static T Render<T>(string field, Func<T> render)
    {
        try
        {
            return render();
        }
        catch (FathomException error)
        {
            throw ApiException.Format(error.Message, field);
        }
    }
}

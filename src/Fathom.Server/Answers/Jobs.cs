// From a conversation to the texts that the engine generates for it.
using Fathom.Inference;
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
        Prompt prompt = service.RequirePrompts().Build(dialog);
        Func<ITokenConstraint>? constraint = Constraint(dialog);
        bool tools = dialog.Tools.Count > 0 && dialog.ToolMode != ToolMode.None;
        return [.. Enumerable.Range(0, dialog.Choices).Select(i => new Job(prompt, SamplingReader.ForChoice(dialog.Sampling, i)) { Constraint = constraint, Tools = tools })];
    }

    private static Func<ITokenConstraint>? Constraint(Dialog dialog)
    {
        if (dialog.Format != AnswerFormat.Text) throw ApiException.Format($"'{dialog.FormatField}' asks for structured output, which this server does not offer", dialog.FormatField);
        if (dialog.Tools.Any(t => t.Strict) && dialog.ToolMode != ToolMode.None)
            throw ApiException.Format("'strict' asks for structured output, which this server does not offer", $"tools[{dialog.Tools.ToList().FindIndex(t => t.Strict)}].function.strict");
        return null;
    }
}

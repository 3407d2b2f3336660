// Tells a model which functions it has, for templates that know nothing of tools, as those of V3 and R1. Templates that do (their source
// names the variable tools) get the schemas and say it their own way.
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.RegularExpressions;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>Writes the part of the system message that describes functions, and the beginning of a call that must be made.</summary>
internal static partial class ToolPrompt
{
    private static readonly JsonSerializerOptions Plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Whether a template writes calls as V3.1 does.</summary>
    public static bool IsShortForm(ChatTemplate template) =>
        template.Source.Contains(AnswerMarks.Separator, StringComparison.Ordinal) && !template.Source.Contains("```json", StringComparison.Ordinal);

    /// <summary>Whether a template describes functions itself.</summary>
    public static bool KnowsTools(ChatTemplate template) => ToolsVariable.IsMatch(template.Source);

    /// <summary>The description.</summary>
    /// <param name="tools">The functions.</param>
    /// <param name="mode">Whether one must be called.</param>
    /// <param name="shortForm">Whether calls are written as V3.1 does.</param>
    /// <param name="protect">Breaks control tokens in what the client wrote.</param>
    public static string Describe(IReadOnlyList<ToolDefinition> tools, ToolMode mode, bool shortForm, Func<string, string> protect)
    {
        var text = new StringBuilder("## Tools\nThese functions can be called:\n");
        foreach (ToolDefinition tool in tools)
        {
            text.Append("\n### ").Append(protect(tool.Name)).Append('\n');
            if (!string.IsNullOrEmpty(tool.Description)) text.Append(protect(tool.Description)).Append('\n');
            text.Append("Arguments, as a JSON schema: ").Append(protect(tool.Parameters?.ToJsonString(Plain) ?? "{}")).Append('\n');
        }

        text.Append(mode == ToolMode.Auto ? "\nWhere a function helps, call it" : "\nCall a function").Append(" by writing exactly this, with its name and arguments:\n");
        return text.Append(AnswerMarks.Calls).Append(Opening("NAME", shortForm)).Append("{\"argument\": \"value\"}").Append(shortForm ? "" : "\n```")
            .Append(AnswerMarks.EndCall).Append(AnswerMarks.EndCalls).ToString();
    }

    /// <summary>The beginning of a call.</summary>
    /// <param name="name">The function, or null to let the model choose.</param>
    /// <param name="shortForm">Whether calls are written as V3.1 does.</param>
    public static string Opening(string? name, bool shortForm) => (name, shortForm) switch
    {
        (null, true) => AnswerMarks.Call,
        (null, false) => $"{AnswerMarks.Call}function{AnswerMarks.Separator}",
        (_, true) => $"{AnswerMarks.Call}{name}{AnswerMarks.Separator}",
        (_, false) => $"{AnswerMarks.Call}function{AnswerMarks.Separator}{name}\n{AnswerMarks.Fence}",
    };

    [GeneratedRegex(@"\btools\b")]
    private static partial Regex ToolsVariable { get; }
}

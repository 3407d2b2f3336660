// The one exception that chat templates throw. A template is data that comes with a model, so whatever is wrong
// with it, or with the messages given to it, must end here and never in a crash of the process.
namespace Fathom.Text;

/// <summary>A chat template could not be read or rendered. The message is one line that names the template and the place.</summary>
public sealed class ChatTemplateException : Exception
{
    /// <summary>Creates the error of a file or an argument, where no place in a template applies.</summary>
    /// <param name="message">One line: what was being done, what is wrong, what to do.</param>
    /// <param name="innerException">The error behind this one, if any.</param>
    public ChatTemplateException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }

    internal ChatTemplateException(string templateName, int line, int column, string problem, bool raisedByTemplate = false)
        : base($"chat template '{templateName}', line {line}, column {column}: {OneLine(problem)}")
    {
        Line = line;
        Column = column;
        RaisedByTemplate = raisedByTemplate;
    }

    /// <summary>The line in the template, from 1; 0 when the error has no place in a template.</summary>
    public int Line { get; }

    /// <summary>The column in that line in UTF-16 units, from 1; 0 when the error has no place in a template.</summary>
    public int Column { get; }

    /// <summary>
    /// Whether the template itself refused its input with <c>raise_exception(…)</c>, which means that the messages are
    /// at fault (a server answers 400), and not the template.
    /// </summary>
    public bool RaisedByTemplate { get; }

    // Problems quote keys and messages of the input, which may hold anything.
    private static string OneLine(string problem)
    {
        if (problem.Length > 1000) problem = problem[..1000] + "…";
        return problem.ReplaceLineEndings(" ");
    }
}

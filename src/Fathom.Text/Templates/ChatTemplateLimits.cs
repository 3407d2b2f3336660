// Bounds on what one rendering may use. Templates are small programs that arrive with model files; these bounds turn
// an endless loop, a runaway recursion or a doubling string into an error message.
namespace Fathom.Text;

/// <summary>What one rendering may use before it is stopped with a <see cref="ChatTemplateException"/>.</summary>
public sealed record ChatTemplateLimits
{
    /// <summary>Limits that published templates stay far below.</summary>
    public static ChatTemplateLimits Default { get; } = new();

    /// <summary>
    /// Work allowed, in steps. Evaluating one expression or statement is a step, and so is making 32 characters or
    /// one list item; a round of a loop is 4.
    /// </summary>
    public long MaxSteps { get; init; } = 20_000_000;

    /// <summary>How deeply expressions, statements and macro calls may nest while running; at most 1000.</summary>
    public int MaxDepth { get; init; } = 500;

    /// <summary>Longest text, output or intermediate, in UTF-16 units. The default is 64 MiB of memory.</summary>
    public int MaxTextLength { get; init; } = 32 * 1024 * 1024;
}

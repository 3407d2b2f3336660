// The state of one rendering: what is left of the limits, and where in the template evaluation stands, so that any
// helper can report an error with its place. One run belongs to one thread.
using System.Runtime.CompilerServices;

namespace Fathom.Text.Templates;

internal sealed class RenderRun(string templateName, ChatTemplateLimits limits, DateTime? now)
{
    private long _stepsLeft = limits.MaxSteps;
    private int _depth;

    /// <summary>Where evaluation stands; the place of any error.</summary>
    public SourcePosition Position { get; set; }

    /// <summary>The longest text allowed, in UTF-16 units.</summary>
    public int MaxTextLength => limits.MaxTextLength;

    /// <summary>The time that <c>strftime_now</c> shows.</summary>
    public DateTime Now => now ?? DateTime.Now;

    public ChatTemplateException Error(string problem) => new(templateName, Position.Line, Position.Column, problem);

    /// <summary>The error by which a template refuses its input.</summary>
    public ChatTemplateException Refusal(string message) =>
        new(templateName, Position.Line, Position.Column, message, raisedByTemplate: true);

    /// <summary>The error of using an undefined value.</summary>
    public ChatTemplateException Error(Undefined undefined) => Error(undefined.Explanation);

    /// <summary>Counts work against the limit.</summary>
    public void Charge(long steps)
    {
        _stepsLeft -= steps;
        if (_stepsLeft < 0) throw Error($"the template was stopped after {limits.MaxSteps} steps; it may loop without end (limit MaxSteps)");
    }

    /// <summary>Counts the making of list items.</summary>
    public void ChargeItems(long count) => Charge(1 + count);

    /// <summary>Counts the making or scanning of text.</summary>
    public void ChargeText(long length) => Charge(1 + (length / 32));

    /// <summary>Enters one level of nesting; paired with <see cref="Leave"/> unless an error ends the run.</summary>
    public void Enter()
    {
        Charge(1);
        if (++_depth > limits.MaxDepth || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw Error($"the template was stopped at a depth of {_depth}; a macro may call itself without end (limit MaxDepth)");
        }
    }

    public void Leave() => _depth--;

    /// <summary>Counts a text that was made, and passes it on.</summary>
    public string Made(string text)
    {
        CheckTextLength(text.Length);
        ChargeText(text.Length);
        return text;
    }

    /// <summary>Refuses a text that would be longer than allowed, before it is made.</summary>
    public void CheckTextLength(long length)
    {
        if (length > limits.MaxTextLength)
        {
            throw Error($"the template was stopped at a text of more than {limits.MaxTextLength} characters (limit MaxTextLength)");
        }
    }
}

// The variable `loop` of a for loop. The items are known before the first iteration, so length and last are exact.
using System.Numerics;

namespace Fathom.Text.Templates;

internal sealed class LoopState(IReadOnlyList<object> items)
{
    private object? _lastChanged;

    public int Index { get; set; }

    /// <summary>An attribute of <c>loop</c>; undefined when there is none of that name.</summary>
    public object Attribute(string name) => name switch
    {
        "index" => (BigInteger)(Index + 1),
        "index0" => (BigInteger)Index,
        "revindex" => (BigInteger)(items.Count - Index),
        "revindex0" => (BigInteger)(items.Count - Index - 1),
        "first" => Index == 0,
        "last" => Index == items.Count - 1,
        "length" => (BigInteger)items.Count,
        "depth" => BigInteger.One, // above 1 only in recursive loops, which are not covered
        "depth0" => BigInteger.Zero,
        "previtem" => Index > 0 ? items[Index - 1] : new Undefined("there is no previous item"),
        "nextitem" => Index + 1 < items.Count ? items[Index + 1] : new Undefined("there is no next item"),
        "cycle" => new BoundMethod(LoopMethods.Cycle, this),
        "changed" => new BoundMethod(LoopMethods.Changed, this),
        _ => Undefined.Member(this, name),
    };

    /// <summary>Whether a value differs from the one given at the previous call.</summary>
    public bool Changed(RenderRun run, object value)
    {
        bool changed = _lastChanged is null || !Comparison.AreEqual(run, _lastChanged, value);
        _lastChanged = value;
        return changed;
    }
}

internal static class LoopMethods
{
    public static readonly Function Cycle = Function.Variadic("cycle", (run, subject, arguments) =>
        arguments.Positional.Count == 0 ? throw run.Error("loop.cycle needs at least one value")
        : arguments.Positional[((LoopState)subject).Index % arguments.Positional.Count]);

    public static readonly Function Changed = Function.Variadic("changed", (run, subject, arguments) =>
        ((LoopState)subject).Changed(run, new TemplateTuple(arguments.Positional)));
}

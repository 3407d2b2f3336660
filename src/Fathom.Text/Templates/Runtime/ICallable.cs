namespace Fathom.Text.Templates;

/// <summary>The evaluated arguments of a call.</summary>
internal sealed record CallArguments(IReadOnlyList<object> Positional, IReadOnlyList<(string Name, object Value)> Named)
{
    public static CallArguments Empty { get; } = new([], []);
}

/// <summary>A value that can be called: a macro, a global function, or a method bound to its subject.</summary>
internal interface ICallable
{
    string Name { get; }

    object Call(RenderRun run, CallArguments arguments);
}

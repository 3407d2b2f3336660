// Variables by block, as Jinja scopes them: a for loop, a macro and a with block have variables of their own, an if
// has not. What a loop sets is gone with the iteration, which is why templates keep state in namespace(…).
namespace Fathom.Text.Templates;

internal sealed class Scope(Scope? parent)
{
    private Dictionary<string, object>? _variables;

    public void Set(string name, object value) => (_variables ??= new(StringComparer.Ordinal))[name] = value;

    /// <summary>The value of a variable here or in the nearest enclosing scope; undefined when there is none.</summary>
    public object Get(string name)
    {
        for (Scope? scope = this; scope is not null; scope = scope.Parent)
        {
            if (scope._variables is not null && scope._variables.TryGetValue(name, out object? value)) return value;
        }

        return (object?)Globals.Find(name) ?? Undefined.Variable(name);
    }

    private Scope? Parent { get; } = parent;
}

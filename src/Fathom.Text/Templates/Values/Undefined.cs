// The special values of the template language that C# has no word for. Everything else is a plain .NET object:
// bool, BigInteger (Python's int has no width), double, string, List<object>, TemplateTuple, TemplateDictionary.
namespace Fathom.Text.Templates;

/// <summary>Python's None. A value of its own, so that template values are never null references.</summary>
internal sealed class None
{
    public static readonly None Value = new();

    private None()
    {
    }
}

/// <summary>
/// The result of looking up what does not exist: prints as nothing, is false and empty, and is an error in every other
/// use. It remembers what was looked up, because the error comes later and elsewhere.
/// </summary>
internal sealed class Undefined(string explanation)
{
    /// <summary>The sentence of the error, for example "'x' is undefined".</summary>
    public string Explanation { get; } = explanation;

    public static Undefined Variable(string name) => new($"'{name}' is undefined");

    public static Undefined Member(object owner, string name) => new($"{TypeNames.Of(owner)} has no attribute '{name}'");
}

/// <summary>The attributes that <c>namespace(…)</c> makes assignable from inside a loop.</summary>
internal sealed class TemplateNamespace
{
    public Dictionary<string, object> Attributes { get; } = new(StringComparer.Ordinal);
}

/// <summary>Python's tuple: a list that cannot change, equal only to other tuples, printed in parentheses.</summary>
internal sealed class TemplateTuple(IReadOnlyList<object> items)
{
    public IReadOnlyList<object> Items { get; } = items;
}

internal static class TypeNames
{
    /// <summary>What messages call the type of a value, for example "a string".</summary>
    public static string Of(object value) => value switch
    {
        None => "none",
        Undefined => "an undefined value",
        bool => "a boolean",
        System.Numerics.BigInteger => "an integer",
        double => "a float",
        string => "a string",
        List<object> => "a list",
        TemplateTuple => "a tuple",
        TemplateDictionary => "a mapping",
        TemplateNamespace => "a namespace",
        LoopState => "the loop variable",
        _ => "a function",
    };
}

// Filters, tests, methods and global functions are all one thing: a name, parameters, and code over bound arguments.
// Binding and its errors are written once, here.
using System.Numerics;

namespace Fathom.Text.Templates;

internal sealed class Function : ICallable
{
    private readonly string[] _parameters = [];
    private readonly int _required;
    private readonly Func<BoundArguments, object>? _bound;
    private readonly Func<RenderRun, object, CallArguments, object>? _variadic;

    private Function(string name, string[] parameters, int required, Func<BoundArguments, object> body) =>
        (Name, _parameters, _required, _bound) = (name, parameters, required, body);

    private Function(string name, Func<RenderRun, object, CallArguments, object> body) => (Name, _variadic) = (name, body);

    public string Name { get; }

    /// <summary>A function with a fixed list of parameters.</summary>
    /// <param name="signature">The name, then the parameters; those up to a '/' are required. Example: "replace old new / count".</param>
    /// <param name="body">The code.</param>
    public static Function Of(string signature, Func<BoundArguments, object> body)
    {
        string[] words = signature.Split(' ');
        int slash = Array.IndexOf(words, "/");
        string[] parameters = [.. words.Skip(1).Where(word => word != "/")];
        return new(words[0], parameters, slash < 0 ? parameters.Length : slash - 1, body);
    }

    /// <summary>A function that takes its arguments as they come.</summary>
    public static Function Variadic(string name, Func<RenderRun, object, CallArguments, object> body) => new(name, body);

    /// <summary>Runs the function on a subject: the filtered or tested value, or the object of a method.</summary>
    public object Invoke(RenderRun run, object subject, CallArguments arguments)
    {
        run.Charge(1);
        return _bound is null ? _variadic!(run, subject, arguments) : _bound(Bind(run, subject, arguments));
    }

    object ICallable.Call(RenderRun run, CallArguments arguments) => Invoke(run, None.Value, arguments);

    private BoundArguments Bind(RenderRun run, object subject, CallArguments arguments)
    {
        object?[] values = new object?[_parameters.Length];
        if (arguments.Positional.Count > values.Length)
        {
            throw run.Error($"'{Name}' takes at most {values.Length} arguments, {arguments.Positional.Count} were given");
        }

        for (int index = 0; index < arguments.Positional.Count; index++) values[index] = arguments.Positional[index];
        foreach ((string name, object value) in arguments.Named)
        {
            int index = Array.IndexOf(_parameters, name);
            if (index < 0) throw run.Error($"'{Name}' has no argument '{name}'");
            if (values[index] is not null) throw run.Error($"'{Name}' got two values for '{name}'");
            values[index] = value;
        }

        for (int index = 0; index < _required; index++)
        {
            if (values[index] is null) throw run.Error($"'{Name}' needs the argument '{_parameters[index]}'");
        }

        return new(run, Name, _parameters, subject, values);
    }
}

/// <summary>A method together with the object it was taken from.</summary>
internal sealed class BoundMethod(Function method, object subject) : ICallable
{
    public string Name => method.Name;

    public object Call(RenderRun run, CallArguments arguments) => method.Invoke(run, subject, arguments);
}

/// <summary>What a function receives: its subject, and its arguments by position, null where none was given.</summary>
internal sealed class BoundArguments(RenderRun run, string function, string[] parameters, object subject, object?[] values)
{
    public RenderRun Run => run;

    public object Subject => subject;

    public object? this[int index] => values[index];

    /// <summary>The subject's text; what is not a string is printed.</summary>
    public string SubjectText => PythonText.Of(run, subject);

    /// <summary>The items that a loop over the subject would give.</summary>
    public IReadOnlyList<object> SubjectItems => Values.Items(run, subject);

    public string Text(int index, string missing) => values[index] switch
    {
        null => missing,
        string text => text,
        var other => throw Wrong(index, "a string", other),
    };

    public string? TextOrNone(int index) => values[index] is null or None ? null : Text(index, "");

    public int Integer(int index, int missing) => values[index] switch
    {
        null => missing,
        var value when Numbers.TryToInteger(value, out BigInteger integer) => (int)BigInteger.Clamp(integer, -int.MaxValue, int.MaxValue),
        var other => throw Wrong(index, "an integer", other),
    };

    public bool Flag(int index) => values[index] is { } value && Values.IsTrue(value);

    public ChatTemplateException Error(string problem) => run.Error($"'{function}' {problem}");

    /// <summary>The error of a subject of the wrong type.</summary>
    public ChatTemplateException WrongSubject(string expected) =>
        subject is Undefined undefined ? run.Error(undefined) : Error($"works on {expected}, not on {TypeNames.Of(subject)}");

    private ChatTemplateException Wrong(int index, string expected, object value) =>
        value is Undefined undefined ? run.Error(undefined) : Error($"needs {expected} as '{parameters[index]}', not {TypeNames.Of(value)}");
}

// The functions that every chat template can call: Jinja's range, dict and namespace, and the two that Hugging Face
// adds, raise_exception and strftime_now.
using System.Numerics;

namespace Fathom.Text.Templates;

internal static class Globals
{
    private const int MaxRange = 100_000; // as in Jinja's sandbox

    private static readonly Dictionary<string, Function> s_functions = new Function[]
    {
        Function.Of("range start / stop step", Range),
        Function.Variadic("namespace", (run, _, arguments) => Namespace(run, arguments)),
        Function.Variadic("dict", (run, _, arguments) => Dictionary(run, arguments)),
        Function.Of("raise_exception message", a => throw a.Run.Refusal(PythonText.Of(a.Run, a[0]!))),
        Function.Of("strftime_now format", a => StrftimeFormat.Apply(a.Run, a.Text(0, ""), a.Run.Now)),
    }.ToDictionary(function => function.Name, StringComparer.Ordinal);

    /// <summary>A global function; null when there is none of that name.</summary>
    public static Function? Find(string name) => s_functions.GetValueOrDefault(name);

    /// <summary>The named arguments of a call as a mapping.</summary>
    public static TemplateDictionary DictionaryOf(CallArguments arguments)
    {
        TemplateDictionary dictionary = new();
        foreach ((string name, object value) in arguments.Named) dictionary.Set(name, value);
        return dictionary;
    }

    private static List<object> Range(BoundArguments a)
    {
        int start = a.Integer(0, 0), stop = a.Integer(1, 0), step = a.Integer(2, 1);
        if (a[1] is null) (start, stop) = (0, start);
        if (step == 0) throw a.Error("needs a step that is not 0");
        long count = step > 0 ? ((long)stop - start + step - 1) / step : ((long)start - stop - step - 1) / -(long)step;
        if (count > MaxRange) throw a.Error($"of {count} numbers is longer than {MaxRange}");
        List<object> numbers = [];
        for (long index = 0; index < count; index++) numbers.Add((BigInteger)(start + (index * step)));
        a.Run.ChargeItems(numbers.Count);
        return numbers;
    }

    private static TemplateNamespace Namespace(RenderRun run, CallArguments arguments)
    {
        TemplateNamespace space = new();
        foreach ((object key, object value) in Dictionary(run, arguments).Entries) space.Attributes[PythonText.Of(run, key)] = value;
        return space;
    }

    // dict(mapping), dict(pairs), dict(name=value, …), or a mix of those.
    private static TemplateDictionary Dictionary(RenderRun run, CallArguments arguments)
    {
        TemplateDictionary dictionary = new();
        if (arguments.Positional.Count > 1) throw run.Error("'dict' and 'namespace' take at most one argument without a name");
        if (arguments.Positional is [var source])
        {
            IReadOnlyList<object> entries = source is TemplateDictionary other ? SequenceFilters.Pairs(run, other.Entries) : Values.Items(run, source);
            foreach (object entry in entries)
            {
                IReadOnlyList<object> pair = Values.Items(run, entry);
                if (pair is not [var key, var value] || !TemplateDictionary.CanBeKey(key)) throw run.Error("'dict' needs a mapping or pairs of a key and a value");
                dictionary.Set(key, value);
            }
        }

        foreach ((string name, object value) in arguments.Named) dictionary.Set(name, value);
        return dictionary;
    }
}

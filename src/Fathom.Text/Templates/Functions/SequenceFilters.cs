// Filters on sequences. Where Python would give a generator they give a list, which can do more and prints better.
using System.Numerics;

namespace Fathom.Text.Templates;

internal static class SequenceFilters
{
    public static IEnumerable<Function> All { get; } =
    [
        Function.Of("length", a => Values.Length(a.Subject) is { } length ? (BigInteger)length : throw a.WrongSubject("a string, a list or a mapping")),
        Function.Of("first", a => a.SubjectItems is [var first, ..] ? first : new Undefined("there is no first item, the sequence is empty")),
        Function.Of("last", a => a.SubjectItems is [.., var last] ? last : new Undefined("there is no last item, the sequence is empty")),
        Function.Of("list", a => new List<object>(a.SubjectItems)),
        Function.Of("join / d attribute", Join),
        Function.Of("reverse", Reverse),
        Function.Of("sort / reverse case_sensitive attribute", a =>
            Sorting.Sort(a.Run, a.SubjectItems, item => Sorting.Key(a.Run, item, a[2], a.Flag(1)), a.Flag(0))),
        Function.Of("unique / case_sensitive attribute", Unique),
        Function.Of("sum / attribute start", a => a.SubjectItems.Aggregate(
            a[1] ?? BigInteger.Zero, (sum, item) => Arithmetic.Apply(a.Run, BinaryOperator.Add, sum, Sorting.Attribute(a.Run, item, a[0])))),
        Function.Of("min / case_sensitive attribute", a => Extreme(a, reverse: false)),
        Function.Of("max / case_sensitive attribute", a => Extreme(a, reverse: true)),
        Function.Of("items", Items),
        Function.Of("dictsort / case_sensitive by reverse", SortDictionary),
        Function.Variadic("map", Map),
        Function.Variadic("select", (run, subject, arguments) => Select(run, subject, arguments, byAttribute: false, keep: true)),
        Function.Variadic("reject", (run, subject, arguments) => Select(run, subject, arguments, byAttribute: false, keep: false)),
        Function.Variadic("selectattr", (run, subject, arguments) => Select(run, subject, arguments, byAttribute: true, keep: true)),
        Function.Variadic("rejectattr", (run, subject, arguments) => Select(run, subject, arguments, byAttribute: true, keep: false)),
    ];

    private static string Join(BoundArguments a)
    {
        TextBuffer text = new(a.Run);
        string separator = a[0] is null ? "" : PythonText.Of(a.Run, a[0]!);
        bool first = true;
        foreach (object item in a.SubjectItems)
        {
            if (!first) text.Append(separator);
            first = false;
            text.Append(PythonText.Of(a.Run, Sorting.Attribute(a.Run, item, a[1])));
        }

        return text.ToString();
    }

    private static object Reverse(BoundArguments a)
    {
        List<object> items = [.. a.SubjectItems];
        items.Reverse();
        return a.Subject is string ? a.Run.Made(string.Concat(items)) : items;
    }

    private static List<object> Unique(BoundArguments a)
    {
        List<object> kept = [], keys = [];
        HashSet<string> texts = new(StringComparer.Ordinal);
        foreach (object item in a.SubjectItems)
        {
            object key = Sorting.Key(a.Run, item, a[1], a.Flag(0));
            bool isNew = key is string text ? texts.Add(text) : !keys.Exists(seen => Comparison.AreEqual(a.Run, seen, key));
            if (!isNew) continue;
            kept.Add(item);
            if (key is not string) keys.Add(key);
            a.Run.Charge(1 + keys.Count);
        }

        return kept;
    }

    private static object Extreme(BoundArguments a, bool reverse) =>
        Sorting.Sort(a.Run, a.SubjectItems, item => Sorting.Key(a.Run, item, a[1], a.Flag(0)), reverse) is [var first, ..]
            ? first
            : new Undefined("the sequence is empty");

    private static object Items(BoundArguments a) => a.Subject switch
    {
        Undefined => new List<object>(),
        TemplateDictionary dictionary => Pairs(a.Run, dictionary.Entries),
        _ => throw a.WrongSubject("a mapping"),
    };

    private static List<object> SortDictionary(BoundArguments a)
    {
        if (a.Subject is not TemplateDictionary dictionary) throw a.WrongSubject("a mapping");
        bool byValue = a.Text(1, "key") switch
        {
            "key" => false,
            "value" => true,
            _ => throw a.Error("sorts by 'key' or by 'value'"),
        };
        return Pairs(a.Run, Sorting.Sort(
            a.Run, [.. dictionary.Entries], entry => Sorting.Folded(byValue ? entry.Value : entry.Key, a.Flag(0)), a.Flag(2)));
    }

    /// <summary>Keys and values as tuples.</summary>
    public static List<object> Pairs(RenderRun run, IEnumerable<KeyValuePair<object, object>> entries)
    {
        List<object> pairs = [];
        foreach ((object key, object value) in entries) pairs.Add(new TemplateTuple([key, value]));
        run.ChargeItems(pairs.Count);
        return pairs;
    }

    private static List<object> Map(RenderRun run, object subject, CallArguments arguments)
    {
        Func<object, object> change;
        if (arguments.Positional.Count == 0)
        {
            object? attribute = null, missing = null;
            foreach ((string name, object value) in arguments.Named)
            {
                if (name == "attribute") attribute = value;
                else if (name == "default") missing = value;
                else throw run.Error($"'map' has no argument '{name}'");
            }

            if (attribute is null) throw run.Error("'map' needs the name of a filter, or attribute=…");
            change = item => Sorting.Attribute(run, item, attribute, missing is None ? null : missing);
        }
        else
        {
            string name = arguments.Positional[0] as string ?? throw run.Error("'map' needs the name of a filter as text");
            Function filter = Filters.Find(name) ?? throw run.Error($"the filter '{name}' is not covered");
            CallArguments rest = arguments with { Positional = [.. arguments.Positional.Skip(1)] };
            change = item => filter.Invoke(run, item, rest);
        }

        run.Enter();
        List<object> mapped = [.. ItemsOrNone(run, subject).Select(change)];
        run.Leave();
        return mapped;
    }

    // map, select and their kin take none, false and 0 as an empty sequence, unlike all other filters.
    private static IReadOnlyList<object> ItemsOrNone(RenderRun run, object subject) => Values.IsTrue(subject) ? Values.Items(run, subject) : [];

    private static List<object> Select(RenderRun run, object subject, CallArguments arguments, bool byAttribute, bool keep)
    {
        int used = 0;
        object? attribute = null;
        if (byAttribute) attribute = arguments.Positional.Count > used++ ? arguments.Positional[0] : throw run.Error("the filter needs the name of an attribute");
        Function? test = null;
        if (arguments.Positional.Count > used)
        {
            string name = arguments.Positional[used++] as string ?? throw run.Error("the filter needs the name of a test as text");
            test = Tests.Find(name) ?? throw run.Error($"the test '{name}' is not covered");
        }

        CallArguments rest = arguments with { Positional = [.. arguments.Positional.Skip(used)] };
        List<object> kept = [];
        foreach (object item in ItemsOrNone(run, subject))
        {
            object value = Sorting.Attribute(run, item, attribute);
            if (Values.IsTrue(test is null ? value : test.Invoke(run, value, rest)) == keep) kept.Add(item);
        }

        return kept;
    }
}

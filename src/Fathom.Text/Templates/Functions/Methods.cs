// Methods of strings, lists and mappings: Python's names, for the ones that chat templates call.
using System.Numerics;

namespace Fathom.Text.Templates;

/// <summary>The methods by the type of their subject.</summary>
internal static class Methods
{
    private static readonly Dictionary<string, Function> s_string = StringMethods.All.ToDictionary(method => method.Name, StringComparer.Ordinal);

    private static readonly Dictionary<string, Function> s_list = new Function[]
    {
        Function.Of("append item", Append),
        Function.Of("count item", a => (BigInteger)a.SubjectItems.Count(item => Comparison.AreEqual(a.Run, item, a[0]!))),
        Function.Of("index item", a => IndexOf(a) is var index && index >= 0 ? (BigInteger)index : throw a.Error("did not find the item")),
        Function.Of("copy", a => new List<object>(a.SubjectItems)),
    }.ToDictionary(method => method.Name, StringComparer.Ordinal);

    private static readonly Dictionary<string, Function> s_mapping = new Function[]
    {
        Function.Of("items", a => SequenceFilters.Pairs(a.Run, ((TemplateDictionary)a.Subject).Entries)),
        Function.Of("keys", a => new List<object>(a.SubjectItems)),
        Function.Of("values", a => Listed(a, ((TemplateDictionary)a.Subject).Values)),
        Function.Of("get key / default", Get),
    }.ToDictionary(method => method.Name, StringComparer.Ordinal);

    /// <summary>A method of a value; null when there is none of that name.</summary>
    public static Function? Find(object subject, string name) => subject switch
    {
        string => s_string.GetValueOrDefault(name),
        List<object> => s_list.GetValueOrDefault(name),
        TemplateTuple when name is "count" or "index" => s_list[name],
        TemplateDictionary => s_mapping.GetValueOrDefault(name),
        _ => null,
    };

    // Hugging Face forbids changing lists; other engines allow it. It is safe here, since each rendering has its own copy.
    private static None Append(BoundArguments a)
    {
        a.Run.ChargeItems(1);
        ((List<object>)a.Subject).Add(a[0]!);
        return None.Value;
    }

    private static int IndexOf(BoundArguments a)
    {
        IReadOnlyList<object> items = a.SubjectItems;
        for (int index = 0; index < items.Count; index++)
        {
            if (Comparison.AreEqual(a.Run, items[index], a[0]!)) return index;
        }

        return -1;
    }

    private static List<object> Listed(BoundArguments a, IEnumerable<object> items)
    {
        List<object> list = [.. items];
        a.Run.ChargeItems(list.Count);
        return list;
    }

    private static object Get(BoundArguments a)
    {
        if (!TemplateDictionary.CanBeKey(a[0]!)) throw a.Error($"cannot use {TypeNames.Of(a[0]!)} as a key");
        return ((TemplateDictionary)a.Subject).TryGet(a[0]!, out object value) ? value : a[1] ?? None.Value;
    }
}

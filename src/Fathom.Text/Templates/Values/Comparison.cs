// Equality and order, as in Python: values of different kinds are unequal, and ordering them is an error.
namespace Fathom.Text.Templates;

internal static class Comparison
{
    public static bool Holds(RenderRun run, ComparisonOperator operation, object left, object right) => operation switch
    {
        ComparisonOperator.Equal => AreEqual(run, left, right),
        ComparisonOperator.NotEqual => !AreEqual(run, left, right),
        ComparisonOperator.In => Contains(run, right, left),
        ComparisonOperator.NotIn => !Contains(run, right, left),
        ComparisonOperator.Less => Order(run, left, right) == -1,
        ComparisonOperator.LessOrEqual => Order(run, left, right) is -1 or 0,
        ComparisonOperator.Greater => Order(run, left, right) == 1,
        _ => Order(run, left, right) is 1 or 0,
    };

    public static bool AreEqual(RenderRun run, object left, object right)
    {
        switch (left, right)
        {
            case (string a, string b):
                run.ChargeText(Math.Min(a.Length, b.Length));
                return string.Equals(a, b, StringComparison.Ordinal);
            case (List<object> a, List<object> b):
                return SequencesEqual(run, a, b);
            case (TemplateTuple a, TemplateTuple b):
                return SequencesEqual(run, a.Items, b.Items);
            case (TemplateDictionary a, TemplateDictionary b):
                return DictionariesEqual(run, a, b);
            case (Undefined, Undefined):
                return true;
            default:
                return Numbers.TryCompare(left, right, out int order) ? order == 0 : ReferenceEquals(left, right);
        }
    }

    /// <summary>-1, 0 or 1; 2 when a NaN is involved; an error when the two have no order.</summary>
    public static int Order(RenderRun run, object left, object right)
    {
        if (Numbers.TryCompare(left, right, out int order)) return order == 2 ? 2 : Math.Sign(order);
        switch (left, right)
        {
            case (string a, string b):
                run.ChargeText(Math.Min(a.Length, b.Length));
                return Math.Sign(CompareCodePoints(a, b));
            case (List<object> a, List<object> b):
                return OrderSequences(run, a, b);
            case (TemplateTuple a, TemplateTuple b):
                return OrderSequences(run, a.Items, b.Items);
            case (Undefined undefined, _):
                throw run.Error(undefined);
            case (_, Undefined undefined):
                throw run.Error(undefined);
            default:
                throw run.Error($"{TypeNames.Of(left)} and {TypeNames.Of(right)} have no order");
        }
    }

    /// <summary>Python's <c>item in container</c>.</summary>
    public static bool Contains(RenderRun run, object container, object item)
    {
        switch (container)
        {
            case string text:
                if (item is Undefined undefined) throw run.Error(undefined);
                if (item is not string part) throw run.Error($"'in' a string needs a string on the left, not {TypeNames.Of(item)}");
                run.ChargeText(text.Length);
                return text.Contains(part, StringComparison.Ordinal);
            case TemplateDictionary dictionary:
                if (item is Undefined) return false;
                if (!TemplateDictionary.CanBeKey(item)) throw run.Error($"{TypeNames.Of(item)} cannot be a key of a mapping");
                return dictionary.Contains(item);
            default:
                if (!Values.TryItems(run, container, out IReadOnlyList<object> items)) throw run.Error($"'in' cannot search {TypeNames.Of(container)}");
                foreach (object candidate in items)
                {
                    if (AreEqual(run, candidate, item)) return true;
                }

                return false;
        }
    }

    // By code point, as Python does; UTF-16 order differs only where surrogates meet U+E000 and above.
    private static int CompareCodePoints(string a, string b)
    {
        int common = a.AsSpan().CommonPrefixLength(b);
        if (common == a.Length || common == b.Length) return a.Length.CompareTo(b.Length);
        bool surrogateA = char.IsSurrogate(a[common]), surrogateB = char.IsSurrogate(b[common]);
        return surrogateA == surrogateB ? a[common].CompareTo(b[common]) : surrogateA.CompareTo(surrogateB);
    }

    private static bool SequencesEqual(RenderRun run, IReadOnlyList<object> a, IReadOnlyList<object> b)
    {
        if (a.Count != b.Count) return false;
        run.Enter();
        bool equal = true;
        for (int index = 0; equal && index < a.Count; index++) equal = AreEqual(run, a[index], b[index]);
        run.Leave();
        return equal;
    }

    private static bool DictionariesEqual(RenderRun run, TemplateDictionary a, TemplateDictionary b)
    {
        if (a.Count != b.Count) return false;
        run.Enter();
        bool equal = true;
        foreach ((object key, object value) in a.Entries)
        {
            equal = b.TryGet(key, out object other) && AreEqual(run, value, other);
            if (!equal) break;
        }

        run.Leave();
        return equal;
    }

    private static int OrderSequences(RenderRun run, IReadOnlyList<object> a, IReadOnlyList<object> b)
    {
        run.Enter();
        int order = a.Count.CompareTo(b.Count);
        for (int index = 0; index < Math.Min(a.Count, b.Count); index++)
        {
            if (AreEqual(run, a[index], b[index])) continue;
            order = Order(run, a[index], b[index]);
            break;
        }

        run.Leave();
        return order;
    }
}

// Sorting by keys. The merge sort is stable like Python's, and its comparisons may fail with an error of the template.
using System.Globalization;
using System.Numerics;

namespace Fathom.Text.Templates;

internal static class Sorting
{
    /// <summary>The items in the order of their keys; equal keys keep their order, also in reverse.</summary>
    public static List<T> Sort<T>(RenderRun run, IReadOnlyList<T> items, Func<T, object> keyOf, bool reverse)
    {
        (object Key, T Item)[] entries = [.. items.Select(item => (keyOf(item), item))];
        (object Key, T Item)[] spare = new (object, T)[entries.Length];
        for (int width = 1; width < entries.Length; width *= 2)
        {
            for (int start = 0; start < entries.Length; start += 2 * width)
            {
                int middle = Math.Min(start + width, entries.Length), end = Math.Min(start + (2 * width), entries.Length);
                for (int left = start, right = middle, to = start; to < end; to++)
                {
                    bool takeRight = left == middle || (right < end && IsBefore(run, entries[right].Key, entries[left].Key, reverse));
                    spare[to] = entries[takeRight ? right++ : left++];
                }
            }

            (entries, spare) = (spare, entries);
        }

        return [.. entries.Select(entry => entry.Item)];
    }

    /// <summary>The key of an item for sort, unique, min and max: an attribute if named, in lower case unless asked otherwise.</summary>
    public static object Key(RenderRun run, object item, object? attribute, bool caseSensitive) => Folded(Attribute(run, item, attribute), caseSensitive);

    public static object Folded(object value, bool caseSensitive) => value is string text && !caseSensitive ? text.ToLowerInvariant() : value;

    /// <summary>
    /// An attribute by dotted path ("function.name") or index; the item itself when the path is null or none. What a
    /// step does not find is <paramref name="missing"/>, when given.
    /// </summary>
    public static object Attribute(RenderRun run, object item, object? path, object? missing = null)
    {
        if (path is null or None) return item;
        if (path is not string dotted) return Member(run, item, path, missing);
        foreach (string part in dotted.Split('.'))
        {
            bool isIndex = part.Length is > 0 and < 10 && part.All(char.IsAsciiDigit);
            item = Member(run, item, isIndex ? BigInteger.Parse(part, CultureInfo.InvariantCulture) : part, missing);
        }

        return item;
    }

    private static object Member(RenderRun run, object item, object key, object? missing) =>
        Members.Subscript(run, item, key) is var value && value is Undefined && missing is not null ? missing : value;

    private static bool IsBefore(RenderRun run, object candidate, object current, bool reverse)
    {
        run.Charge(1);
        return Comparison.Order(run, candidate, current) == (reverse ? 1 : -1);
    }
}

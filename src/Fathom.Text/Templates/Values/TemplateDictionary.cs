// Python's dict: keeps insertion order, and takes as keys whatever can be hashed, where 1, 1.0 and True are one key.
using System.Numerics;

namespace Fathom.Text.Templates;

/// <summary>An ordered mapping from template values to template values.</summary>
internal sealed class TemplateDictionary
{
    private readonly OrderedDictionary<object, object> _entries = new(KeyComparer.Instance);

    public int Count => _entries.Count;

    public IEnumerable<KeyValuePair<object, object>> Entries => _entries;

    public IEnumerable<object> Keys => _entries.Keys;

    public IEnumerable<object> Values => _entries.Values;

    public bool TryGet(object key, out object value) => _entries.TryGetValue(key, out value!);

    public bool Contains(object key) => _entries.ContainsKey(key);

    public void Set(object key, object value) => _entries[key] = value;

    /// <summary>Whether a value may be a key: Python refuses what can change.</summary>
    public static bool CanBeKey(object value) => value switch
    {
        None or bool or BigInteger or double or string => true,
        TemplateTuple { Items.Count: <= 8 } tuple => tuple.Items.All(item => item is not TemplateTuple && CanBeKey(item)),
        _ => false,
    };

    private sealed class KeyComparer : IEqualityComparer<object>
    {
        public static readonly KeyComparer Instance = new();

        bool IEqualityComparer<object>.Equals(object? x, object? y) => (x, y) switch
        {
            (string a, string b) => string.Equals(a, b, StringComparison.Ordinal),
            (TemplateTuple a, TemplateTuple b) => a.Items.SequenceEqual(b.Items, this),
            (None, None) => true,
            _ => Numbers.TryCompare(x!, y!, out int order) && order == 0,
        };

        public int GetHashCode(object key)
        {
            switch (key)
            {
                case string text:
                    return text.GetHashCode(StringComparison.Ordinal);
                case TemplateTuple tuple:
                    HashCode hash = default;
                    foreach (object item in tuple.Items) hash.Add(GetHashCode(item));
                    return hash.ToHashCode();
                case None:
                    return 1;
                default:
                    // Equal numbers of different types hash alike because all of them are hashed as float64.
                    return Numbers.TryToDouble(key, out double number) ? number.GetHashCode() : 0;
            }
        }
    }
}

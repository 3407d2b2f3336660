// Truth, length and iteration, as Python defines them for each type.
namespace Fathom.Text.Templates;

internal static class Values
{
    /// <summary>Whether a condition holds: empty, zero, none and undefined are false.</summary>
    public static bool IsTrue(object value) => value switch
    {
        bool flag => flag,
        None or Undefined => false,
        string text => text.Length > 0,
        System.Numerics.BigInteger integer => !integer.IsZero,
        double number => number != 0,
        List<object> list => list.Count > 0,
        TemplateTuple tuple => tuple.Items.Count > 0,
        TemplateDictionary dictionary => dictionary.Count > 0,
        _ => true,
    };

    /// <summary>What a loop over the value goes through: items, keys of a mapping, characters of a string.</summary>
    public static IReadOnlyList<object> Items(RenderRun run, object value)
    {
        if (!TryItems(run, value, out IReadOnlyList<object> items)) throw run.Error($"{TypeNames.Of(value)} cannot be looped over");
        return items;
    }

    /// <summary>As <see cref="Items"/>, but false instead of an error.</summary>
    public static bool TryItems(RenderRun run, object value, out IReadOnlyList<object> items)
    {
        items = value switch
        {
            List<object> list => list,
            TemplateTuple tuple => tuple.Items,
            TemplateDictionary dictionary => [.. dictionary.Keys],
            string text => Characters(run, text),
            Undefined => [],
            _ => null!,
        };
        if (items is null) return false;
        run.ChargeItems(items.Count);
        return true;
    }

    /// <summary>The number of items, entries or characters; null when the value has no length.</summary>
    public static int? Length(object value) => value switch
    {
        string text => CodePoints.Count(text),
        List<object> list => list.Count,
        TemplateTuple tuple => tuple.Items.Count,
        TemplateDictionary dictionary => dictionary.Count,
        Undefined => 0,
        _ => null,
    };

    private static List<object> Characters(RenderRun run, string text)
    {
        run.ChargeItems(text.Length);
        List<object> characters = new(text.Length);
        for (int at = 0; at < text.Length;)
        {
            int length = CodePoints.LengthAt(text, at);
            characters.Add(text.Substring(at, length));
            at += length;
        }

        return characters;
    }
}

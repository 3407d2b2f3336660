// Python counts and cuts strings by code point, .NET by UTF-16 unit. Emoji are where the two differ, and cutting one
// in half would give the tokenizer broken text.
namespace Fathom.Text.Templates;

internal static class CodePoints
{
    /// <summary>The number of code points.</summary>
    public static int Count(string text)
    {
        if (!HasSurrogates(text)) return text.Length;
        int count = 0;
        for (int at = 0; at < text.Length; at += LengthAt(text, at)) count++;
        return count;
    }

    /// <summary>UTF-16 units of the code point at an offset: 2 for a surrogate pair, else 1.</summary>
    public static int LengthAt(string text, int at) =>
        char.IsHighSurrogate(text[at]) && at + 1 < text.Length && char.IsLowSurrogate(text[at + 1]) ? 2 : 1;

    /// <summary>The UTF-16 offset of a code point index, which must be within the text or at its end.</summary>
    public static int OffsetOf(string text, int index)
    {
        if (!HasSurrogates(text)) return index;
        int at = 0;
        for (; index > 0; index--) at += LengthAt(text, at);
        return at;
    }

    /// <summary>The code point index of a UTF-16 offset.</summary>
    public static int IndexOf(string text, int offset) => Count(text[..offset]);

    private static bool HasSurrogates(string text) => text.AsSpan().IndexOfAnyInRange('\uD800', '\uDFFF') >= 0;
}

// How a string is spelled where there must be one way only: names, literals, patterns. JSON allows any character to be written as \uXXXX; if
// that were allowed in a name, "any other name" could spell a name that is taken. So characters stand for themselves, except those
// that may not, which take their short escape or, lacking one, \u00xx.
using System.Text;

namespace Fathom.Inference;

/// <summary>The one spelling of characters in JSON strings.</summary>
internal static class JsonSpelling
{
    private const string Escaped = "\"\\\b\f\n\r\t";
    private const string Escapes = "\"\\bfnrt";

    /// <summary>A string with its quotation marks; a lone surrogate becomes U+FFFD.</summary>
    public static byte[] Quoted(string value)
    {
        var text = new StringBuilder("\"");
        foreach (Rune rune in value.EnumerateRunes()) text.Append(Of(rune.Value));
        return Encoding.UTF8.GetBytes(text.Append('"').ToString());
    }

    /// <summary>One code point; not a surrogate.</summary>
    public static string Of(int codePoint) => codePoint switch
    {
        < 0x80 when Escaped.IndexOf((char)codePoint, StringComparison.Ordinal) is var at and >= 0 => $"\\{Escapes[at]}",
        < 0x20 => $"\\u{codePoint:x4}",
        _ => new Rune(codePoint).ToString(),
    };

    /// <summary>
    /// One character of a range of code points, in its spelling. Control characters without a short escape come only where asked for by
    /// themselves: nobody means them by "anything but".
    /// </summary>
    public static void Characters(GrammarBuilder builder, int from, int low, int high, int to)
    {
        for (int value = low; value <= Math.Min(high, 0x1F); value++)
        {
            if (low == high || Escaped.Contains((char)value)) builder.Literal(from, Of(value), to);
        }

        foreach (int mark in (ReadOnlySpan<int>)['"', '\\'])
        {
            if (low <= mark && mark <= high) builder.Literal(from, Of(mark), to);
        }

        foreach ((int first, int last) in (ReadOnlySpan<(int, int)>)[(' ', '!'), ('#', '['), (']', 0x10FFFF)])
        {
            if (Math.Max(low, first) <= Math.Min(high, last)) builder.CodePoints(from, Math.Max(low, first), Math.Min(high, last), to);
        }
    }
}

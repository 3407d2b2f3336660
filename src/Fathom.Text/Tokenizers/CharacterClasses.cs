// Unicode classes as the pre-tokenizers' patterns name them (\p{L}, \p{M}, \p{N}, [\p{P}\p{S}], \s), as one table look-up.
// The trap is UTF-16: the patterns speak of code points, so a surrogate pair counts once, with the class of what it
// encodes, and a lone surrogate counts as U+FFFD (a symbol), which is what it becomes when the text turns into UTF-8.
using System.Globalization;

namespace Fathom.Text;

/// <summary>The classes of one code point; <see cref="WhiteSpace"/> and <see cref="LineBreak"/> may come together.</summary>
[Flags]
internal enum CharacterClass : byte
{
    /// <summary>None of the others: controls, format characters, private use, unassigned.</summary>
    None = 0,

    /// <summary><c>\p{L}</c>.</summary>
    Letter = 1,

    /// <summary><c>\p{M}</c>.</summary>
    Mark = 2,

    /// <summary><c>\p{N}</c>.</summary>
    Number = 4,

    /// <summary><c>[\p{P}\p{S}]</c>.</summary>
    PunctuationOrSymbol = 8,

    /// <summary><c>\s</c>: Unicode White_Space, all of it in the basic plane.</summary>
    WhiteSpace = 16,

    /// <summary><c>[\r\n]</c>.</summary>
    LineBreak = 32,

    /// <summary>DeepSeek's <c>[一-龥぀-ゟ゠-ヿ]</c>: Han and kana.</summary>
    HanOrKana = 64,
}

/// <summary>Classifies code points of UTF-16 text.</summary>
internal static class CharacterClasses
{
    // [65536]; a surrogate has class None here, which sends At to the slow path.
    private static readonly CharacterClass[] BasicPlane = Build();

    /// <summary>The class of the code point at <paramref name="index"/>, and how many UTF-16 units it takes.</summary>
    public static CharacterClass At(ReadOnlySpan<char> text, int index, out int length)
    {
        char unit = text[index];
        CharacterClass known = BasicPlane[unit];
        length = 1;
        return known == CharacterClass.None && char.IsSurrogate(unit) ? AtSurrogate(text, index, out length) : known;
    }

    /// <summary>The first index at or after <paramref name="index"/> whose code point is in none of <paramref name="classes"/>.</summary>
    public static int RunEnd(ReadOnlySpan<char> text, int index, CharacterClass classes)
    {
        while (index < text.Length && (At(text, index, out int length) & classes) != 0) index += length;
        return index;
    }

    /// <summary>The first index at or after <paramref name="index"/> whose code point is in one of <paramref name="classes"/>.</summary>
    public static int IndexOfAny(ReadOnlySpan<char> text, int index, CharacterClass classes)
    {
        while (index < text.Length && (At(text, index, out int length) & classes) == 0) index += length;
        return index;
    }

    private static CharacterClass AtSurrogate(ReadOnlySpan<char> text, int index, out int length)
    {
        length = 1;
        if (!char.IsHighSurrogate(text[index]) || index + 1 == text.Length || !char.IsLowSurrogate(text[index + 1]))
            return CharacterClass.PunctuationOrSymbol;
        length = 2;
        return Of(CharUnicodeInfo.GetUnicodeCategory(char.ConvertToUtf32(text[index], text[index + 1])));
    }

    private static CharacterClass[] Build()
    {
        var table = new CharacterClass[char.MaxValue + 1];
        for (int unit = 0; unit < table.Length; unit++)
        {
            CharacterClass value = Of(char.GetUnicodeCategory((char)unit));
            if (char.IsWhiteSpace((char)unit)) value |= CharacterClass.WhiteSpace;
            if (unit is '\r' or '\n') value |= CharacterClass.LineBreak;
            if (unit is >= 0x4E00 and <= 0x9FA5 or >= 0x3040 and <= 0x30FF) value |= CharacterClass.HanOrKana;
            table[unit] = value;
        }

        return table;
    }

    private static CharacterClass Of(UnicodeCategory category) => category switch
    {
        <= UnicodeCategory.OtherLetter => CharacterClass.Letter,
        <= UnicodeCategory.EnclosingMark => CharacterClass.Mark,
        <= UnicodeCategory.OtherNumber => CharacterClass.Number,
        >= UnicodeCategory.ConnectorPunctuation and <= UnicodeCategory.OtherSymbol => CharacterClass.PunctuationOrSymbol,
        _ => CharacterClass.None,
    };
}

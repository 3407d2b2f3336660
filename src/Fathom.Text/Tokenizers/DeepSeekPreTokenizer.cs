// DeepSeek-V3's pre-tokenizer by hand. The three patterns cut one after the other, so the third never sees across a
// number or a run of Han and kana: its look-ahead `\s+(?!\S)` finds the end of the text there. Hence "  12" gives
// "  ","12", where the same alternation as a single pattern would give " "," 12".
//
// The alternation, tried in this order at each position:
//   A  [ASCII punctuation][A-Za-z]+        "_name", "(x"
//   B  [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+    " word", "word"
//   C   ?[\p{P}\p{S}]+[\r\n]*                  " });\n": punctuation with its line breaks is one token's worth
//   D  \s*[\r\n]+   E  \s+(?!\S)   F  \s+
// What none of them matches (controls, format characters) stays together as a word of its own.
namespace Fathom.Text;

/// <summary>The hand-written matcher of <see cref="PreTokenizer.DeepSeekV3Patterns"/>.</summary>
internal sealed class DeepSeekPreTokenizer() : PreTokenizer(DeepSeekV3Patterns)
{
    private const CharacterClass LetterOrMark = CharacterClass.Letter | CharacterClass.Mark;

    /// <inheritdoc/>
    public override void Split(ReadOnlySpan<char> text, List<int> ends)
    {
        for (int start = 0; start < text.Length;)
        {
            CharacterClass first = CharacterClasses.At(text, start, out int length);
            if ((first & CharacterClass.Number) != 0)
            {
                start = NumberEnd(text, start + length);
                ends.Add(start);
                continue;
            }

            int end = (first & CharacterClass.HanOrKana) != 0
                ? CharacterClasses.RunEnd(text, start + length, CharacterClass.HanOrKana)
                : CharacterClasses.IndexOfAny(text, start + length, CharacterClass.Number | CharacterClass.HanOrKana);
            SplitSegment(text.Slice(start, end - start), start, ends);
            start = end;
        }
    }

    /// <summary><c>\p{N}{1,3}</c> after its first code point.</summary>
    private static int NumberEnd(ReadOnlySpan<char> text, int index)
    {
        for (int more = 0; more < 2 && index < text.Length; more++)
        {
            if ((CharacterClasses.At(text, index, out int length) & CharacterClass.Number) == 0) break;
            index += length;
        }

        return index;
    }

    private static void SplitSegment(ReadOnlySpan<char> segment, int offset, List<int> ends)
    {
        int wordStart = 0;
        for (int index = 0; index < segment.Length;)
        {
            int end = MatchEnd(segment, index, out int length);
            if (end == index)
            {
                index += length;
                continue;
            }

            if (wordStart < index) ends.Add(offset + index);
            ends.Add(offset + end);
            index = wordStart = end;
        }

        if (wordStart < segment.Length) ends.Add(offset + segment.Length);
    }

    /// <summary>Where the match that starts at <paramref name="index"/> ends, or <paramref name="index"/> if nothing matches there.</summary>
    private static int MatchEnd(ReadOnlySpan<char> segment, int index, out int length)
    {
        CharacterClass first = CharacterClasses.At(segment, index, out length);
        int next = index + length;
        if ((first & LetterOrMark) != 0) return CharacterClasses.RunEnd(segment, next, LetterOrMark); // B without its prefix

        if ((first & CharacterClass.PunctuationOrSymbol) != 0)
        {
            bool asciiWord = char.IsAscii(segment[index]) && next < segment.Length && char.IsAsciiLetter(segment[next]);
            return asciiWord ? AsciiLettersEnd(segment, next + 1) : PunctuationEnd(segment, next); // A, C
        }

        CharacterClass second = next < segment.Length ? CharacterClasses.At(segment, next, out _) : CharacterClass.None;
        if ((second & LetterOrMark) != 0 && (first & CharacterClass.LineBreak) == 0)
            return CharacterClasses.RunEnd(segment, next, LetterOrMark); // B
        if ((second & CharacterClass.PunctuationOrSymbol) != 0 && segment[index] == ' ')
            return PunctuationEnd(segment, next); // C
        return (first & CharacterClass.WhiteSpace) != 0 ? WhiteSpaceEnd(segment, index) : index; // D, E, F
    }

    private static int AsciiLettersEnd(ReadOnlySpan<char> segment, int index)
    {
        while (index < segment.Length && char.IsAsciiLetter(segment[index])) index++;
        return index;
    }

    private static int PunctuationEnd(ReadOnlySpan<char> segment, int index)
    {
        index = CharacterClasses.RunEnd(segment, index, CharacterClass.PunctuationOrSymbol);
        return CharacterClasses.RunEnd(segment, index, CharacterClass.LineBreak);
    }

    private static int WhiteSpaceEnd(ReadOnlySpan<char> segment, int index)
    {
        int end = CharacterClasses.RunEnd(segment, index, CharacterClass.WhiteSpace);
        int lastBreak = segment.Slice(index, end - index).LastIndexOfAny('\r', '\n');
        if (lastBreak >= 0) return index + lastBreak + 1;
        return end == segment.Length || end == index + 1 ? end : end - 1;
    }
}

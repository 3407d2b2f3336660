// GPT-2's pre-tokenizer by hand:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// Every code point is matched by one of the arms. White space gives its last character to the word after it only if that
// character is a plain space; otherwise the character stands alone.
namespace Fathom.Text;

/// <summary>The hand-written matcher of <see cref="PreTokenizer.Gpt2Pattern"/>.</summary>
internal sealed class Gpt2PreTokenizer() : PreTokenizer([Gpt2Pattern])
{
    /// <inheritdoc/>
    public override void Split(ReadOnlySpan<char> text, List<int> ends)
    {
        for (int start = 0; start < text.Length;)
        {
            start = MatchEnd(text, start);
            ends.Add(start);
        }
    }

    private static int MatchEnd(ReadOnlySpan<char> text, int index)
    {
        if (text[index] == '\'' && ContractionEnd(text, index) is int contraction and > 0) return contraction;

        int start = text[index] == ' ' && index + 1 < text.Length ? index + 1 : index;
        CharacterClass first = CharacterClasses.At(text, start, out int length);
        if ((first & CharacterClass.Letter) != 0) return CharacterClasses.RunEnd(text, start + length, CharacterClass.Letter);
        if ((first & CharacterClass.Number) != 0) return CharacterClasses.RunEnd(text, start + length, CharacterClass.Number);
        if ((first & CharacterClass.WhiteSpace) == 0)
        {
            const CharacterClass Others = CharacterClass.WhiteSpace | CharacterClass.Letter | CharacterClass.Number;
            return CharacterClasses.IndexOfAny(text, start + length, Others);
        }

        int end = CharacterClasses.RunEnd(text, start, CharacterClass.WhiteSpace);
        return end == text.Length || end == index + 1 ? end : end - 1;
    }

    /// <summary>The end of <c>'s 't 'm 'd 're 've 'll</c> at <paramref name="index"/>, or 0.</summary>
    private static int ContractionEnd(ReadOnlySpan<char> text, int index)
    {
        ReadOnlySpan<char> rest = text.Slice(index + 1);
        if (rest is ['s' or 't' or 'm' or 'd', ..]) return index + 2;
        return rest is ['r' or 'v', 'e', ..] or ['l', 'l', ..] ? index + 3 : 0;
    }
}

// Added tokens are cut out of the text before anything else looks at it. Two passes over the text, as in Hugging Face
// tokenizers: first the tokens with normalized = false, then, in what is left, those with normalized = true. Within a
// pass the longest token at the leftmost place wins.
using System.Buffers;

namespace Fathom.Text;

/// <summary>A token that is found in text as a whole, outside of the byte-pair merges.</summary>
/// <param name="Id">Token id.</param>
/// <param name="Content">The text that stands for it.</param>
/// <param name="Special">Whether decoding with <c>skipSpecial</c> leaves it out. DeepSeek marks <c>&lt;｜User｜&gt;</c> as not special.</param>
/// <param name="Normalized">Whether it is searched in normalised text; without a normaliser this only sets the order of search.</param>
/// <param name="LeftStrip">Whether it swallows the white space before it.</param>
/// <param name="RightStrip">Whether it swallows the white space after it.</param>
/// <param name="SingleWord">Whether it counts only where no word character touches it.</param>
public sealed record AddedToken(
    int Id, string Content, bool Special, bool Normalized = false, bool LeftStrip = false, bool RightStrip = false, bool SingleWord = false);

/// <summary>Finds the added tokens of one pass.</summary>
internal sealed class AddedTokenMatcher
{
    private readonly Dictionary<(int Node, char Next), int> _children = [];
    private readonly Dictionary<int, AddedToken> _tokenAtNode = [];
    private readonly SearchValues<char> _firstCharacters;

    public AddedTokenMatcher(IReadOnlyCollection<AddedToken> tokens)
    {
        int nodes = 1; // node 0 is the root
        foreach (AddedToken token in tokens)
        {
            int node = 0;
            foreach (char next in token.Content)
            {
                if (!_children.TryGetValue((node, next), out int child)) _children[(node, next)] = child = nodes++;
                node = child;
            }

            _tokenAtNode[node] = token;
        }

        _firstCharacters = SearchValues.Create([.. tokens.Select(token => token.Content[0]).Distinct()]);
    }

    /// <summary>
    /// The next added token at or after <paramref name="from"/>: the text it covers, white space that it swallows included.
    /// </summary>
    public AddedToken? Find(ReadOnlySpan<char> text, int from, out int start, out int end)
    {
        int floor = from;
        while (from < text.Length)
        {
            int offset = text.Slice(from).IndexOfAny(_firstCharacters);
            if (offset < 0) break;
            start = from + offset;
            AddedToken? token = LongestAt(text, start);
            if (token is null)
            {
                from = start + 1;
                continue;
            }

            end = from = start + token.Content.Length;
            if (token.SingleWord && (EndsWithWord(text.Slice(0, start)) || StartsWithWord(text.Slice(end)))) continue;
            while (token.LeftStrip && start > floor && char.IsWhiteSpace(text[start - 1])) start--;
            while (token.RightStrip && end < text.Length && char.IsWhiteSpace(text[end])) end++;
            return token;
        }

        start = end = text.Length;
        return null;
    }

    private AddedToken? LongestAt(ReadOnlySpan<char> text, int index)
    {
        AddedToken? longest = null;
        for (int node = 0; index < text.Length && _children.TryGetValue((node, text[index]), out node); index++)
        {
            if (_tokenAtNode.TryGetValue(node, out AddedToken? token)) longest = token;
        }

        return longest;
    }

    private static bool EndsWithWord(ReadOnlySpan<char> text)
    {
        if (text.IsEmpty) return false;
        int last = text.Length >= 2 && char.IsSurrogatePair(text[^2], text[^1]) ? text.Length - 2 : text.Length - 1;
        return StartsWithWord(text.Slice(last));
    }

    private static bool StartsWithWord(ReadOnlySpan<char> text) =>
        !text.IsEmpty && (text[0] == '_'
            || (CharacterClasses.At(text, 0, out _) & (CharacterClass.Letter | CharacterClass.Mark | CharacterClass.Number)) != 0);
}

// A .NET regular expression that matches by code point. .NET matches UTF-16 units, where half of a pair is neither letter
// nor symbol, while the patterns of tokenizers are written for code points. So the text is matched through a shadow in
// which every astral code point is one stand-in of the basic plane: of the same general category, and outside of every
// literal and range of the pattern, hence indistinguishable to it. Astral ranges that a pattern spells out become
// private-use stand-ins in pattern and shadow alike. A lone surrogate is matched as U+FFFD.
//
// The other difference between the engines: tokenizer patterns follow Oniguruma's Ruby syntax, where $ is the end of a
// line, hence Multiline here. What Oniguruma reads differently without an error (&& and nested classes) is refused.
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Fathom.Text;

/// <summary>One pattern of a tokenizer.json, cutting text at its matches.</summary>
internal sealed class CodePointRegex
{
    private const char Replacement = '\uFFFD';
    private const char FirstPrivateUse = '\uE000';
    private const char LastPrivateUse = '\uF8FF';
    private static readonly TimeSpan MatchTimeout = TimeSpan.FromSeconds(10);

    private readonly string _source;
    private readonly Regex _regex;
    private readonly List<(int First, int Last)> _astralRanges = [];
    private readonly char[] _standIns; // by UnicodeCategory

    /// <exception cref="TextFormatException">The pattern is not a regular expression, or cannot be matched by code point.</exception>
    public CodePointRegex(string source)
    {
        _source = source;
        string pattern = ReplaceAstralRanges(source);
        if (pattern.Contains("&&", StringComparison.Ordinal) || pattern.Contains("-[", StringComparison.Ordinal))
            throw Refused("set operations inside a character class are not supported");
        if (_astralRanges.Count > 0 && (pattern.Contains(@"\p", StringComparison.OrdinalIgnoreCase) || source.Any(IsPrivateUse)))
            throw Refused("a pattern may name Unicode categories or characters beyond U+FFFF, not both");
        _standIns = ChooseStandIns(pattern);
        _regex = Compile(pattern);
    }

    /// <summary>Appends the ends of the matches and of the gaps between them, as offsets in <paramref name="text"/> plus <paramref name="offset"/>.</summary>
    /// <exception cref="TextFormatException">Matching took more than ten seconds.</exception>
    public void Split(ReadOnlySpan<char> text, int offset, List<int> ends)
    {
        bool needsShadow = text.IndexOfAnyInRange('\uD800', '\uDFFF') >= 0 || _astralRanges.Count > 0;
        int[]? starts = null; // [shadow length + 1]: where each shadow character lies in the text
        ReadOnlySpan<char> subject = needsShadow ? Shadow(text, out starts) : text;
        int previous = 0;
        try
        {
            foreach (ValueMatch match in _regex.EnumerateMatches(subject))
            {
                if (match.Length == 0) continue;
                if (match.Index > previous) Add(match.Index);
                Add(previous = match.Index + match.Length);
            }
        }
        catch (RegexMatchTimeoutException failure)
        {
            throw new TextFormatException($"splitting {text.Length} characters of text with the pre_tokenizer pattern {JsonField.Quote(_source)} took too long; use a pattern without nested repetition", failure);
        }

        if (previous < subject.Length) Add(subject.Length);

        void Add(int end) => ends.Add(offset + (starts is null ? end : starts[end]));
    }

    private char[] Shadow(ReadOnlySpan<char> text, out int[] starts)
    {
        var shadow = new char[text.Length];
        starts = new int[text.Length + 1];
        int count = 0;
        for (int index = 0; index < text.Length;)
        {
            starts[count] = index;
            bool whole = Rune.DecodeFromUtf16(text.Slice(index), out Rune rune, out int length) == System.Buffers.OperationStatus.Done;
            shadow[count++] = whole ? StandInFor(rune.Value) : Replacement;
            index += length;
        }

        starts[count] = text.Length;
        Array.Resize(ref shadow, count);
        return shadow;
    }

    private char StandInFor(int codePoint)
    {
        if (codePoint <= char.MaxValue)
            return _astralRanges.Count > 0 && IsPrivateUse((char)codePoint) ? LastPrivateUse : (char)codePoint;
        int range = _astralRanges.FindIndex(range => codePoint >= range.First && codePoint <= range.Last);
        return range >= 0 ? (char)(FirstPrivateUse + range) : _standIns[(int)CharUnicodeInfo.GetUnicodeCategory(codePoint)];
    }

    /// <summary>Replaces every astral literal or range of the pattern by one private-use character.</summary>
    private string ReplaceAstralRanges(string pattern)
    {
        var result = new StringBuilder(pattern.Length);
        for (int index = 0; index < pattern.Length;)
        {
            if (!char.IsSurrogate(pattern[index]))
            {
                result.Append(pattern[index++]);
                continue;
            }

            int first = AstralAt(pattern, index);
            int last = first;
            index += 2;
            if (index + 2 < pattern.Length && pattern[index] == '-' && char.IsSurrogate(pattern[index + 1]))
            {
                last = AstralAt(pattern, index + 1);
                index += 3;
            }

            if (result is [.., '-'] || (index < pattern.Length && pattern[index] == '-' && pattern.AsSpan(index + 1) is not [']', ..]))
                throw Refused("a range may not begin below U+10000 and end above");
            if (_astralRanges.Exists(range => first <= range.Last && range.First <= last))
                throw Refused("the ranges beyond U+FFFF overlap");
            result.Append((char)(FirstPrivateUse + _astralRanges.Count));
            _astralRanges.Add((first, last));
        }

        if (_astralRanges.Count > LastPrivateUse - FirstPrivateUse) throw Refused("too many ranges beyond U+FFFF");
        return result.ToString();
    }

    private int AstralAt(string pattern, int index) =>
        index + 1 < pattern.Length && char.IsSurrogatePair(pattern[index], pattern[index + 1])
            ? char.ConvertToUtf32(pattern[index], pattern[index + 1])
            : throw Refused("it holds half of a surrogate pair");

    /// <summary>For each category, a character of the basic plane in no literal or range of the pattern.</summary>
    private char[] ChooseStandIns(string pattern)
    {
        List<(char First, char Last)> spelledOut = [];
        for (int i = 0; i < pattern.Length; i++)
        {
            bool range = i + 2 < pattern.Length && pattern[i + 1] == '-' && pattern[i + 2] >= pattern[i];
            spelledOut.Add((pattern[i], range ? pattern[i + 2] : pattern[i]));
        }

        const char None = '\0';
        var standIns = new char[(int)UnicodeCategory.OtherNotAssigned + 1];
        for (int unit = char.MaxValue; unit > 0x7F; unit--)
        {
            ref char standIn = ref standIns[(int)char.GetUnicodeCategory((char)unit)];
            if (standIn == None && !spelledOut.Exists(range => unit >= range.First && unit <= range.Last)) standIn = (char)unit;
        }

        for (int category = 0; category < standIns.Length; category++)
        {
            if (standIns[category] == None && AstralPlanesHave((UnicodeCategory)category))
                throw Refused($"its ranges leave out no {(UnicodeCategory)category} below U+10000, so those above cannot be told apart");
        }

        return standIns;
    }

    private static bool AstralPlanesHave(UnicodeCategory category) =>
        Enumerable.Range(char.MaxValue + 1, 0x10FFFF - char.MaxValue).Any(codePoint => CharUnicodeInfo.GetUnicodeCategory(codePoint) == category);

    private Regex Compile(string pattern)
    {
        const RegexOptions Options = RegexOptions.CultureInvariant | RegexOptions.Multiline;
        try
        {
            // Linear time where the pattern allows it; look-ahead does not.
            return new Regex(pattern, Options | RegexOptions.NonBacktracking, MatchTimeout);
        }
        catch (NotSupportedException)
        {
            return new Regex(pattern, Options, MatchTimeout);
        }
        catch (RegexParseException failure)
        {
            throw Refused($"it is not a regular expression that .NET understands ({failure.Error} at offset {failure.Offset})", failure);
        }
    }

    private static bool IsPrivateUse(char unit) => unit is >= FirstPrivateUse and <= LastPrivateUse;

    private TextFormatException Refused(string why, Exception? inner = null) =>
        new($"the pre_tokenizer pattern {JsonField.Quote(_source)} cannot be used: {why}", inner);
}

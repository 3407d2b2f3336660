// The part of ECMA-262 regular expressions that JSON Schema recommends for patterns: characters, classes, groups, alternatives, repetition, and
// anchors at the two ends. What would change the meaning if it were left out (assertions within, references back) is refused by name.
using System.Globalization;
using System.Text;

namespace Fathom.Inference;

/// <summary>Reads a <c>pattern</c>.</summary>
internal sealed class PatternParser
{
    private const int MaxRepeat = 1000;
    private const int MaxGroups = 32; // within each other
    private static readonly Pattern.Set Digit = new([('0', '9')]);
    private static readonly Pattern.Set Word = new([('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]);
    private static readonly Pattern.Set Space = new(
        [('\t', '\r'), (' ', ' '), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)]);

    private static readonly Pattern.Set LineBreak = new([('\n', '\n'), ('\r', '\r'), (0x2028, 0x2029)]);

    private readonly int[] text; // code points
    private int at;
    private int depth;

    private PatternParser(string expression) => text = [.. expression.EnumerateRunes().Select(rune => rune.Value)];

    /// <summary>Reads an expression; as JSON Schema says, it may match anywhere in a string unless it has anchors.</summary>
    /// <param name="expression">The expression.</param>
    /// <param name="pattern">All strings in which it matches.</param>
    /// <param name="problem">Why it cannot be used.</param>
    public static bool TryParse(string expression, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Pattern? pattern, [System.Diagnostics.CodeAnalysis.NotNullWhen(false)] out string? problem)
    {
        try
        {
            (pattern, problem) = (new PatternParser(expression).Whole(), null);
            return true;
        }
        catch (FormatException refused)
        {
            (pattern, problem) = (null, refused.Message);
            return false;
        }
    }

    private Pattern Whole()
    {
        bool fromStart = Take('^');
        Pattern body = Alternatives();
        bool toEnd = Take('$');
        if (at < text.Length) throw Refused(text[at] == ')' ? "a ')' without '('" : $"'{new Rune(text[at])}' after the end");
        if (body is Pattern.Choice && (fromStart || toEnd)) throw Refused("an anchor beside '|' belongs to one alternative only; put the alternatives into a group: ^(?:a|b)$");
        var anything = new Pattern.Repeat(Pattern.Set.Any, 0, null);
        return new Pattern.Sequence([.. fromStart ? (Pattern[])[] : [anything], body, .. toEnd ? (Pattern[])[] : [anything]]);
    }

    private Pattern Alternatives()
    {
        if (++depth > MaxGroups) throw Refused($"more than {MaxGroups} groups within each other");
        List<Pattern> all = [Sequence()];
        while (Take('|')) all.Add(Sequence());
        depth--;
        return all is [var single] ? single : new Pattern.Choice(all);
    }

    private Pattern.Sequence Sequence()
    {
        List<Pattern> parts = [];
        while (at < text.Length && text[at] is not ('|' or ')'))
        {
            if (text[at] == '$' && at == text.Length - 1 && depth == 1) break;
            parts.Add(Repeated(Atom()));
        }

        return new Pattern.Sequence(parts);
    }

    private Pattern Repeated(Pattern part)
    {
        (int Min, int? Max)? times = Take('*') ? (0, null) : Take('+') ? (1, null) : Take('?') ? (0, 1) : Take('{') ? Times() : null;
        if (times is not { } found) return part;
        Take('?'); // which match is preferred does not matter where all of the string must match
        if (at < text.Length && text[at] is '*' or '+' or '?' or '{') throw Refused("nothing to repeat");
        return new Pattern.Repeat(part, found.Min, found.Max);
    }

    private (int Min, int? Max) Times()
    {
        int min = Number();
        int? max = !Take(',') ? min : at < text.Length && text[at] == '}' ? null : Number();
        if (!Take('}')) throw Refused("'{' without a count; write '\\{' for the character");
        return max < min ? throw Refused($"{{{min},{max}}} is not in order") : (min, max);
    }

    private int Number()
    {
        int start = at, value = 0;
        for (; at < text.Length && text[at] is >= '0' and <= '9'; at++)
        {
            value = 10 * value + text[at] - '0';
            if (value > MaxRepeat) throw Refused($"more than {MaxRepeat} repetitions");
        }

        return at > start ? value : throw Refused("'{' without a count; write '\\{' for the character");
    }

    private Pattern Atom()
    {
        int character = text[at++];
        switch (character)
        {
            case '.': return LineBreak.Complement();
            case '[': return Class();
            case '\\': return Escape(inClass: false);
            case '^' or '$': throw Refused($"'{(char)character}' within the expression; anchors are supported at its two ends");
            case '*' or '+' or '?' or '{' or '}' or ']': throw Refused($"'{(char)character}' with nothing before it; write '\\{(char)character}' for the character");
            case '(':
                if (Take('?') && !Take(':')) throw Refused("'(?' other than '(?:'");
                Pattern inside = Alternatives();
                return Take(')') ? inside : throw Refused("a '(' without ')'");
            default: return Single(character);
        }
    }

    private Pattern.Set Class()
    {
        bool complement = Take('^');
        List<(int, int)> ranges = [];
        while (!Take(']'))
        {
            Pattern.Set low = ClassAtom();
            if (at + 1 >= text.Length || text[at] != '-' || text[at + 1] == ']')
            {
                ranges.AddRange(low.Ranges);
                continue;
            }

            at++;
            Pattern.Set high = ClassAtom();
            if (low.Ranges is not [var (first, last1)] || first != last1 || high.Ranges is not [var (last, last2)] || last != last2 || last < first) throw Refused("a range in '[…]' that does not go from one character to a later one");
            ranges.Add((first, last));
        }

        var set = new Pattern.Set(ranges);
        return complement ? set.Complement() : set;
    }

    private Pattern.Set ClassAtom()
    {
        if (at == text.Length) throw Refused("a '[' without ']'");
        int character = text[at++];
        return character == '\\' ? Escape(inClass: true) : Single(character);
    }

    private Pattern.Set Escape(bool inClass)
    {
        if (at == text.Length) throw Refused("a '\\' at the end");
        int character = text[at++];
        return character switch
        {
            'd' => Digit,
            'D' => Digit.Complement(),
            'w' => Word,
            'W' => Word.Complement(),
            's' => Space,
            'S' => Space.Complement(),
            't' => Single('\t'),
            'n' => Single('\n'),
            'r' => Single('\r'),
            'f' => Single('\f'),
            'v' => Single('\v'),
            'b' when inClass => Single('\b'),
            'x' => Single(Hex(2)),
            'u' => Single(Hex(4)),
            >= 'a' and <= 'z' or >= 'A' and <= 'Z' or >= '0' and <= '9' => throw Refused($"'\\{(char)character}'"),
            _ => Single(character),
        };
    }

    private int Hex(int digits)
    {
        string part = string.Concat(text.Skip(at).Take(digits).Select(c => new Rune(c)));
        if (part.Length != digits || !int.TryParse(part, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int value)) throw Refused($"an escape without {digits} hexadecimal digits");
        at += digits;
        return char.IsSurrogate((char)value) ? throw Refused("half of a surrogate pair; write the character itself") : value;
    }

    private static Pattern.Set Single(int codePoint) => new([(codePoint, codePoint)]);

    private bool Take(char wanted)
    {
        if (at >= text.Length || text[at] != wanted) return false;
        at++;
        return true;
    }

    private FormatException Refused(string what) => new($"{what} (at character {Math.Min(at, text.Length)})");
}

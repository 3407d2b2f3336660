// The parts of JSON (RFC 8259) that every grammar of it shares, each built when it is first asked for. What JSON leaves open is bounded, so
// that a model cannot go on for ever without saying anything: white space is one blank, or a line break and an indentation; numbers have
// up to 18 digits before and after the point and a two-digit exponent, which keeps them finite as doubles.
namespace Fathom.Inference;

/// <summary>Rules of JSON in one grammar.</summary>
internal sealed class JsonRules(GrammarBuilder builder)
{
    /// <summary>Most blanks or tabs after a line break.</summary>
    public const int MaxIndentation = 64;

    /// <summary>Most digits of an integer, of a fraction.</summary>
    public const int MaxDigits = 18;

    private readonly Dictionary<(int Min, int? Max), int> strings = [];
    private int? whiteSpace;
    private int? anyValue;
    private int? anyObject;
    private int? anyArray;
    private int? key;
    private int? integer;
    private int? number;

    /// <summary>Optional white space between two nodes.</summary>
    public void WhiteSpace(int from, int to) => builder.Call(from, whiteSpace ??= BuildWhiteSpace(), to);

    /// <summary>A character, with optional white space before it.</summary>
    public void Mark(int from, char mark, int to)
    {
        int spaced = builder.Node();
        WhiteSpace(from, spaced);
        builder.Character(spaced, mark, to);
    }

    /// <summary>Any value.</summary>
    public int AnyValue()
    {
        if (anyValue is { } known) return known;
        int start = builder.Node(), end = builder.Node();
        anyValue = start;
        foreach (string literal in (string[])["true", "false", "null"]) builder.Literal(start, literal, end);
        builder.Return(end);
        foreach (int rule in (int[])[AnyObject(), AnyArray(), String(0, null), Number()]) builder.Jump(start, rule);
        return start;
    }

    /// <summary>Any object.</summary>
    public int AnyObject()
    {
        if (anyObject is { } known) return known;
        anyObject = builder.Node();
        int inside = builder.Node(), end = builder.Node(), name = builder.Node(), after = builder.Node();
        builder.Character(anyObject.Value, '{', inside);
        Mark(inside, '}', end);
        WhiteSpace(inside, name);
        Member(name, key ??= String(0, null), AnyValue(), after);
        Separator(after, name);
        Mark(after, '}', end);
        builder.Return(end);
        return anyObject.Value;
    }

    /// <summary>A name, a colon and a value.</summary>
    public void Member(int from, int keyRule, int valueRule, int to)
    {
        int named = builder.Node();
        builder.Call(from, keyRule, named);
        Value(named, valueRule, to);
    }

    /// <summary>A colon and a value, after a name.</summary>
    public void Value(int named, int valueRule, int to)
    {
        int colon = builder.Node(), spaced = builder.Node();
        Mark(named, ':', colon);
        WhiteSpace(colon, spaced);
        builder.Call(spaced, valueRule, to, deeper: true);
    }

    /// <summary>A comma within white space.</summary>
    public void Separator(int from, int to)
    {
        int comma = builder.Node();
        Mark(from, ',', comma);
        WhiteSpace(comma, to);
    }

    /// <summary>An array of values of one rule.</summary>
    /// <param name="item">The rule, or null for any value.</param>
    /// <param name="min">Fewest items.</param>
    /// <param name="max">Most items, or null.</param>
    /// <param name="start">Where the array begins.</param>
    public void Array(int start, int? item, int min, int? max)
    {
        int inside = builder.Node(), end = builder.Node();
        builder.Character(start, '[', inside);
        builder.Return(end);
        if (min == 0) Mark(inside, ']', end);
        if (max is 0) return;
        int next = builder.Node(), after = builder.Node(), counted = builder.Node(), more = builder.Node(), enough = builder.Node();
        WhiteSpace(inside, next);
        builder.Call(next, item ?? AnyValue(), after, deeper: true);
        builder.Count(after, max ?? min, counted); // without a limit what matters is whether there are enough
        if (max is { } most) builder.JumpIfBelow(counted, most, more);
        else builder.Jump(counted, more);
        builder.JumpIfAtLeast(counted, min, enough);
        Separator(more, next);
        Mark(enough, ']', end);
    }

    /// <summary>A string of any characters, with a length in code points.</summary>
    public int String(int min, int? max)
    {
        if (strings.TryGetValue((min, max), out int known)) return known;
        int start = builder.Node(), inside = builder.Node(), end = builder.Node();
        strings[(min, max)] = start;
        builder.Character(start, '"', inside);
        builder.Return(end);
        bool counts = min > 0 || max is not null;
        int next = inside, taken = inside, enough = inside;
        if (counts)
        {
            (next, taken, enough) = (builder.Node(), builder.Node(), builder.Node());
            if (max is { } most) builder.JumpIfBelow(inside, most, next);
            else builder.Jump(inside, next);
            builder.Count(taken, max ?? min, inside);
            builder.JumpIfAtLeast(inside, min, enough);
        }

        AnyCharacter(next, taken);
        builder.Character(enough, '"', end);
        return start;
    }

    /// <summary>An integer.</summary>
    public int Integer()
    {
        if (integer is { } known) return known;
        int start = builder.Node(), end = builder.Node();
        integer = start;
        Digits(start, end);
        builder.Return(end);
        return start;
    }

    /// <summary>A number.</summary>
    public int Number()
    {
        if (number is { } known) return known;
        int start = builder.Node(), whole = builder.Node(), point = builder.Node(), fraction = builder.Node(), exponent = builder.Node(), signed = builder.Node(), end = builder.Node();
        number = start;
        Digits(start, whole);
        builder.Jump(whole, fraction);
        builder.Character(whole, '.', point);
        UpTo(point, MaxDigits, fraction);
        builder.Jump(fraction, end);
        builder.Character(fraction, 'e', exponent);
        builder.Character(fraction, 'E', exponent);
        builder.Character(exponent, '+', signed);
        builder.Character(exponent, '-', signed);
        builder.Jump(exponent, signed);
        UpTo(signed, 2, end);
        builder.Return(end);
        return start;
    }

    private int AnyArray()
    {
        if (anyArray is { } known) return known;
        anyArray = builder.Node();
        Array(anyArray.Value, null, 0, null);
        return anyArray.Value;
    }

    private int BuildWhiteSpace()
    {
        int start = builder.Node(), line = builder.Node(), indented = builder.Node(), end = builder.Node();
        builder.Character(start, ' ', end);
        builder.Jump(start, end);
        builder.Character(start, '\n', line);
        builder.Jump(line, end);
        int blank = builder.Node();
        builder.JumpIfBelow(line, MaxIndentation, blank);
        builder.Character(blank, ' ', indented);
        builder.Character(blank, '\t', indented);
        builder.Count(indented, MaxIndentation, line);
        builder.Return(end);
        return start;
    }

    /// <summary>One character of a string in any of its spellings. Halves of surrogate pairs come only together.</summary>
    private void AnyCharacter(int from, int to)
    {
        foreach ((int low, int high) in (ReadOnlySpan<(int, int)>)[(' ', '!'), ('#', '['), (']', 0x10FFFF)]) builder.CodePoints(from, low, high, to);
        int escape = builder.Node(), digits = builder.Node(), surrogate = builder.Node(), low1 = builder.Node(), low2 = builder.Node(), low3 = builder.Node();
        builder.Character(from, '\\', escape);
        foreach (char short1 in "\"\\/bfnrt") builder.Character(escape, short1, to);
        builder.Character(escape, 'u', digits);

        int last3 = builder.Node(), last2 = builder.Node(), last1 = builder.Node();
        foreach (string first in (string[])["09", "AC", "EF", "ac", "ef"]) builder.Bytes(digits, (byte)first[0], (byte)first[1], last3);
        HexDigit(last3, last2);
        int d = builder.Node();
        builder.Character(digits, 'D', d);
        builder.Character(digits, 'd', d);
        builder.Bytes(d, (byte)'0', (byte)'7', last2);
        HexDigit(last2, last1);
        HexDigit(last1, to);

        int high2 = builder.Node(), high1 = builder.Node();
        foreach (string eighth in (string[])["89", "AB", "ab"]) builder.Bytes(d, (byte)eighth[0], (byte)eighth[1], high2);
        HexDigit(high2, high1);
        HexDigit(high1, surrogate);
        builder.Literal(surrogate, "\\u", low1);
        builder.Character(low1, 'D', low2);
        builder.Character(low1, 'd', low2);
        foreach (string twelfth in (string[])["CF", "cf"]) builder.Bytes(low2, (byte)twelfth[0], (byte)twelfth[1], low3);
        int lowLast = builder.Node();
        HexDigit(low3, lowLast);
        HexDigit(lowLast, to);
    }

    private void HexDigit(int from, int to)
    {
        foreach (string range in (string[])["09", "AF", "af"]) builder.Bytes(from, (byte)range[0], (byte)range[1], to);
    }

    /// <summary>A sign and digits without leading zeros.</summary>
    private void Digits(int from, int to)
    {
        int first = builder.Node(), more = builder.Node();
        builder.Character(from, '-', first);
        builder.Jump(from, first);
        builder.Character(first, '0', to);
        builder.Bytes(first, (byte)'1', (byte)'9', more);
        builder.Jump(more, to);
        UpTo(more, MaxDigits - 1, to);
    }

    /// <summary>One to <paramref name="most"/> digits.</summary>
    private void UpTo(int from, int most, int to)
    {
        for (int i = 0; i < most; i++)
        {
            int next = builder.Node();
            builder.Bytes(from, (byte)'0', (byte)'9', next);
            builder.Jump(next, to);
            from = next;
        }
    }
}

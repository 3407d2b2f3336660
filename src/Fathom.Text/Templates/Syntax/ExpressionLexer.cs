// The tokens inside {{ }} and {% %}: names, numbers, strings, operators. Brackets are counted, because the }} in
// {{ {'a': {}} }} closes two dictionaries and not the output.
using System.Globalization;

namespace Fathom.Text.Templates;

/// <summary>Lexes one token at a time from the inside of a tag.</summary>
internal sealed class ExpressionLexer(SourceText source, List<TemplateToken> tokens)
{
    private static readonly string[] s_longOperators = ["//", "**", "==", "!=", "<=", ">="];
    private const string ShortOperators = "+-*/%~=<>.,:|()[]{};";

    private readonly string _text = source.Text;
    private readonly Stack<char> _closers = new();

    /// <summary>Whether a bracket is open, so that an end mark is not one.</summary>
    public bool InBrackets => _closers.Count > 0;

    /// <summary>Adds the token at an offset that is not whitespace, and returns the offset behind it.</summary>
    public int AddToken(int start)
    {
        char first = _text[start];
        if (first is '\'' or '"') return AddString(start, first);
        if (char.IsAsciiDigit(first)) return AddNumber(start);
        if (first == '_' || char.IsLetter(first))
        {
            int end = start + 1;
            while (end < _text.Length && (_text[end] == '_' || char.IsLetterOrDigit(_text[end]))) end++;
            return Add(TokenKind.Name, start, end);
        }

        foreach (string symbol in s_longOperators)
        {
            if (string.CompareOrdinal(_text, start, symbol, 0, 2) == 0) return Add(TokenKind.Operator, start, start + 2);
        }

        if (!ShortOperators.Contains(first, StringComparison.Ordinal)) throw source.Error(start, $"unexpected character '{first}'");
        CountBracket(start, first);
        return Add(TokenKind.Operator, start, start + 1);
    }

    private void CountBracket(int at, char symbol)
    {
        switch (symbol)
        {
            case '(':
                _closers.Push(')');
                break;
            case '[':
                _closers.Push(']');
                break;
            case '{':
                _closers.Push('}');
                break;
            case ')' or ']' or '}':
                if (!_closers.TryPop(out char expected)) throw source.Error(at, $"unexpected '{symbol}', no bracket is open");
                if (expected != symbol) throw source.Error(at, $"unexpected '{symbol}', expected '{expected}'");
                break;
        }
    }

    private int AddString(int start, char quote)
    {
        int end = start + 1;
        while (end < _text.Length && _text[end] != quote) end += _text[end] == '\\' ? 2 : 1;
        if (end >= _text.Length) throw source.Error(start, $"the string is not closed; add {quote}");
        string value = StringLiteral.Decode(source, start + 1, end);
        tokens.Add(new(TokenKind.String, value, source.PositionOf(start)));
        return end + 1;
    }

    private int AddNumber(int start)
    {
        if (_text[start] == '0' && start + 1 < _text.Length && char.ToLowerInvariant(_text[start + 1]) is ('x' or 'o' or 'b'))
        {
            throw source.Error(start, "numbers in base 2, 8 or 16 are not covered; write the number in base 10");
        }

        int end = Digits(start);
        TokenKind kind = TokenKind.Integer;
        bool afterDot = tokens[^1].IsOperator(".");
        if (!afterDot && end + 1 < _text.Length && _text[end] == '.' && char.IsAsciiDigit(_text[end + 1]))
        {
            end = Digits(end + 1);
            kind = TokenKind.Float;
        }

        if (!afterDot && end < _text.Length && _text[end] is ('e' or 'E'))
        {
            int exponent = end + 1;
            if (exponent < _text.Length && _text[exponent] is ('+' or '-')) exponent++;
            if (exponent < _text.Length && char.IsAsciiDigit(_text[exponent]))
            {
                end = Digits(exponent);
                kind = TokenKind.Float;
            }
        }

        if (end - start > 1000) throw source.Error(start, "a number of more than 1000 digits is not covered");
        string digits = _text[start..end].Replace("_", "", StringComparison.Ordinal);
        if (kind == TokenKind.Integer && digits.Length > 1 && digits[0] == '0' && digits.Trim('0').Length > 0)
        {
            throw source.Error(start, $"an integer must not begin with 0: {digits}");
        }

        if (kind == TokenKind.Float && !double.TryParse(digits, NumberStyles.Float, CultureInfo.InvariantCulture, out _))
        {
            throw source.Error(start, $"not a number: {digits}");
        }

        tokens.Add(new(kind, digits, source.PositionOf(start)));
        return end;
    }

    private int Digits(int at)
    {
        while (at < _text.Length && (char.IsAsciiDigit(_text[at]) ||
            (_text[at] == '_' && at + 1 < _text.Length && char.IsAsciiDigit(_text[at + 1])))) at++;
        return at;
    }

    private int Add(TokenKind kind, int start, int end)
    {
        tokens.Add(new(kind, _text[start..end], source.PositionOf(start)));
        return end;
    }
}

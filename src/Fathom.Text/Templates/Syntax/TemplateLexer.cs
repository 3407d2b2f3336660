// Splits a template into text and the tokens inside {{ }} and {% %}, and applies whitespace control, which is the
// trap of chat templates: one wrong newline is another token for the model. Hugging Face compiles templates with
// trim_blocks (a newline right after %} or #} is dropped) and lstrip_blocks (spaces between the start of a line and
// {% or {# are dropped); '-' strips all whitespace on its side, '+' switches both rules off on its side.
namespace Fathom.Text.Templates;

/// <summary>Turns a template's text into tokens.</summary>
internal sealed class TemplateLexer
{
    private readonly SourceText _source;
    private readonly string _text;
    private readonly List<TemplateToken> _tokens = [];
    private int _at;
    private bool _atLineStart = true;

    private TemplateLexer(SourceText source)
    {
        _source = source;
        _text = source.Text;
    }

    /// <summary>All tokens of a template, the last one being <see cref="TokenKind.EndOfTemplate"/>.</summary>
    public static List<TemplateToken> Run(SourceText source)
    {
        TemplateLexer lexer = new(source);
        while (lexer.NextPiece())
        {
        }

        lexer.Add(TokenKind.EndOfTemplate, "", source.Text.Length);
        return lexer._tokens;
    }

    private bool NextPiece()
    {
        int open = FindOpening(_at);
        if (open < 0)
        {
            AddText(_at, _text.Length);
            return false;
        }

        char kind = _text[open + 1];
        int inside = open + 2;
        char sign = SignAt(inside);
        AddText(_at, StripBefore(_at, open, sign, isOutput: kind == '{'));
        if (sign != '\0') inside++;

        switch (kind)
        {
            case '#':
                SkipComment(open, inside);
                break;
            case '%' when TryMatchTag(inside, "raw", out int rawBody, out char rawSign):
                Resume(rawSign == '-' ? SkipSpace(rawBody) : rawBody);
                AddRaw(open);
                break;
            default:
                AddTag(open, inside, kind == '%');
                break;
        }

        return true;
    }

    private int FindOpening(int from)
    {
        for (int at = _text.IndexOf('{', from); at >= 0 && at + 1 < _text.Length; at = _text.IndexOf('{', at + 1))
        {
            if (_text[at + 1] is '{' or '%' or '#') return at;
        }

        return -1;
    }

    private void SkipComment(int open, int inside)
    {
        int close = _text.IndexOf("#}", inside, StringComparison.Ordinal);
        if (close < 0) throw _source.Error(open, "the comment '{#' is not closed; add '#}'");
        Resume(AfterBlock(close > inside ? SignAt(close - 1) : '\0', close + 2));
    }

    private void AddRaw(int open)
    {
        for (int at = _text.IndexOf("{%", _at, StringComparison.Ordinal); at >= 0; at = _text.IndexOf("{%", at + 2, StringComparison.Ordinal))
        {
            char sign = SignAt(at + 2);
            if (!TryMatchTag(at + (sign == '\0' ? 2 : 3), "endraw", out int after, out char endSign)) continue;
            AddText(_at, StripBefore(_at, at, sign, isOutput: false));
            Resume(AfterBlock(endSign, after));
            return;
        }

        throw _source.Error(open, "'{% raw %}' is not closed; add '{% endraw %}'");
    }

    // Matches the rest of a tag that holds one word only: spaces, the word, spaces, an optional sign and %}.
    private bool TryMatchTag(int at, string word, out int after, out char sign)
    {
        after = 0;
        sign = '\0';
        at = SkipSpace(at);
        if (string.CompareOrdinal(_text, at, word, 0, word.Length) != 0) return false;
        at = SkipSpace(at + word.Length);
        sign = SignAt(at);
        if (sign != '\0') at++;
        after = at + 2;
        return string.CompareOrdinal(_text, at, "%}", 0, 2) == 0;
    }

    private void AddTag(int open, int inside, bool isBlock)
    {
        Add(isBlock ? TokenKind.TagBegin : TokenKind.OutputBegin, "", open);
        string end = isBlock ? "%}" : "}}";
        ExpressionLexer expression = new(_source, _tokens);
        for (int at = inside; ;)
        {
            at = SkipSpace(at);
            if (at >= _text.Length) throw _source.Error(open, $"'{_text[open..(open + 2)]}' is not closed; add '{end}'");
            if (!expression.InBrackets)
            {
                char sign = _text[at] == '-' || (isBlock && _text[at] == '+') ? _text[at] : '\0';
                int close = sign == '\0' ? at : at + 1;
                if (string.CompareOrdinal(_text, close, end, 0, 2) == 0)
                {
                    Add(isBlock ? TokenKind.TagEnd : TokenKind.OutputEnd, "", close);
                    int after = close + 2;
                    if (isBlock) after = AfterBlock(sign, after);
                    else if (sign == '-') after = SkipSpace(after);
                    Resume(after);
                    return;
                }
            }

            at = expression.AddToken(at);
        }
    }

    // The end of the text before an opening, after whitespace control.
    private int StripBefore(int start, int open, char sign, bool isOutput)
    {
        int end = open;
        if (sign == '-')
        {
            while (end > start && PythonText.IsSpace(_text[end - 1])) end--;
            return end;
        }

        if (sign == '+' || isOutput) return open;
        while (end > start && _text[end - 1] != '\n')
        {
            if (!PythonText.IsSpace(_text[end - 1])) return open;
            end--;
        }

        return end > start || _atLineStart ? end : open;
    }

    private int AfterBlock(char sign, int after) => sign switch
    {
        '-' => SkipSpace(after),
        '+' => after,
        _ => after < _text.Length && _text[after] == '\n' ? after + 1 : after,
    };

    private void Resume(int at)
    {
        _at = at;
        _atLineStart = _text[at - 1] == '\n';
    }

    private char SignAt(int at) => at < _text.Length && _text[at] is ('-' or '+') ? _text[at] : '\0';

    private int SkipSpace(int at)
    {
        while (at < _text.Length && PythonText.IsSpace(_text[at])) at++;
        return at;
    }

    private void AddText(int start, int end)
    {
        if (end > start) Add(TokenKind.Text, _text[start..end], start);
    }

    private void Add(TokenKind kind, string text, int offset) => _tokens.Add(new(kind, text, _source.PositionOf(offset)));
}

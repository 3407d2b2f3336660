namespace Fathom.Text.Templates;

/// <summary>A place in a template: line and column, both from 1.</summary>
internal readonly record struct SourcePosition(int Line, int Column);

internal enum TokenKind
{
    /// <summary>Text that is printed as it stands.</summary>
    Text,
    /// <summary><c>{{</c></summary>
    OutputBegin,
    /// <summary><c>}}</c></summary>
    OutputEnd,
    /// <summary><c>{%</c></summary>
    TagBegin,
    /// <summary><c>%}</c></summary>
    TagEnd,
    Name,
    String,
    Integer,
    Float,
    Operator,
    EndOfTemplate,
}

/// <summary>A token; <paramref name="Text"/> is the literal text, the name, the operator, or the decoded string.</summary>
internal readonly record struct TemplateToken(TokenKind Kind, string Text, SourcePosition Position)
{
    public bool IsName(string name) => Kind == TokenKind.Name && Text == name;

    public bool IsOperator(string symbol) => Kind == TokenKind.Operator && Text == symbol;

    /// <summary>How messages name the token.</summary>
    public string Describe() => Kind switch
    {
        TokenKind.EndOfTemplate => "the end of the template",
        TokenKind.Text => "text",
        TokenKind.OutputBegin => "'{{'",
        TokenKind.OutputEnd => "'}}'",
        TokenKind.TagBegin => "'{%'",
        TokenKind.TagEnd => "'%}'",
        TokenKind.String => "a string",
        _ => $"'{(Text.Length <= 40 ? Text : Text[..40] + "…")}'",
    };
}

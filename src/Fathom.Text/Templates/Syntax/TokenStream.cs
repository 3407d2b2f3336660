using System.Runtime.CompilerServices;

namespace Fathom.Text.Templates;

/// <summary>The tokens as the parsers read them, and the bound on how deeply a template may nest.</summary>
internal sealed class TokenStream(SourceText source, List<TemplateToken> tokens)
{
    private const int MaxNesting = 200;

    private int _index;
    private int _nesting;

    public TemplateToken Current => tokens[_index];

    /// <summary>The token after the current one.</summary>
    public TemplateToken Following => tokens[Math.Min(_index + 1, tokens.Count - 1)];

    public TemplateToken Next()
    {
        TemplateToken token = tokens[_index];
        if (_index < tokens.Count - 1) _index++;
        return token;
    }

    public bool SkipOperator(string symbol)
    {
        if (!Current.IsOperator(symbol)) return false;
        Next();
        return true;
    }

    public bool SkipName(string name)
    {
        if (!Current.IsName(name)) return false;
        Next();
        return true;
    }

    public void ExpectOperator(string symbol)
    {
        if (!SkipOperator(symbol)) throw Unexpected($"'{symbol}'");
    }

    public string ExpectName(string what) => Current.Kind == TokenKind.Name ? Next().Text : throw Unexpected(what);

    public void ExpectKind(TokenKind kind)
    {
        if (Current.Kind != kind) throw Unexpected(new TemplateToken(kind, "", default).Describe());
        Next();
    }

    public ChatTemplateException Unexpected(string expected) => Error($"expected {expected}, found {Current.Describe()}");

    public ChatTemplateException Error(string problem) => source.Error(Current.Position, problem);

    public ChatTemplateException Error(SourcePosition at, string problem) => source.Error(at, problem);

    /// <summary>Counts one level of nesting in; every call is paired with <see cref="Leave"/>.</summary>
    public void Enter()
    {
        if (++_nesting > MaxNesting || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw Error($"the template nests more than {MaxNesting} levels deep here");
        }
    }

    public void Leave() => _nesting--;
}

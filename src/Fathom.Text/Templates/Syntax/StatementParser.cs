// Parses the tags {% … %} and the text between them. Tags that belong to template inheritance and files (extends,
// block, include, import) have no place in a chat template and are refused by name.
namespace Fathom.Text.Templates;

/// <summary>Parses a whole template.</summary>
internal sealed class StatementParser
{
    private readonly TokenStream _stream;
    private readonly ExpressionParser _expressions;
    private int _loops;

    private StatementParser(TokenStream stream, List<string> notCovered)
    {
        _stream = stream;
        _expressions = new(stream, notCovered);
    }

    /// <summary>Parses a template into its statements.</summary>
    /// <param name="source">The template.</param>
    /// <param name="notCovered">Receives what the template names and this implementation lacks.</param>
    public static IReadOnlyList<Statement> Run(SourceText source, List<string> notCovered)
    {
        StatementParser parser = new(new TokenStream(source, TemplateLexer.Run(source)), notCovered);
        return parser.Body(opening: default, []);
    }

    // Statements up to a tag whose name is in `ends`; that tag's name is taken, its %} is not.
    private List<Statement> Body(TemplateToken opening, ReadOnlySpan<string> ends)
    {
        _stream.Enter();
        List<Statement> body = [];
        while (true)
        {
            TemplateToken token = _stream.Current;
            switch (token.Kind)
            {
                case TokenKind.Text:
                    body.Add(new TextStatement(_stream.Next().Position, token.Text));
                    break;
                case TokenKind.OutputBegin:
                    _stream.Next();
                    body.Add(new OutputStatement(token.Position, _expressions.ParseTuple()));
                    _stream.ExpectKind(TokenKind.OutputEnd);
                    break;
                case TokenKind.TagBegin:
                    _stream.Next();
                    if (_stream.Current.Kind == TokenKind.Name && ends.Contains(_stream.Current.Text))
                    {
                        _stream.Leave();
                        return body;
                    }

                    body.Add(Tag());
                    break;
                default:
                    if (ends.Length > 0) throw _stream.Error(opening.Position, $"'{{% {opening.Text} %}}' is not closed; add '{{% {ends[^1]} %}}'");
                    _stream.Leave();
                    return body;
            }
        }
    }

    private Statement Tag()
    {
        TemplateToken tag = _stream.Current;
        string name = _stream.ExpectName("the name of a tag");
        return name switch
        {
            "if" => If(tag),
            "for" => For(tag),
            "set" => Set(tag),
            "macro" => Macro(tag),
            "call" => CallBlock(tag),
            "filter" => FilterBlock(tag),
            "with" => With(tag),
            "generation" => new WithStatement(tag.Position, [], ClosedBody(tag, "endgeneration")),
            "break" or "continue" => LoopControl(tag),
            "elif" or "else" => throw _stream.Error(tag.Position, $"'{name}' belongs inside if or for, and none is open here"),
            _ when name.StartsWith("end", StringComparison.Ordinal) => throw _stream.Error(tag.Position, $"'{name}' closes nothing that is open here"),
            _ => throw _stream.Error(tag.Position, $"the tag '{name}' is not covered"),
        };
    }

    // Takes the %} of an opening tag, its body, and the whole closing tag.
    private List<Statement> ClosedBody(TemplateToken opening, string end)
    {
        _stream.ExpectKind(TokenKind.TagEnd);
        List<Statement> body = Body(opening, [end]);
        EndTag();
        return body;
    }

    private void EndTag()
    {
        _stream.Next();
        _stream.ExpectKind(TokenKind.TagEnd);
    }

    private IfStatement If(TemplateToken tag)
    {
        List<(Expression?, IReadOnlyList<Statement>)> branches = [];
        Expression? condition = _expressions.ParseTuple(conditional: false);
        while (true)
        {
            _stream.ExpectKind(TokenKind.TagEnd);
            List<Statement> body = condition is null ? Body(tag, ["endif"]) : Body(tag, ["elif", "else", "endif"]);
            branches.Add((condition, body));
            string next = _stream.Next().Text;
            if (next == "endif") break;
            condition = next == "elif" ? _expressions.ParseTuple(conditional: false) : null;
        }

        _stream.ExpectKind(TokenKind.TagEnd);
        return new(tag.Position, branches);
    }

    private ForStatement For(TemplateToken tag)
    {
        AssignmentTarget target = _expressions.ParseTarget(allowNamespace: false);
        if (!_stream.SkipName("in")) throw _stream.Unexpected("'in'");
        Expression items = _expressions.ParseTuple(conditional: false);
        Expression? filter = _stream.SkipName("if") ? _expressions.Parse() : null;
        if (_stream.Current.IsName("recursive")) throw _stream.Error("a recursive for loop is not covered; use a macro that calls itself");
        _stream.ExpectKind(TokenKind.TagEnd);
        _loops++;
        List<Statement> body = Body(tag, ["else", "endfor"]);
        _loops--;
        List<Statement> otherwise = [];
        if (_stream.Current.IsName("else"))
        {
            EndTag();
            otherwise = Body(tag, ["endfor"]);
        }

        EndTag();
        return new(tag.Position, target, items, filter, body, otherwise);
    }

    private Statement LoopControl(TemplateToken tag)
    {
        if (_loops == 0) throw _stream.Error(tag.Position, $"'{tag.Text}' is not inside a for loop");
        _stream.ExpectKind(TokenKind.TagEnd);
        return tag.Text == "break" ? new BreakStatement(tag.Position) : new ContinueStatement(tag.Position);
    }

    private Statement Set(TemplateToken tag)
    {
        AssignmentTarget target = _expressions.ParseTarget(allowNamespace: true);
        if (_stream.SkipOperator("="))
        {
            Expression value = _expressions.ParseTuple();
            _stream.ExpectKind(TokenKind.TagEnd);
            return new SetStatement(tag.Position, target, value);
        }

        Expression text = new BodyTextExpression(tag.Position);
        if (_stream.SkipOperator("|")) text = _expressions.ParseFilters(text);
        return new BlockSetStatement(tag.Position, target, text, SeparateBody(tag, "endset"));
    }

    private FilterBlockStatement FilterBlock(TemplateToken tag)
    {
        Expression value = _expressions.ParseFilters(new BodyTextExpression(tag.Position));
        return new(tag.Position, value, SeparateBody(tag, "endfilter"));
    }

    private WithStatement With(TemplateToken tag)
    {
        List<(AssignmentTarget, Expression)> assignments = [];
        while (_stream.Current.Kind != TokenKind.TagEnd)
        {
            if (assignments.Count > 0) _stream.ExpectOperator(",");
            AssignmentTarget target = _expressions.ParseTarget(allowNamespace: false);
            _stream.ExpectOperator("=");
            assignments.Add((target, _expressions.Parse()));
        }

        return new(tag.Position, assignments, ClosedBody(tag, "endwith"));
    }

    private MacroStatement Macro(TemplateToken tag)
    {
        string name = _stream.ExpectName("the name of the macro");
        List<(string, Expression?)> parameters = Parameters();
        return new(tag.Position, new(name, parameters, SeparateBody(tag, "endmacro")));
    }

    private CallBlockStatement CallBlock(TemplateToken tag)
    {
        List<(string, Expression?)> parameters = _stream.Current.IsOperator("(") ? Parameters() : [];
        SourcePosition position = _stream.Current.Position;
        if (_expressions.Parse() is not CallExpression call) throw _stream.Error(position, "expected a call such as name(…) in 'call'");
        return new(tag.Position, call, new("caller", parameters, SeparateBody(tag, "endcall")));
    }

    // A body that renders into text of its own; break and continue cannot leave it.
    private List<Statement> SeparateBody(TemplateToken tag, string end)
    {
        int loops = _loops;
        _loops = 0;
        List<Statement> body = ClosedBody(tag, end);
        _loops = loops;
        return body;
    }

    private List<(string, Expression?)> Parameters()
    {
        _stream.ExpectOperator("(");
        List<(string Name, Expression? Default)> parameters = [];
        while (!_stream.SkipOperator(")"))
        {
            if (parameters.Count > 0)
            {
                _stream.ExpectOperator(",");
                if (_stream.SkipOperator(")")) break;
            }

            string name = _stream.ExpectName("the name of a parameter");
            if (parameters.Exists(parameter => parameter.Name == name)) throw _stream.Error($"the parameter '{name}' occurs twice");
            Expression? defaultValue = _stream.SkipOperator("=") ? _expressions.Parse() : null;
            if (defaultValue is null && parameters is [.., { Default: not null }])
            {
                throw _stream.Error($"the parameter '{name}' without a default follows one with a default");
            }

            parameters.Add((name, defaultValue));
        }

        return parameters;
    }
}

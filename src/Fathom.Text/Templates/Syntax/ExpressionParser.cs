// Recursive descent over the expression grammar, loosest binding first:
//   a if b else c   or   and   not   comparisons   + -   ~   * / // %   **   unary - +   primary . [] () | is
// Two traps that are Jinja's and not Python's: ** binds to the left (2**3**2 is 64) and weaker than unary minus,
// and ~ binds tighter than + and -.
using System.Globalization;
using System.Numerics;

namespace Fathom.Text.Templates;

/// <summary>Parses expressions from a token stream.</summary>
/// <param name="stream">The tokens.</param>
/// <param name="notCovered">Receives filters and tests that the template names and this implementation lacks.</param>
internal sealed class ExpressionParser(TokenStream stream, List<string> notCovered)
{
    /// <summary>One expression; <paramref name="conditional"/> allows <c>a if b else c</c> at the top.</summary>
    public Expression Parse(bool conditional = true)
    {
        stream.Enter();
        Expression expression = conditional ? Conditional() : Or();
        stream.Leave();
        return expression;
    }

    /// <summary>One expression, or a tuple when commas follow.</summary>
    public Expression ParseTuple(bool conditional = true)
    {
        SourcePosition position = stream.Current.Position;
        Expression first = Parse(conditional);
        if (!stream.Current.IsOperator(",")) return first;
        List<Expression> items = [first];
        while (stream.SkipOperator(",") && !AtTupleEnd()) items.Add(Parse(conditional));
        return new TupleExpression(position, items);
    }

    /// <summary>A target of set or for: a name, <c>namespace.attribute</c> where allowed, or a tuple of targets.</summary>
    public AssignmentTarget ParseTarget(bool allowNamespace)
    {
        SourcePosition position = stream.Current.Position;
        AssignmentTarget first = SingleTarget(allowNamespace);
        if (!stream.Current.IsOperator(",")) return first;
        List<AssignmentTarget> items = [first];
        while (stream.SkipOperator(",") && !AtTupleEnd() && !stream.Current.IsName("in") && !stream.Current.IsOperator("=")) items.Add(SingleTarget(allowNamespace));
        return new TupleTarget(position, items);
    }

    /// <summary>A chain of filters applied to a subject, starting behind the first '|' (which may be left out).</summary>
    public Expression ParseFilters(Expression subject)
    {
        do
        {
            subject = Filter(subject);
        }
        while (stream.SkipOperator("|"));
        return subject;
    }

    private AssignmentTarget SingleTarget(bool allowNamespace)
    {
        SourcePosition position = stream.Current.Position;
        if (stream.Current.IsOperator("(") || stream.Current.IsOperator("["))
        {
            string close = stream.Next().Text == "(" ? ")" : "]";
            stream.Enter();
            AssignmentTarget inner = ParseTarget(allowNamespace);
            stream.Leave();
            stream.ExpectOperator(close);
            return inner is TupleTarget ? inner : new TupleTarget(position, [inner]);
        }

        string name = stream.ExpectName("a variable name");
        if (name is "true" or "false" or "none" or "True" or "False" or "None") throw stream.Error(position, $"cannot assign to '{name}'");
        if (!allowNamespace || !stream.SkipOperator(".")) return new NameTarget(position, name);
        return new NamespaceTarget(position, name, stream.ExpectName("an attribute name"));
    }

    private bool AtTupleEnd() =>
        stream.Current.Kind is TokenKind.OutputEnd or TokenKind.TagEnd or TokenKind.EndOfTemplate || stream.Current.IsOperator(")");

    private Expression Conditional()
    {
        Expression value = Or();
        while (stream.Current.IsName("if"))
        {
            SourcePosition position = stream.Next().Position;
            Expression condition = Or();
            Expression? otherwise = stream.SkipName("else") ? Parse() : null;
            value = new ConditionalExpression(position, condition, value, otherwise);
        }

        return value;
    }

    private Expression Or()
    {
        Expression left = And();
        while (stream.Current.IsName("or")) left = new LogicalExpression(stream.Next().Position, false, left, And());
        return left;
    }

    private Expression And()
    {
        Expression left = Not();
        while (stream.Current.IsName("and")) left = new LogicalExpression(stream.Next().Position, true, left, Not());
        return left;
    }

    private Expression Not()
    {
        if (!stream.Current.IsName("not")) return Comparison();
        SourcePosition position = stream.Next().Position;
        stream.Enter();
        Expression operand = Not();
        stream.Leave();
        return new UnaryExpression(position, UnaryOperator.Not, operand);
    }

    private Expression Comparison()
    {
        SourcePosition position = stream.Current.Position;
        Expression first = Sum();
        List<(ComparisonOperator, Expression)>? rest = null;
        while (TakeComparison() is { } comparison) (rest ??= []).Add((comparison, Sum()));
        return rest is null ? first : new ComparisonExpression(position, first, rest);
    }

    private ComparisonOperator? TakeComparison()
    {
        TemplateToken token = stream.Current;
        ComparisonOperator? comparison = token switch
        {
            { Kind: TokenKind.Operator } => token.Text switch
            {
                "==" => ComparisonOperator.Equal,
                "!=" => ComparisonOperator.NotEqual,
                "<" => ComparisonOperator.Less,
                "<=" => ComparisonOperator.LessOrEqual,
                ">" => ComparisonOperator.Greater,
                ">=" => ComparisonOperator.GreaterOrEqual,
                _ => null,
            },
            { Kind: TokenKind.Name, Text: "in" } => ComparisonOperator.In,
            { Kind: TokenKind.Name, Text: "not" } when stream.Following.IsName("in") => ComparisonOperator.NotIn,
            _ => null,
        };
        if (comparison is not null) stream.Next();
        if (comparison == ComparisonOperator.NotIn) stream.Next();
        return comparison;
    }

    private Expression Sum()
    {
        Expression left = Concatenation();
        while (stream.Current is { Kind: TokenKind.Operator, Text: "+" or "-" })
        {
            TemplateToken symbol = stream.Next();
            left = new BinaryExpression(symbol.Position, symbol.Text == "+" ? BinaryOperator.Add : BinaryOperator.Subtract, left, Concatenation());
        }

        return left;
    }

    private Expression Concatenation()
    {
        SourcePosition position = stream.Current.Position;
        Expression first = Product();
        if (!stream.Current.IsOperator("~")) return first;
        List<Expression> parts = [first];
        while (stream.SkipOperator("~")) parts.Add(Product());
        return new ConcatenationExpression(position, parts);
    }

    private Expression Product()
    {
        Expression left = Power();
        while (stream.Current is { Kind: TokenKind.Operator, Text: "*" or "/" or "//" or "%" })
        {
            TemplateToken symbol = stream.Next();
            BinaryOperator operation = symbol.Text switch
            {
                "*" => BinaryOperator.Multiply,
                "/" => BinaryOperator.Divide,
                "//" => BinaryOperator.FloorDivide,
                _ => BinaryOperator.Modulo,
            };
            left = new BinaryExpression(symbol.Position, operation, left, Power());
        }

        return left;
    }

    private Expression Power()
    {
        Expression left = Unary(withFilters: true);
        while (stream.Current.IsOperator("**"))
        {
            left = new BinaryExpression(stream.Next().Position, BinaryOperator.Power, left, Unary(withFilters: true));
        }

        return left;
    }

    // Filters bind to -x as a whole: -1|abs is (-1)|abs, while -a.b is -(a.b).
    private Expression Unary(bool withFilters)
    {
        Expression operand;
        if (stream.Current is { Kind: TokenKind.Operator, Text: "-" or "+" })
        {
            TemplateToken symbol = stream.Next();
            stream.Enter();
            operand = new UnaryExpression(
                symbol.Position, symbol.Text == "-" ? UnaryOperator.Negate : UnaryOperator.Plus, Unary(withFilters: false));
            stream.Leave();
        }
        else
        {
            operand = Postfix(Primary());
        }

        return withFilters ? FiltersAndTests(operand) : operand;
    }

    private Expression Primary()
    {
        TemplateToken token = stream.Current;
        switch (token.Kind)
        {
            case TokenKind.Name:
                stream.Next();
                return token.Text switch
                {
                    "true" or "True" => new LiteralExpression(token.Position, true),
                    "false" or "False" => new LiteralExpression(token.Position, false),
                    "none" or "None" => new LiteralExpression(token.Position, None.Value),
                    _ => new NameExpression(token.Position, token.Text),
                };
            case TokenKind.String:
                string text = stream.Next().Text;
                if (stream.Current.Kind == TokenKind.String) text = AdjacentStrings(text);
                return new LiteralExpression(token.Position, text);
            case TokenKind.Integer:
                stream.Next();
                return new LiteralExpression(token.Position, BigInteger.Parse(token.Text, CultureInfo.InvariantCulture));
            case TokenKind.Float:
                stream.Next();
                return new LiteralExpression(token.Position, double.Parse(token.Text, CultureInfo.InvariantCulture));
            case TokenKind.Operator when token.Text == "(":
                return Parenthesised();
            case TokenKind.Operator when token.Text == "[":
                stream.Next();
                return new ListExpression(token.Position, Items("]"));
            case TokenKind.Operator when token.Text == "{":
                return Dictionary();
            default:
                throw stream.Unexpected("an expression");
        }
    }

    private string AdjacentStrings(string first)
    {
        List<string> parts = [first];
        while (stream.Current.Kind == TokenKind.String) parts.Add(stream.Next().Text);
        return string.Concat(parts);
    }

    private Expression Parenthesised()
    {
        SourcePosition position = stream.Next().Position;
        if (stream.SkipOperator(")")) return new TupleExpression(position, []);
        Expression inner = ParseTuple();
        stream.ExpectOperator(")");
        return inner;
    }

    private List<Expression> Items(string close)
    {
        List<Expression> items = [];
        while (!stream.SkipOperator(close))
        {
            if (items.Count > 0)
            {
                stream.ExpectOperator(",");
                if (stream.SkipOperator(close)) break;
            }

            items.Add(Parse());
        }

        return items;
    }

    private DictionaryExpression Dictionary()
    {
        SourcePosition position = stream.Next().Position;
        List<(Expression, Expression)> entries = [];
        while (!stream.SkipOperator("}"))
        {
            if (entries.Count > 0)
            {
                stream.ExpectOperator(",");
                if (stream.SkipOperator("}")) break;
            }

            Expression key = Parse();
            stream.ExpectOperator(":");
            entries.Add((key, Parse()));
        }

        return new DictionaryExpression(position, entries);
    }

    private Expression Postfix(Expression target)
    {
        while (stream.Current is { Kind: TokenKind.Operator, Text: "." or "[" or "(" })
        {
            target = stream.Current.Text switch
            {
                "." => Attribute(target),
                "[" => Subscript(target),
                _ => new CallExpression(stream.Current.Position, target, Arguments()),
            };
        }

        return target;
    }

    private Expression Attribute(Expression target)
    {
        stream.Next();
        TemplateToken name = stream.Current;
        if (name.Kind == TokenKind.Integer)
        {
            stream.Next();
            return new SubscriptExpression(
                name.Position, target, new LiteralExpression(name.Position, BigInteger.Parse(name.Text, CultureInfo.InvariantCulture)));
        }

        return new AttributeExpression(name.Position, target, stream.ExpectName("an attribute name"));
    }

    private Expression Subscript(Expression target)
    {
        SourcePosition position = stream.Next().Position;
        Expression? start = stream.Current.IsOperator(":") ? null : ParseTuple();
        if (start is not null && stream.SkipOperator("]")) return new SubscriptExpression(position, target, start);
        stream.ExpectOperator(":");
        Expression? stop = stream.Current.IsOperator(":") || stream.Current.IsOperator("]") ? null : Parse();
        Expression? step = stream.SkipOperator(":") && !stream.Current.IsOperator("]") ? Parse() : null;
        stream.ExpectOperator("]");
        return new SliceExpression(position, target, start, stop, step);
    }

    private Expression FiltersAndTests(Expression target)
    {
        while (true)
        {
            if (stream.SkipOperator("|")) target = Filter(target);
            else if (stream.Current.IsName("is")) target = Test(target);
            else if (stream.Current.IsOperator("(")) target = new CallExpression(stream.Current.Position, target, Arguments());
            else return target;
        }
    }

    private FilterExpression Filter(Expression target)
    {
        SourcePosition position = stream.Current.Position;
        string name = stream.ExpectName("the name of a filter");
        ArgumentList arguments = stream.Current.IsOperator("(") ? Arguments() : ArgumentList.Empty;
        Function? filter = Filters.Find(name);
        if (filter is null) notCovered.Add($"line {position.Line}, column {position.Column}: the filter '{name}'");
        return new FilterExpression(position, target, name, filter, arguments);
    }

    private Expression Test(Expression target)
    {
        stream.Next();
        bool negated = stream.SkipName("not");
        SourcePosition position = stream.Current.Position;
        string name = stream.ExpectName("the name of a test");
        ArgumentList arguments = stream.Current.IsOperator("(") ? Arguments()
            : AtTestArgument() ? new([Postfix(PrimaryNested())], [])
            : ArgumentList.Empty;
        Function? test = Tests.Find(name);
        if (test is null) notCovered.Add($"line {position.Line}, column {position.Column}: the test '{name}'");
        Expression result = new TestExpression(position, target, name, test, arguments);
        return negated ? new UnaryExpression(position, UnaryOperator.Not, result) : result;
    }

    private Expression PrimaryNested()
    {
        stream.Enter();
        Expression primary = Primary();
        stream.Leave();
        return primary;
    }

    private bool AtTestArgument() => stream.Current.Kind switch
    {
        TokenKind.String or TokenKind.Integer or TokenKind.Float => true,
        TokenKind.Name when stream.Current.Text == "is" => throw stream.Error("tests cannot be chained with a second 'is'"),
        TokenKind.Name => stream.Current.Text is not ("else" or "or" or "and" or "if" or "not" or "in"),
        TokenKind.Operator => stream.Current.Text is "[" or "{",
        _ => false,
    };

    private ArgumentList Arguments()
    {
        stream.ExpectOperator("(");
        List<Expression> positional = [];
        List<(string, Expression)> named = [];
        while (!stream.SkipOperator(")"))
        {
            if (positional.Count + named.Count > 0)
            {
                stream.ExpectOperator(",");
                if (stream.SkipOperator(")")) break;
            }

            if (stream.Current is { Kind: TokenKind.Operator, Text: "*" or "**" })
            {
                throw stream.Error($"unpacking arguments with '{stream.Current.Text}' is not covered");
            }

            if (stream.Current.Kind == TokenKind.Name && stream.Following.IsOperator("="))
            {
                string name = stream.Next().Text;
                stream.Next();
                named.Add((name, Parse()));
            }
            else if (named.Count > 0)
            {
                throw stream.Error("an argument without a name cannot follow one with a name");
            }
            else
            {
                positional.Add(Parse());
            }
        }

        return new(positional, named);
    }
}

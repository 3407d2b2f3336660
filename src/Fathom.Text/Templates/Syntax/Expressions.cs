// The expressions of the template language as a tree. Nodes are immutable, so a parsed template renders on many
// threads at once.
namespace Fathom.Text.Templates;

internal abstract record Expression(SourcePosition Position);

internal enum UnaryOperator
{
    Not,
    Negate,
    Plus,
}

internal enum BinaryOperator
{
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

internal enum ComparisonOperator
{
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

/// <summary>A constant: none, boolean, integer, float or string.</summary>
internal sealed record LiteralExpression(SourcePosition Position, object Value) : Expression(Position);

internal sealed record NameExpression(SourcePosition Position, string Name) : Expression(Position);

internal sealed record ListExpression(SourcePosition Position, IReadOnlyList<Expression> Items) : Expression(Position);

internal sealed record TupleExpression(SourcePosition Position, IReadOnlyList<Expression> Items) : Expression(Position);

internal sealed record DictionaryExpression(SourcePosition Position, IReadOnlyList<(Expression Key, Expression Value)> Entries) : Expression(Position);

internal sealed record UnaryExpression(SourcePosition Position, UnaryOperator Operator, Expression Operand) : Expression(Position);

internal sealed record BinaryExpression(SourcePosition Position, BinaryOperator Operator, Expression Left, Expression Right) : Expression(Position);

/// <summary><c>a ~ b ~ c</c>: the texts of all parts.</summary>
internal sealed record ConcatenationExpression(SourcePosition Position, IReadOnlyList<Expression> Parts) : Expression(Position);

/// <summary><c>left and right</c> or <c>left or right</c>: the operand that decided, as in Python.</summary>
internal sealed record LogicalExpression(SourcePosition Position, bool IsAnd, Expression Left, Expression Right) : Expression(Position);

/// <summary><c>a &lt; b &lt;= c</c>: true when every neighbouring pair compares so.</summary>
internal sealed record ComparisonExpression(
    SourcePosition Position, Expression First, IReadOnlyList<(ComparisonOperator Operator, Expression Operand)> Rest) : Expression(Position);

/// <summary><c>value if condition else other</c>; without else the result is undefined.</summary>
internal sealed record ConditionalExpression(SourcePosition Position, Expression Condition, Expression Value, Expression? Otherwise) : Expression(Position);

internal sealed record AttributeExpression(SourcePosition Position, Expression Target, string Name) : Expression(Position);

internal sealed record SubscriptExpression(SourcePosition Position, Expression Target, Expression Key) : Expression(Position);

internal sealed record SliceExpression(SourcePosition Position, Expression Target, Expression? Start, Expression? Stop, Expression? Step) : Expression(Position);

internal sealed record CallExpression(SourcePosition Position, Expression Target, ArgumentList Arguments) : Expression(Position);

/// <summary><c>target | name(arguments)</c>; <paramref name="Filter"/> is null when the filter is not covered.</summary>
internal sealed record FilterExpression(SourcePosition Position, Expression Target, string Name, Function? Filter, ArgumentList Arguments) : Expression(Position);

/// <summary><c>target is name(arguments)</c>; <paramref name="Test"/> is null when the test is not covered.</summary>
internal sealed record TestExpression(SourcePosition Position, Expression Target, string Name, Function? Test, ArgumentList Arguments) : Expression(Position);

/// <summary>The text that the body of a block set or a filter block has rendered, as the subject of its filters.</summary>
internal sealed record BodyTextExpression(SourcePosition Position) : Expression(Position);

/// <summary>The arguments of a call as written.</summary>
internal sealed record ArgumentList(IReadOnlyList<Expression> Positional, IReadOnlyList<(string Name, Expression Value)> Named)
{
    public static ArgumentList Empty { get; } = new([], []);
}

// The statements of the template language as a tree.
namespace Fathom.Text.Templates;

internal abstract record Statement(SourcePosition Position);

internal sealed record TextStatement(SourcePosition Position, string Text) : Statement(Position);

internal sealed record OutputStatement(SourcePosition Position, Expression Value) : Statement(Position);

/// <summary>if/elif/else: the first branch whose condition is true; the last one may have no condition.</summary>
internal sealed record IfStatement(SourcePosition Position, IReadOnlyList<(Expression? Condition, IReadOnlyList<Statement> Body)> Branches) : Statement(Position);

internal sealed record ForStatement(
    SourcePosition Position,
    AssignmentTarget Target,
    Expression Items,
    Expression? Filter,
    IReadOnlyList<Statement> Body,
    IReadOnlyList<Statement> Otherwise) : Statement(Position);

internal sealed record BreakStatement(SourcePosition Position) : Statement(Position);

internal sealed record ContinueStatement(SourcePosition Position) : Statement(Position);

internal sealed record SetStatement(SourcePosition Position, AssignmentTarget Target, Expression Value) : Statement(Position);

/// <summary><c>{% set x %}…{% endset %}</c>: <paramref name="Value"/> is the body's text, or filters applied to it.</summary>
internal sealed record BlockSetStatement(SourcePosition Position, AssignmentTarget Target, Expression Value, IReadOnlyList<Statement> Body) : Statement(Position);

/// <summary><c>{% filter f %}…{% endfilter %}</c></summary>
internal sealed record FilterBlockStatement(SourcePosition Position, Expression Value, IReadOnlyList<Statement> Body) : Statement(Position);

/// <summary><c>{% with a = 1 %}</c>, and with no assignments <c>{% generation %}</c>: a body with variables of its own.</summary>
internal sealed record WithStatement(
    SourcePosition Position, IReadOnlyList<(AssignmentTarget Target, Expression Value)> Assignments, IReadOnlyList<Statement> Body) : Statement(Position);

internal sealed record MacroStatement(SourcePosition Position, MacroDefinition Definition) : Statement(Position);

/// <summary><c>{% call(x) f(…) %}…{% endcall %}</c>: the body becomes f's <c>caller</c>.</summary>
internal sealed record CallBlockStatement(SourcePosition Position, CallExpression Call, MacroDefinition Caller) : Statement(Position);

/// <summary>A macro as written: parameters with optional defaults, and the body.</summary>
internal sealed record MacroDefinition(string Name, IReadOnlyList<(string Name, Expression? Default)> Parameters, IReadOnlyList<Statement> Body);

/// <summary>Where a value is assigned to.</summary>
internal abstract record AssignmentTarget(SourcePosition Position);

internal sealed record NameTarget(SourcePosition Position, string Name) : AssignmentTarget(Position);

internal sealed record NamespaceTarget(SourcePosition Position, string Name, string Attribute) : AssignmentTarget(Position);

internal sealed record TupleTarget(SourcePosition Position, IReadOnlyList<AssignmentTarget> Items) : AssignmentTarget(Position);

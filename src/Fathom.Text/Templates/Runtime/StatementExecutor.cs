// Runs statements. Break and continue travel up as a return value, since exceptions are kept for errors.
namespace Fathom.Text.Templates;

internal enum Flow
{
    Next,
    Break,
    Continue,
}

internal static class StatementExecutor
{
    /// <summary>The variable behind <see cref="BodyTextExpression"/>; no template can name it.</summary>
    public const string BodyText = "%body";

    /// <summary>Runs a body in order, writing to <paramref name="output"/>.</summary>
    public static Flow Run(RenderRun run, Scope scope, IReadOnlyList<Statement> body, TextBuffer output)
    {
        foreach (Statement statement in body)
        {
            run.Position = statement.Position;
            run.Enter();
            Flow flow = Run(run, scope, statement, output);
            run.Leave();
            if (flow != Flow.Next) return flow;
        }

        return Flow.Next;
    }

    private static Flow Run(RenderRun run, Scope scope, Statement statement, TextBuffer output)
    {
        switch (statement)
        {
            case TextStatement text:
                output.Append(text.Text);
                return Flow.Next;
            case OutputStatement print:
                object value = ExpressionEvaluator.Evaluate(run, scope, print.Value);
                output.Append(PythonText.Of(run, value));
                return Flow.Next;
            case IfStatement branches:
                return If(run, scope, branches, output);
            case ForStatement loop:
                return For(run, scope, loop, output);
            case SetStatement set:
                Assignments.Assign(run, scope, set.Target, ExpressionEvaluator.Evaluate(run, scope, set.Value));
                return Flow.Next;
            case BlockSetStatement set:
                Assignments.Assign(run, scope, set.Target, FilteredBody(run, scope, set.Body, set.Value));
                return Flow.Next;
            case FilterBlockStatement filter:
                output.Append(PythonText.Of(run, FilteredBody(run, scope, filter.Body, filter.Value)));
                return Flow.Next;
            case WithStatement with:
                return With(run, scope, with, output);
            case MacroStatement macro:
                scope.Set(macro.Definition.Name, new Macro(macro.Definition, scope));
                return Flow.Next;
            case CallBlockStatement call:
                object result = ExpressionEvaluator.Call(run, scope, call.Call, new Macro(call.Caller, scope));
                output.Append(PythonText.Of(run, result));
                return Flow.Next;
            case BreakStatement:
                return Flow.Break;
            case ContinueStatement:
                return Flow.Continue;
            default:
                throw new NotSupportedException(statement.GetType().Name);
        }
    }

    private static Flow If(RenderRun run, Scope scope, IfStatement statement, TextBuffer output)
    {
        foreach ((Expression? condition, IReadOnlyList<Statement> body) in statement.Branches)
        {
            if (condition is null || Values.IsTrue(ExpressionEvaluator.Evaluate(run, scope, condition))) return Run(run, scope, body, output);
        }

        return Flow.Next;
    }

    private static Flow For(RenderRun run, Scope scope, ForStatement statement, TextBuffer output)
    {
        object source = ExpressionEvaluator.Evaluate(run, scope, statement.Items);
        run.Position = statement.Position;
        IReadOnlyList<object> items = [.. Values.Items(run, source)]; // a copy, because the body may append to the list
        if (statement.Filter is not null) items = Filtered(run, scope, statement, items);
        if (items.Count == 0) return Run(run, scope, statement.Otherwise, output);

        LoopState loop = new(items);
        for (int index = 0; index < items.Count; index++)
        {
            run.Charge(4); // a scope of its own, also when the body is empty
            Scope iteration = new(scope);
            loop.Index = index;
            iteration.Set("loop", loop);
            run.Position = statement.Position;
            Assignments.Assign(run, iteration, statement.Target, items[index]);
            if (Run(run, iteration, statement.Body, output) == Flow.Break) break;
        }

        return Flow.Next;
    }

    // The filter runs before the loop does, so that loop.length counts what passes; it cannot see `loop`.
    private static List<object> Filtered(RenderRun run, Scope scope, ForStatement statement, IReadOnlyList<object> items)
    {
        List<object> kept = [];
        foreach (object item in items)
        {
            run.Charge(4);
            Scope iteration = new(scope);
            iteration.Set("loop", new Undefined("the filter of a for loop cannot use 'loop'"));
            Assignments.Assign(run, iteration, statement.Target, item);
            if (Values.IsTrue(ExpressionEvaluator.Evaluate(run, iteration, statement.Filter!))) kept.Add(item);
        }

        return kept;
    }

    private static Flow With(RenderRun run, Scope scope, WithStatement statement, TextBuffer output)
    {
        Scope inner = new(scope);
        foreach ((AssignmentTarget target, Expression value) in statement.Assignments)
        {
            Assignments.Assign(run, inner, target, ExpressionEvaluator.Evaluate(run, scope, value));
        }

        return Run(run, inner, statement.Body, output);
    }

    private static object FilteredBody(RenderRun run, Scope scope, IReadOnlyList<Statement> body, Expression value)
    {
        TextBuffer text = new(run);
        Scope inner = new(scope);
        Run(run, inner, body, text);
        Scope filters = new(scope);
        filters.Set(BodyText, text.ToString());
        return ExpressionEvaluator.Evaluate(run, filters, value);
    }
}

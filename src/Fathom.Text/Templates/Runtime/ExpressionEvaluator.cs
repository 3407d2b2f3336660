// Evaluates expressions by walking the tree. Every node passes through Evaluate, which counts steps and depth and
// remembers the place; the place is set again before an operation that can fail, because operands move it.
namespace Fathom.Text.Templates;

internal static class ExpressionEvaluator
{
    /// <summary>The value of an expression.</summary>
    public static object Evaluate(RenderRun run, Scope scope, Expression expression)
    {
        run.Position = expression.Position;
        run.Enter();
        object value = expression switch
        {
            LiteralExpression literal => literal.Value,
            NameExpression name => scope.Get(name.Name),
            BodyTextExpression => scope.Get(StatementExecutor.BodyText),
            AttributeExpression attribute => Attribute(run, scope, attribute),
            SubscriptExpression subscript => Subscript(run, scope, subscript),
            ComparisonExpression comparison => Compare(run, scope, comparison),
            LogicalExpression logical => Logical(run, scope, logical),
            UnaryExpression unary => Unary(run, scope, unary),
            BinaryExpression binary => Binary(run, scope, binary),
            ConcatenationExpression concatenation => Concatenate(run, scope, concatenation),
            ConditionalExpression conditional => Conditional(run, scope, conditional),
            FilterExpression filter => Filter(run, scope, filter),
            TestExpression test => Test(run, scope, test),
            CallExpression call => Call(run, scope, call, caller: null),
            SliceExpression slice => Slice(run, scope, slice),
            ListExpression list => Items(run, scope, list.Items),
            TupleExpression tuple => new TemplateTuple(Items(run, scope, tuple.Items)),
            DictionaryExpression dictionary => Dictionary(run, scope, dictionary),
            _ => throw new NotSupportedException(expression.GetType().Name),
        };
        run.Leave();
        return value;
    }

    /// <summary>A call, where a call block passes its body as <paramref name="caller"/>.</summary>
    public static object Call(RenderRun run, Scope scope, CallExpression call, Macro? caller)
    {
        object target = Evaluate(run, scope, call.Target);
        CallArguments arguments = Arguments(run, scope, call.Arguments);
        if (caller is not null) arguments = arguments with { Named = [.. arguments.Named, ("caller", caller)] };
        run.Position = call.Position;
        return target switch
        {
            ICallable callable => callable.Call(run, arguments),
            Undefined undefined => throw NotCallable(run, call.Target, undefined),
            _ => throw run.Error($"{TypeNames.Of(target)} cannot be called"),
        };
    }

    private static ChatTemplateException NotCallable(RenderRun run, Expression target, Undefined undefined) => target switch
    {
        AttributeExpression attribute => run.Error($"the method '{attribute.Name}' is not covered here: {undefined.Explanation}"),
        NameExpression name => run.Error($"the function '{name.Name}' is not defined or not covered"),
        _ => run.Error(undefined),
    };

    private static CallArguments Arguments(RenderRun run, Scope scope, ArgumentList list)
    {
        if (list.Positional.Count + list.Named.Count == 0) return CallArguments.Empty;
        List<object> positional = Items(run, scope, list.Positional);
        List<(string, object)> named = [];
        foreach ((string name, Expression value) in list.Named) named.Add((name, Evaluate(run, scope, value)));
        return new(positional, named);
    }

    private static List<object> Items(RenderRun run, Scope scope, IReadOnlyList<Expression> expressions)
    {
        List<object> items = new(expressions.Count);
        foreach (Expression expression in expressions) items.Add(Evaluate(run, scope, expression));
        return items;
    }

    private static TemplateDictionary Dictionary(RenderRun run, Scope scope, DictionaryExpression expression)
    {
        TemplateDictionary dictionary = new();
        foreach ((Expression keyExpression, Expression valueExpression) in expression.Entries)
        {
            object key = Evaluate(run, scope, keyExpression);
            if (!TemplateDictionary.CanBeKey(key)) throw run.Error($"{TypeNames.Of(key)} cannot be a key of a mapping");
            dictionary.Set(key, Evaluate(run, scope, valueExpression));
        }

        return dictionary;
    }

    private static object Attribute(RenderRun run, Scope scope, AttributeExpression expression)
    {
        object target = Evaluate(run, scope, expression.Target);
        run.Position = expression.Position;
        return Members.Attribute(run, target, expression.Name);
    }

    private static object Subscript(RenderRun run, Scope scope, SubscriptExpression expression)
    {
        object target = Evaluate(run, scope, expression.Target);
        object key = Evaluate(run, scope, expression.Key);
        run.Position = expression.Position;
        return Members.Subscript(run, target, key);
    }

    private static object Slice(RenderRun run, Scope scope, SliceExpression expression)
    {
        object target = Evaluate(run, scope, expression.Target);
        object? start = expression.Start is null ? null : Evaluate(run, scope, expression.Start);
        object? stop = expression.Stop is null ? null : Evaluate(run, scope, expression.Stop);
        object? step = expression.Step is null ? null : Evaluate(run, scope, expression.Step);
        run.Position = expression.Position;
        return Slices.Take(run, target, start, stop, step);
    }

    private static object Compare(RenderRun run, Scope scope, ComparisonExpression expression)
    {
        object left = Evaluate(run, scope, expression.First);
        foreach ((ComparisonOperator operation, Expression operand) in expression.Rest)
        {
            object right = Evaluate(run, scope, operand);
            run.Position = expression.Position;
            if (!Comparison.Holds(run, operation, left, right)) return false;
            left = right;
        }

        return true;
    }

    private static object Logical(RenderRun run, Scope scope, LogicalExpression expression)
    {
        object left = Evaluate(run, scope, expression.Left);
        return Values.IsTrue(left) == expression.IsAnd ? Evaluate(run, scope, expression.Right) : left;
    }

    private static object Unary(RenderRun run, Scope scope, UnaryExpression expression)
    {
        object operand = Evaluate(run, scope, expression.Operand);
        run.Position = expression.Position;
        return expression.Operator == UnaryOperator.Not ? !Values.IsTrue(operand) : Arithmetic.Sign(run, expression.Operator, operand);
    }

    private static object Binary(RenderRun run, Scope scope, BinaryExpression expression)
    {
        object left = Evaluate(run, scope, expression.Left);
        object right = Evaluate(run, scope, expression.Right);
        run.Position = expression.Position;
        return Arithmetic.Apply(run, expression.Operator, left, right);
    }

    private static string Concatenate(RenderRun run, Scope scope, ConcatenationExpression expression)
    {
        List<object> parts = Items(run, scope, expression.Parts);
        run.Position = expression.Position;
        TextBuffer text = new(run);
        foreach (object part in parts) text.Append(PythonText.Of(run, part));
        return text.ToString();
    }

    private static object Conditional(RenderRun run, Scope scope, ConditionalExpression expression)
    {
        if (Values.IsTrue(Evaluate(run, scope, expression.Condition))) return Evaluate(run, scope, expression.Value);
        return expression.Otherwise is null
            ? new Undefined("the condition is false and the expression has no else")
            : Evaluate(run, scope, expression.Otherwise);
    }

    private static object Filter(RenderRun run, Scope scope, FilterExpression expression)
    {
        object target = Evaluate(run, scope, expression.Target);
        CallArguments arguments = Arguments(run, scope, expression.Arguments);
        run.Position = expression.Position;
        if (expression.Filter is null) throw run.Error($"the filter '{expression.Name}' is not covered");
        return expression.Filter.Invoke(run, target, arguments);
    }

    private static object Test(RenderRun run, Scope scope, TestExpression expression)
    {
        object target = Evaluate(run, scope, expression.Target);
        CallArguments arguments = Arguments(run, scope, expression.Arguments);
        run.Position = expression.Position;
        if (expression.Test is null) throw run.Error($"the test '{expression.Name}' is not covered");
        return expression.Test.Invoke(run, target, arguments);
    }
}

// The operators on values that are not both numbers: joining and repeating texts and lists, and % as printf.
// Text + number is an error, as in Python; ~ is the operator that joins anything.
using System.Numerics;

namespace Fathom.Text.Templates;

internal static class Arithmetic
{
    public static object Apply(RenderRun run, BinaryOperator operation, object left, object right)
    {
        if (Numbers.Apply(run, operation, left, right) is { } number) return number;
        switch (operation, left, right)
        {
            case (_, Undefined undefined, _):
                throw run.Error(undefined);
            case (BinaryOperator.Add, string a, string b):
                run.CheckTextLength((long)a.Length + b.Length);
                return run.Made(a + b);
            case (BinaryOperator.Add, List<object> a, List<object> b):
                run.ChargeItems(a.Count + b.Count);
                return new List<object>([.. a, .. b]);
            case (BinaryOperator.Add, TemplateTuple a, TemplateTuple b):
                run.ChargeItems(a.Items.Count + b.Items.Count);
                return new TemplateTuple([.. a.Items, .. b.Items]);
            case (BinaryOperator.Modulo, string format, _):
                return PrintfFormat.Apply(run, format, right);
            case (_, _, Undefined undefined):
                throw run.Error(undefined);
            case (BinaryOperator.Multiply, string or List<object> or TemplateTuple, _) when Numbers.TryToInteger(right, out BigInteger times):
                return Repeat(run, left, times);
            case (BinaryOperator.Multiply, _, string or List<object> or TemplateTuple) when Numbers.TryToInteger(left, out BigInteger times):
                return Repeat(run, right, times);
            default:
                string hint = operation == BinaryOperator.Add && (left is string || right is string) ? "; '~' joins any values as text" : "";
                throw run.Error($"'{Symbol(operation)}' does not work on {TypeNames.Of(left)} and {TypeNames.Of(right)}{hint}");
        }
    }

    public static object Sign(RenderRun run, UnaryOperator operation, object operand)
    {
        if (Numbers.TryToInteger(operand, out BigInteger integer)) return operation == UnaryOperator.Negate ? -integer : integer;
        if (operand is double number) return operation == UnaryOperator.Negate ? -number : number;
        if (operand is Undefined undefined) throw run.Error(undefined);
        throw run.Error($"{TypeNames.Of(operand)} has no sign");
    }

    private static object Repeat(RenderRun run, object value, BigInteger times)
    {
        int count = (int)BigInteger.Clamp(times, 0, int.MaxValue);
        if (value is string text)
        {
            run.CheckTextLength((long)text.Length * count);
            return text.Length == 0 ? "" : run.Made(string.Concat(Enumerable.Repeat(text, count)));
        }

        IReadOnlyList<object> items = Values.Items(run, value);
        run.ChargeItems((long)items.Count * count);
        List<object> repeated = [];
        for (int round = 0; round < count && items.Count > 0; round++) repeated.AddRange(items);
        return value is TemplateTuple ? new TemplateTuple(repeated) : repeated;
    }

    private static string Symbol(BinaryOperator operation) => operation switch
    {
        BinaryOperator.Add => "+",
        BinaryOperator.Subtract => "-",
        BinaryOperator.Multiply => "*",
        BinaryOperator.Divide => "/",
        BinaryOperator.FloorDivide => "//",
        BinaryOperator.Modulo => "%",
        _ => "**",
    };
}

// The tests of `value is name`. A trap that templates meet: booleans are numbers but not integers, and mappings and
// strings are sequences.
using System.Numerics;

namespace Fathom.Text.Templates;

/// <summary>The tests <c>value is name(…)</c> by name.</summary>
internal static class Tests
{
    private static readonly Dictionary<string, Function> s_tests = Collect();

    /// <summary>A test; null when it is not covered.</summary>
    public static Function? Find(string name) => s_tests.GetValueOrDefault(name);

    private static Dictionary<string, Function> Collect()
    {
        Dictionary<string, Function> tests = new(StringComparer.Ordinal);
        void Add(string names, string parameters, Func<BoundArguments, bool> body)
        {
            foreach (string name in names.Split(' ')) tests.Add(name, Function.Of(parameters.Length == 0 ? name : name + " " + parameters, a => body(a)));
        }

        Add("defined", "", a => a.Subject is not Undefined);
        Add("undefined", "", a => a.Subject is Undefined);
        Add("none", "", a => a.Subject is None);
        Add("string", "", a => a.Subject is string);
        Add("number", "", a => a.Subject is BigInteger or double or bool);
        Add("integer", "", a => a.Subject is BigInteger);
        Add("float", "", a => a.Subject is double);
        Add("boolean", "", a => a.Subject is bool);
        Add("true", "", a => a.Subject is true);
        Add("false", "", a => a.Subject is false);
        Add("mapping", "", a => a.Subject is TemplateDictionary);
        Add("sequence", "", a => a.Subject is string or List<object> or TemplateTuple or TemplateDictionary or Undefined);
        Add("iterable", "", a => a.Subject is string or List<object> or TemplateTuple or TemplateDictionary or Undefined);
        Add("callable", "", a => a.Subject is ICallable);
        Add("lower", "", a => Cased(a.SubjectText, upper: false));
        Add("upper", "", a => Cased(a.SubjectText, upper: true));
        Add("odd", "", a => HasRemainder(a, (BigInteger)2, 1));
        Add("even", "", a => HasRemainder(a, (BigInteger)2, 0));
        Add("divisibleby", "num", a => HasRemainder(a, a[0]!, 0));
        Add("sameas", "other", a => ReferenceEquals(a.Subject, a[0]) || (a.Subject is bool x && a[0] is bool y && x == y));
        Add("in", "seq", a => Comparison.Contains(a.Run, a[0]!, a.Subject));
        Add("filter", "", a => a.Subject is string name && Filters.Find(name) is not null);
        Add("test", "", a => a.Subject is string name && Find(name) is not null);
        Add("eq equalto ==", "other", a => Comparison.Holds(a.Run, ComparisonOperator.Equal, a.Subject, a[0]!));
        Add("ne !=", "other", a => Comparison.Holds(a.Run, ComparisonOperator.NotEqual, a.Subject, a[0]!));
        Add("lt lessthan <", "other", a => Comparison.Holds(a.Run, ComparisonOperator.Less, a.Subject, a[0]!));
        Add("le <=", "other", a => Comparison.Holds(a.Run, ComparisonOperator.LessOrEqual, a.Subject, a[0]!));
        Add("gt greaterthan >", "other", a => Comparison.Holds(a.Run, ComparisonOperator.Greater, a.Subject, a[0]!));
        Add("ge >=", "other", a => Comparison.Holds(a.Run, ComparisonOperator.GreaterOrEqual, a.Subject, a[0]!));
        return tests;
    }

    private static bool HasRemainder(BoundArguments a, object divisor, int remainder)
    {
        if (Numbers.Apply(a.Run, BinaryOperator.Modulo, a.Subject, divisor) is not { } actual) throw a.WrongSubject("a number");
        return Comparison.AreEqual(a.Run, actual, (BigInteger)remainder);
    }

    // At least one letter, and all letters in that case.
    private static bool Cased(string text, bool upper) =>
        text.Any(char.IsLetter) && !text.Any(character => upper ? char.IsLower(character) : char.IsUpper(character));
}

// How Python prints values: str() for {{ }} and ~, repr() for what lies inside lists and mappings. Floats are the
// shortest digits that read back the same, in Python's choice of fixed or exponent form.
using System.Globalization;
using System.Numerics;
using System.Text;

namespace Fathom.Text.Templates;

internal static class PythonText
{
    /// <summary>Python's str().</summary>
    public static string Of(RenderRun run, object value) => value switch
    {
        string text => text,
        Undefined => "",
        _ => Repr(run, value),
    };

    /// <summary>Python's repr().</summary>
    public static string Repr(RenderRun run, object value)
    {
        TextBuffer text = new(run);
        AppendRepr(run, text, value);
        return text.ToString();
    }

    /// <summary>Python's repr() of a float.</summary>
    public static string Float(double value)
    {
        if (double.IsNaN(value)) return "nan";
        if (double.IsInfinity(value)) return value > 0 ? "inf" : "-inf";
        if (value == 0) return double.IsNegative(value) ? "-0.0" : "0.0";

        // The shortest digits and the decimal exponent: 1.25E-07 gives 125 and -7.
        (string digits, int exponent) = Decompose(Math.Abs(value).ToString("R", CultureInfo.InvariantCulture));
        string sign = value < 0 ? "-" : "";
        if (exponent is < -4 or >= 16)
        {
            string fraction = digits.Length > 1 ? "." + digits[1..] : "";
            string exponentSign = exponent < 0 ? "-" : "+";
            return string.Create(CultureInfo.InvariantCulture, $"{sign}{digits[0]}{fraction}e{exponentSign}{Math.Abs(exponent):00}");
        }

        if (exponent < 0) return sign + "0." + new string('0', -exponent - 1) + digits;
        if (digits.Length <= exponent + 1) return sign + digits.PadRight(exponent + 1, '0') + ".0";
        return sign + digits[..(exponent + 1)] + "." + digits[(exponent + 1)..];
    }

    /// <summary>What Python's str.isspace and str.strip take as whitespace.</summary>
    public static bool IsSpace(char character) => char.IsWhiteSpace(character) || character is >= '\x1c' and <= '\x1f';

    private static (string Digits, int Exponent) Decompose(string number)
    {
        int exponent = 0;
        int mark = number.IndexOf('E', StringComparison.Ordinal);
        if (mark >= 0)
        {
            exponent = int.Parse(number.AsSpan(mark + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
            number = number[..mark];
        }

        int point = number.IndexOf('.', StringComparison.Ordinal);
        int whole = point < 0 ? number.Length : point;
        string digits = number.Replace(".", "", StringComparison.Ordinal);
        int leadingZeros = digits.Length - digits.TrimStart('0').Length;
        return (digits.Trim('0'), exponent + whole - 1 - leadingZeros);
    }

    private static void AppendRepr(RenderRun run, TextBuffer text, object value)
    {
        switch (value)
        {
            case string literal:
                AppendQuoted(text, literal);
                break;
            case bool flag:
                text.Append(flag ? "True" : "False");
                break;
            case None:
                text.Append("None");
                break;
            case Undefined:
                text.Append("Undefined");
                break;
            case BigInteger integer:
                text.Append(integer.ToString(CultureInfo.InvariantCulture));
                break;
            case double number:
                text.Append(Float(number));
                break;
            case List<object> list:
                AppendItems(run, text, '[', list, ']');
                break;
            case TemplateTuple tuple:
                AppendItems(run, text, '(', tuple.Items, ')');
                break;
            case TemplateDictionary dictionary:
                AppendEntries(run, text, dictionary);
                break;
            case ICallable callable:
                text.Append($"<function {callable.Name}>");
                break;
            default:
                text.Append(value is LoopState ? "<loop>" : "<Namespace>");
                break;
        }
    }

    private static void AppendItems(RenderRun run, TextBuffer text, char open, IReadOnlyList<object> items, char close)
    {
        run.Enter();
        text.Append(open);
        for (int index = 0; index < items.Count; index++)
        {
            if (index > 0) text.Append(", ");
            AppendRepr(run, text, items[index]);
        }

        if (open == '(' && items.Count == 1) text.Append(',');
        text.Append(close);
        run.Leave();
    }

    private static void AppendEntries(RenderRun run, TextBuffer text, TemplateDictionary dictionary)
    {
        run.Enter();
        text.Append('{');
        bool first = true;
        foreach ((object key, object value) in dictionary.Entries)
        {
            if (!first) text.Append(", ");
            first = false;
            AppendRepr(run, text, key);
            text.Append(": ");
            AppendRepr(run, text, value);
        }

        text.Append('}');
        run.Leave();
    }

    // Single quotes, unless the text holds single quotes and no double ones.
    private static void AppendQuoted(TextBuffer text, string literal)
    {
        char quote = literal.Contains('\'', StringComparison.Ordinal) && !literal.Contains('"', StringComparison.Ordinal) ? '"' : '\'';
        StringBuilder quoted = new(literal.Length + 2);
        quoted.Append(quote);
        for (int at = 0; at < literal.Length;)
        {
            int length = CodePoints.LengthAt(literal, at);
            int code = length == 2 ? char.ConvertToUtf32(literal, at) : literal[at];
            if (code == quote || code == '\\') quoted.Append('\\').Append((char)code);
            else if (code == '\n') quoted.Append("\\n");
            else if (code == '\r') quoted.Append("\\r");
            else if (code == '\t') quoted.Append("\\t");
            else if (IsPrintable(code)) quoted.Append(literal, at, length);
            else if (code <= 0xFF) quoted.Append(CultureInfo.InvariantCulture, $"\\x{code:x2}");
            else if (code <= 0xFFFF) quoted.Append(CultureInfo.InvariantCulture, $"\\u{code:x4}");
            else quoted.Append(CultureInfo.InvariantCulture, $"\\U{code:x8}");
            at += length;
        }

        text.Append(quoted.Append(quote).ToString());
    }

    private static bool IsPrintable(int code) => code == ' ' || CharUnicodeInfo.GetUnicodeCategory(code) is not (
        UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate or UnicodeCategory.PrivateUse or
        UnicodeCategory.OtherNotAssigned or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.SpaceSeparator);
}

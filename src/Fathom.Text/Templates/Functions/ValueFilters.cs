// Filters on numbers, on missing values, and tojson.
using System.Globalization;
using System.Numerics;

namespace Fathom.Text.Templates;

internal static class ValueFilters
{
    public static IEnumerable<Function> All { get; } =
    [
        Function.Of("default / default_value boolean", a =>
            a.Subject is Undefined || (a.Flag(1) && !Values.IsTrue(a.Subject)) ? a[0] ?? "" : a.Subject),
        Function.Of("tojson / ensure_ascii indent separators sort_keys", ToJson),
        Function.Of("int / default base", ToInteger),
        Function.Of("float / default", a =>
            a.Subject is Undefined undefined ? throw a.Run.Error(undefined)
            : TryToFloat(a.Subject, out double number) ? number : a[0] ?? 0.0),
        Function.Of("abs", a => a.Subject switch
        {
            double number => Math.Abs(number),
            var value when Numbers.TryToInteger(value, out BigInteger integer) => BigInteger.Abs(integer),
            _ => throw a.WrongSubject("a number"),
        }),
        Function.Of("round / precision method", Round),
    ];

    private static string ToJson(BoundArguments a)
    {
        string? indent = a[1] switch
        {
            null or None => null,
            string text => text,
            _ => new string(' ', Math.Clamp(a.Integer(1, 0), 0, 1000)),
        };
        (string item, string key) = (indent is null ? ", " : ",", ": ");
        if (a[2] is not (null or None))
        {
            if (!Values.TryItems(a.Run, a[2]!, out IReadOnlyList<object> pair) || pair is not [string first, string second])
            {
                throw a.Error("needs two strings as 'separators'");
            }

            (item, key) = (first, second);
        }

        return PythonJson.Write(a.Run, a.Subject, new(indent, item, key, a.Flag(0), a.Flag(3)));
    }

    private static object ToInteger(BoundArguments a)
    {
        int numberBase = a.Integer(1, 10);
        if (numberBase != 10) throw a.Error("in a base other than 10 is not covered");
        if (a.Subject is Undefined undefined) throw a.Run.Error(undefined);
        if (Numbers.TryToInteger(a.Subject, out BigInteger integer)) return integer;
        if (a.Subject is string text && text.Length <= 1000 &&
            BigInteger.TryParse(Digits(text), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out BigInteger parsed))
        {
            return parsed;
        }

        return TryToFloat(a.Subject, out double number) && double.IsFinite(number) ? new BigInteger(number) : a[0] ?? BigInteger.Zero;
    }

    private static bool TryToFloat(object value, out double number)
    {
        number = 0;
        if (value is not string text) return Numbers.TryToDouble(value, out number);
        text = Digits(text);
        bool negative = text.StartsWith('-');
        switch (text.TrimStart('+', '-').ToLowerInvariant())
        {
            case "inf" or "infinity":
                number = negative ? double.NegativeInfinity : double.PositiveInfinity;
                return true;
            case "nan":
                number = double.NaN;
                return true;
            default:
                const NumberStyles styles = NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent;
                return double.TryParse(text, styles, CultureInfo.InvariantCulture, out number);
        }
    }

    // White space around a number and underscores between its digits mean nothing.
    private static string Digits(string text)
    {
        text = Strings.Strip(text, null);
        for (int at = text.IndexOf('_', StringComparison.Ordinal); at >= 0; at = text.IndexOf('_', at + 1))
        {
            if (at == 0 || at == text.Length - 1 || !char.IsAsciiDigit(text[at - 1]) || !char.IsAsciiDigit(text[at + 1])) return "";
        }

        return text.Replace("_", "", StringComparison.Ordinal);
    }

    private static object Round(BoundArguments a)
    {
        int places = a.Integer(0, 0);
        string method = a.Text(1, "common");
        if (method is not ("common" or "ceil" or "floor")) throw a.Error("rounds by 'common', 'ceil' or 'floor'");
        if (!Numbers.TryToDouble(a.Subject, out double number)) throw a.WrongSubject("a number");
        if (method == "common")
        {
            // Python leaves an integer an integer, and rounds it only to places left of the point.
            return a.Subject is double ? Numbers.Round(number, places)
                : places >= 0 && Numbers.TryToInteger(a.Subject, out BigInteger integer) ? integer
                : new BigInteger(Numbers.Round(number, places));
        }

        double scale = Math.Pow(10, places);
        return method == "ceil" ? Math.Ceiling(number * scale) / scale : Math.Floor(number * scale) / scale;
    }
}

// Python's printf-style formatting: 'text %s' % value, and the filter format. Conversions s r d i f x X and %%, with
// flags, width and precision; the rest is refused by name.
using System.Globalization;
using System.Numerics;

namespace Fathom.Text.Templates;

internal static class PrintfFormat
{
    public static string Apply(RenderRun run, string format, object value)
    {
        TextBuffer text = new(run);
        IReadOnlyList<object> values = value is TemplateTuple tuple ? tuple.Items : [value];
        int used = 0;
        for (int at = 0; at < format.Length; at++)
        {
            if (format[at] != '%')
            {
                text.Append(format[at]);
                continue;
            }

            if (++at < format.Length && format[at] == '%')
            {
                text.Append('%');
                continue;
            }

            object? named = null;
            if (at < format.Length && format[at] == '(')
            {
                int close = format.IndexOf(')', at);
                if (close < 0 || value is not TemplateDictionary dictionary) throw run.Error("a format with %(name) needs a mapping");
                if (!dictionary.TryGet(format[(at + 1)..close], out named)) throw run.Error($"the format names '{format[(at + 1)..close]}', which the mapping lacks");
                at = close + 1;
            }

            Specification specification = Specification.Read(run, format, ref at);
            object argument = named ?? (used < values.Count ? values[used++] : throw run.Error("the format has more conversions than values"));
            specification.Append(run, text, argument);
        }

        if (used < values.Count && value is not (TemplateDictionary or List<object>)) throw run.Error("the format has fewer conversions than values");
        return text.ToString();
    }

    private readonly record struct Specification(bool Left, bool Zero, char Plus, int Width, int Precision, char Conversion)
    {
        public static Specification Read(RenderRun run, string format, ref int at)
        {
            bool left = false, zero = false;
            char plus = '\0';
            for (; at < format.Length && format[at] is ('-' or '0' or '+' or ' '); at++)
            {
                left |= format[at] == '-';
                zero |= format[at] == '0';
                if (format[at] == '+' || (format[at] == ' ' && plus != '+')) plus = format[at];
            }

            int width = Number(format, ref at), precision = -1;
            if (at < format.Length && format[at] == '.')
            {
                at++;
                precision = Number(format, ref at);
            }

            if (at >= format.Length) throw run.Error("the format ends inside a conversion");
            if (precision > 300) throw run.Error("a precision of more than 300 is not covered");
            return new(left, zero, plus, width, precision, format[at]);
        }

        public void Append(RenderRun run, TextBuffer text, object value)
        {
            bool isNumber = Conversion is not ('s' or 'r');
            string body = Conversion switch
            {
                's' => Cut(PythonText.Of(run, value)),
                'r' => Cut(PythonText.Repr(run, value)),
                'd' or 'i' => Integer(run, value).ToString(CultureInfo.InvariantCulture),
                'x' or 'X' => Hexadecimal(Integer(run, value)),
                'f' or 'F' => Float(run, value),
                _ => throw run.Error($"the conversion %{Conversion} is not covered; s r d i f x and %% are"),
            };
            string sign = "";
            if (isNumber && body[0] == '-') (sign, body) = ("-", body[1..]);
            else if (isNumber && Plus != '\0') sign = Plus.ToString();
            int padding = Width - sign.Length - CodePoints.Count(body);
            if (Left) text.Append(sign).Append(body).Append(' ', padding);
            else if (Zero && isNumber) text.Append(sign).Append('0', padding).Append(body);
            else text.Append(' ', padding).Append(sign).Append(body);
        }

        private string Cut(string text) => Precision >= 0 && Precision < CodePoints.Count(text) ? text[..CodePoints.OffsetOf(text, Precision)] : text;

        private string Float(RenderRun run, object value)
        {
            if (!Numbers.TryToDouble(value, out double number)) throw run.Error($"%{Conversion} needs a number, not {TypeNames.Of(value)}");
            if (!double.IsFinite(number)) return PythonText.Float(number);
            int places = Precision < 0 ? 6 : Precision;
            return Numbers.Round(number, places).ToString("F" + places.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
        }

        private string Hexadecimal(BigInteger value)
        {
            string digits = BigInteger.Abs(value).ToString("x", CultureInfo.InvariantCulture).TrimStart('0');
            if (digits.Length == 0) digits = "0";
            return (value.Sign < 0 ? "-" : "") + (Conversion == 'X' ? digits.ToUpperInvariant() : digits);
        }

        private BigInteger Integer(RenderRun run, object value)
        {
            if (Numbers.TryToInteger(value, out BigInteger integer)) return integer;
            if (value is double number && double.IsFinite(number) && Conversion is not ('x' or 'X')) return new BigInteger(number);
            throw run.Error($"%{Conversion} needs an integer, not {TypeNames.Of(value)}");
        }

        private static int Number(string format, ref int at)
        {
            int number = 0;
            for (; at < format.Length && char.IsAsciiDigit(format[at]); at++) number = Math.Min((number * 10) + format[at] - '0', 100_000_000);
            return number;
        }
    }
}

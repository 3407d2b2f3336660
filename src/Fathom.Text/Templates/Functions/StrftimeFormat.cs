using System.Globalization;
using System.Text;

namespace Fathom.Text.Templates;

/// <summary>Python's strftime in the C locale: English names, and no time zone.</summary>
internal static class StrftimeFormat
{
    public static string Apply(RenderRun run, string format, DateTime time)
    {
        StringBuilder text = new();
        for (int at = 0; at < format.Length; at++)
        {
            if (format[at] != '%')
            {
                text.Append(format[at]);
                continue;
            }

            bool unpadded = ++at < format.Length && format[at] == '-';
            if (unpadded) at++;
            char directive = at < format.Length ? format[at] : '\0';
            string field = Field(directive, time) ?? throw run.Error($"strftime_now: the directive '%{directive}' is not covered");
            text.Append(unpadded && field.TrimStart('0') is { Length: > 0 } trimmed ? trimmed : unpadded ? "0" : field);
        }

        return run.Made(text.ToString());
    }

    private static string? Field(char directive, DateTime time)
    {
        string? format = directive switch
        {
            'Y' => "yyyy",
            'y' => "yy",
            'm' => "MM",
            'B' => "MMMM",
            'b' or 'h' => "MMM",
            'd' => "dd",
            'A' => "dddd",
            'a' => "ddd",
            'H' => "HH",
            'I' => "hh",
            'M' => "mm",
            'S' => "ss",
            'f' => "ffffff",
            'p' => "tt",
            'F' => "yyyy-MM-dd",
            'T' => "HH:mm:ss",
            'D' => "MM/dd/yy",
            _ => null,
        };
        return directive switch
        {
            '%' => "%",
            'n' => "\n",
            't' => "\t",
            'e' => string.Create(CultureInfo.InvariantCulture, $"{time.Day,2}"),
            'j' => time.DayOfYear.ToString("000", CultureInfo.InvariantCulture),
            'w' => ((int)time.DayOfWeek).ToString(CultureInfo.InvariantCulture),
            'u' => (((int)time.DayOfWeek + 6) % 7 + 1).ToString(CultureInfo.InvariantCulture),
            'c' => time.ToString("ddd MMM ", CultureInfo.InvariantCulture) + string.Create(CultureInfo.InvariantCulture, $"{time.Day,2} {time:HH:mm:ss yyyy}"),
            _ => format is null ? null : time.ToString(format, CultureInfo.InvariantCulture),
        };
    }
}

using System.Globalization;

namespace Fathom.Cli.Terminal;

/// <summary>Numbers as people read them; always with a point, whatever the machine's language.</summary>
internal static class Numbers
{
    /// <summary>Formats with the invariant culture.</summary>
    public static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>1234 → 1.23k, 671026419200 → 671G.</summary>
    public static string Short(double value)
    {
        (double scaled, string unit) = Math.Abs(value) switch
        {
            >= 1e15 => (value / 1e15, "P"),
            >= 1e12 => (value / 1e12, "T"),
            >= 1e9 => (value / 1e9, "G"),
            >= 1e6 => (value / 1e6, "M"),
            >= 1e3 => (value / 1e3, "k"),
            _ => (value, ""),
        };
        string format = Math.Abs(scaled) >= 100 || unit.Length == 0 && scaled == Math.Floor(scaled) ? "F0" : Math.Abs(scaled) >= 10 ? "F1" : "F2";
        return scaled.ToString(format, CultureInfo.InvariantCulture) + unit;
    }

    /// <summary>75 → 1:15, 3700 → 1:01:40.</summary>
    public static string Duration(double seconds)
    {
        if (!double.IsFinite(seconds) || seconds < 0 || seconds > 1e8) return "-";
        TimeSpan span = TimeSpan.FromSeconds(Math.Round(seconds));
        return span.TotalHours >= 1 ? Invariant($"{(long)span.TotalHours}:{span.Minutes:D2}:{span.Seconds:D2}") : Invariant($"{span.Minutes}:{span.Seconds:D2}");
    }

    /// <summary>A share as a percentage.</summary>
    public static string Percent(double share) => Invariant($"{share * 100:F0} %");
}

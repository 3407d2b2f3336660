// The formats of strings that can be imposed, each a part of what its standard allows that everybody reads: dates exist in the calendar, names
// of hosts have at most six labels of 40 characters, offsets from UTC are those that are in use.
namespace Fathom.Inference;

/// <summary>Patterns of <c>format</c>.</summary>
internal static class StringFormats
{
    private const string Label = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,38}[A-Za-z0-9])?";
    private const string Octet = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    private const string Group = "[0-9a-fA-F]{1,4}";
    private const string Year = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})";
    private const string LeapYear = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)";
    private const string Date = $"(?:{Year}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|{LeapYear}-02-29)";
    private const string Time = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9]|[+-]14:00)";

    private static readonly Dictionary<string, string> Expressions = new()
    {
        ["email"] = $"^[A-Za-z0-9_+-]{{1,20}}(?:\\.[A-Za-z0-9_+-]{{1,20}}){{0,2}}@{Label}(?:\\.{Label}){{1,5}}$",
        ["hostname"] = $"^{Label}(?:\\.{Label}){{0,5}}$",
        ["ipv4"] = $"^{Octet}(?:\\.{Octet}){{3}}$",
        ["ipv6"] = $"^(?:{string.Join('|', Enumerable.Range(1, 6).Select(n => $"(?:{Group}:){{1,{n}}}(?::{Group}){{1,{7 - n}}}"))}|(?:{Group}:){{7}}{Group}|(?:{Group}:){{1,7}}:|:(?::{Group}){{1,7}}|::)$",
        ["uuid"] = "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        ["date"] = $"^{Date}$",
        ["time"] = $"^{Time}$",
        ["date-time"] = $"^{Date}T{Time}$",
    };

    /// <summary>Names of the formats, for messages.</summary>
    public static string Names => string.Join(", ", Expressions.Keys);

    /// <summary>The strings of a format, or null where it is not known.</summary>
    public static Pattern? Find(string format)
    {
        if (!Expressions.TryGetValue(format, out string? expression)) return null;
        return PatternParser.TryParse(expression, out Pattern? pattern, out string? problem) ? pattern : throw new InvalidOperationException($"format {format}: {problem}");
    }
}

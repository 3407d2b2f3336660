// Python's json.dumps, which is what `tojson` means in chat templates: Hugging Face replaces Jinja's HTML-safe filter
// by it. The separators ", " and ": " and unescaped non-ASCII text are part of what models were trained on.
using System.Globalization;
using System.Numerics;
using System.Text;

namespace Fathom.Text.Templates;

/// <summary>How <see cref="PythonJson"/> writes.</summary>
/// <param name="Indent">What one level is indented by; null writes everything on one line.</param>
/// <param name="ItemSeparator">Between items.</param>
/// <param name="KeySeparator">Between a key and its value.</param>
/// <param name="EscapeNonAscii">Writes characters beyond ASCII as \u escapes.</param>
/// <param name="SortKeys">Orders keys by code point.</param>
internal sealed record JsonStyle(string? Indent, string ItemSeparator, string KeySeparator, bool EscapeNonAscii, bool SortKeys);

internal static class PythonJson
{
    public static string Write(RenderRun run, object value, JsonStyle style)
    {
        TextBuffer text = new(run);
        Append(run, text, value, style, level: 0);
        return text.ToString();
    }

    private static void Append(RenderRun run, TextBuffer text, object value, JsonStyle style, int level)
    {
        switch (value)
        {
            case string literal:
                AppendQuoted(text, literal, style.EscapeNonAscii);
                break;
            case List<object> list:
                AppendItems(run, text, list, style, level);
                break;
            case TemplateTuple tuple:
                AppendItems(run, text, tuple.Items, style, level);
                break;
            case TemplateDictionary dictionary:
                AppendEntries(run, text, dictionary, style, level);
                break;
            default:
                text.Append(Scalar(value) ?? throw run.Error(
                    value is Undefined undefined ? $"tojson cannot write an undefined value: {undefined.Explanation}" : $"tojson cannot write {TypeNames.Of(value)}"));
                break;
        }
    }

    private static string? Scalar(object value) => value switch
    {
        None => "null",
        bool flag => flag ? "true" : "false",
        BigInteger integer => integer.ToString(CultureInfo.InvariantCulture),
        double number when double.IsNaN(number) => "NaN",
        double number when double.IsInfinity(number) => number > 0 ? "Infinity" : "-Infinity",
        double number => PythonText.Float(number),
        _ => null,
    };

    private static void AppendItems(RenderRun run, TextBuffer text, IReadOnlyList<object> items, JsonStyle style, int level)
    {
        run.Enter();
        text.Append('[');
        for (int index = 0; index < items.Count; index++)
        {
            if (index > 0) text.Append(style.ItemSeparator);
            NewLine(text, style, level + 1);
            Append(run, text, items[index], style, level + 1);
        }

        if (items.Count > 0) NewLine(text, style, level);
        text.Append(']');
        run.Leave();
    }

    private static void AppendEntries(RenderRun run, TextBuffer text, TemplateDictionary dictionary, JsonStyle style, int level)
    {
        run.Enter();
        IEnumerable<KeyValuePair<object, object>> entries = dictionary.Entries;
        if (style.SortKeys) entries = Sorting.Sort(run, [.. entries], entry => entry.Key, reverse: false);
        text.Append('{');
        bool first = true;
        foreach ((object key, object value) in entries)
        {
            if (!first) text.Append(style.ItemSeparator);
            first = false;
            NewLine(text, style, level + 1);
            string name = key as string ?? Scalar(key) ?? throw run.Error($"tojson cannot write {TypeNames.Of(key)} as a key");
            AppendQuoted(text, name, style.EscapeNonAscii);
            text.Append(style.KeySeparator);
            Append(run, text, value, style, level + 1);
        }

        if (dictionary.Count > 0) NewLine(text, style, level);
        text.Append('}');
        run.Leave();
    }

    private static void NewLine(TextBuffer text, JsonStyle style, int level)
    {
        if (style.Indent is null) return;
        text.Append('\n');
        for (int step = 0; step < level; step++) text.Append(style.Indent);
    }

    private static void AppendQuoted(TextBuffer text, string literal, bool escapeNonAscii)
    {
        StringBuilder quoted = new(literal.Length + 2);
        quoted.Append('"');
        foreach (char character in literal)
        {
            _ = character switch
            {
                '"' => quoted.Append("\\\""),
                '\\' => quoted.Append("\\\\"),
                '\n' => quoted.Append("\\n"),
                '\r' => quoted.Append("\\r"),
                '\t' => quoted.Append("\\t"),
                '\b' => quoted.Append("\\b"),
                '\f' => quoted.Append("\\f"),
                < ' ' => quoted.Append(CultureInfo.InvariantCulture, $"\\u{(int)character:x4}"),
                > '~' when escapeNonAscii && character != '\x7f' => quoted.Append(CultureInfo.InvariantCulture, $"\\u{(int)character:x4}"),
                _ => quoted.Append(character),
            };
        }

        text.Append(quoted.Append('"').ToString());
    }
}

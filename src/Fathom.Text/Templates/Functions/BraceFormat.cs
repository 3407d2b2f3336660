using System.Globalization;

namespace Fathom.Text.Templates;

/// <summary>Python's <c>'{} {0} {name}'.format(…)</c>, without format specifications and conversions.</summary>
internal static class BraceFormat
{
    public static string Apply(RenderRun run, string format, CallArguments arguments)
    {
        TextBuffer text = new(run);
        int automatic = 0;
        for (int at = 0; at < format.Length; at++)
        {
            char current = format[at];
            if (current is not ('{' or '}'))
            {
                text.Append(current);
            }
            else if (at + 1 < format.Length && format[at + 1] == current)
            {
                text.Append(format[at++]);
            }
            else
            {
                int close = current == '{' ? format.IndexOf('}', at) : -1;
                if (close < 0) throw run.Error("'format' found a single brace; write '{{' or '}}' for one");
                string field = format[(at + 1)..close];
                text.Append(PythonText.Of(run, Field(run, field, arguments, ref automatic)));
                at = close;
            }
        }

        return text.ToString();
    }

    private static object Field(RenderRun run, string field, CallArguments arguments, ref int automatic)
    {
        if (field.AsSpan().IndexOfAny(":!.[") >= 0) throw run.Error($"'format' with the field '{{{field}}}' is not covered; only {{}}, {{0}} and {{name}} are");
        int index = automatic;
        if (field.Length == 0) automatic++;
        else if (!int.TryParse(field, NumberStyles.None, CultureInfo.InvariantCulture, out index)) return Named(run, field, arguments);
        return index < arguments.Positional.Count ? arguments.Positional[index] : throw run.Error($"'format' has no argument {index}");
    }

    private static object Named(RenderRun run, string name, CallArguments arguments)
    {
        foreach ((string given, object value) in arguments.Named)
        {
            if (given == name) return value;
        }

        throw run.Error($"'format' has no argument '{name}'");
    }
}

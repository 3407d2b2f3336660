// Text operations with Python's rules, shared by filters and methods.
namespace Fathom.Text.Templates;

internal static class Strings
{
    private static readonly char[] s_lineEnds = ['\n', '\r', '\v', '\f', '\x1c', '\x1d', '\x1e', '\x85', '\u2028', '\u2029'];

    /// <summary>Strips white space, or the given characters, from one or both ends.</summary>
    public static string Strip(string text, string? characters, bool left = true, bool right = true)
    {
        int start = 0, end = text.Length;
        while (left && start < end && IsStripped(text[start], characters)) start++;
        while (right && end > start && IsStripped(text[end - 1], characters)) end--;
        return text[start..end];
    }

    public static string Capitalize(string text)
    {
        if (text.Length == 0) return text;
        int first = CodePoints.LengthAt(text, 0);
        return text[..first].ToUpperInvariant() + text[first..].ToLowerInvariant();
    }

    /// <summary>str.title: a letter after a letter is lower case, any other is upper case.</summary>
    public static string Title(string text) => string.Create(text.Length, text, (title, source) =>
    {
        bool afterLetter = false;
        for (int at = 0; at < source.Length; at++)
        {
            title[at] = afterLetter ? char.ToLowerInvariant(source[at]) : char.ToUpperInvariant(source[at]);
            afterLetter = char.IsLetter(source[at]);
        }
    });

    /// <summary>Replaces the first <paramref name="count"/> occurrences; all of them when it is negative.</summary>
    public static string Replace(RenderRun run, string text, string old, string replacement, int count)
    {
        run.ChargeText(text.Length);
        TextBuffer replaced = new(run);
        int at = 0;
        if (old.Length == 0)
        {
            // Between all code points and at both ends.
            for (; count != 0; count--)
            {
                replaced.Append(replacement);
                if (at == text.Length) return replaced.ToString();
                int length = CodePoints.LengthAt(text, at);
                replaced.Append(text.AsSpan(at, length));
                at += length;
            }
        }

        for (; count != 0 && old.Length > 0; count--)
        {
            int found = text.IndexOf(old, at, StringComparison.Ordinal);
            if (found < 0) break;
            replaced.Append(text.AsSpan(at, found - at)).Append(replacement);
            at = found + old.Length;
        }

        return replaced.Append(text.AsSpan(at)).ToString();
    }

    /// <summary>str.split: by a separator, or by runs of white space when it is null; at most <paramref name="limit"/> cuts when not negative.</summary>
    public static List<object> Split(RenderRun run, string text, string? separator, int limit)
    {
        run.ChargeText(text.Length);
        List<object> parts = [];
        int at = 0;
        if (separator is null)
        {
            while (true)
            {
                while (at < text.Length && PythonText.IsSpace(text[at])) at++;
                if (at == text.Length) break;
                int end = at;
                if (limit >= 0 && parts.Count == limit) end = text.Length;
                else while (end < text.Length && !PythonText.IsSpace(text[end])) end++;
                parts.Add(text[at..end]);
                run.ChargeItems(1);
                at = end;
            }

            return parts;
        }

        while (limit < 0 || parts.Count < limit)
        {
            int found = text.IndexOf(separator, at, StringComparison.Ordinal);
            if (found < 0) break;
            parts.Add(text[at..found]);
            run.ChargeItems(1);
            at = found + separator.Length;
        }

        parts.Add(text[at..]);
        return parts;
    }

    /// <summary>str.rsplit: as <see cref="Split"/>, but cutting from the right.</summary>
    public static List<object> SplitRight(RenderRun run, string text, string? separator, int limit)
    {
        if (limit < 0) return Split(run, text, separator, limit);
        run.ChargeText(text.Length);
        List<object> parts = [];
        int end = text.Length;
        while (separator is not null && parts.Count < limit)
        {
            int found = text.AsSpan(0, end).LastIndexOf(separator);
            if (found < 0) break;
            parts.Add(text[(found + separator.Length)..end]);
            run.ChargeItems(1);
            end = found;
        }

        while (separator is null)
        {
            while (end > 0 && PythonText.IsSpace(text[end - 1])) end--;
            if (end == 0) break;
            int start = end;
            if (parts.Count == limit) start = 0;
            else while (start > 0 && !PythonText.IsSpace(text[start - 1])) start--;
            parts.Add(text[start..end]);
            run.ChargeItems(1);
            end = start;
        }

        if (separator is not null) parts.Add(text[..end]);
        parts.Reverse();
        return parts;
    }

    /// <summary>str.splitlines: by any line end, with no empty line after the last.</summary>
    public static List<string> Lines(string text, bool keepEnds)
    {
        List<string> lines = [];
        for (int at = 0; at < text.Length;)
        {
            int end = text.IndexOfAny(s_lineEnds, at);
            int next = end < 0 ? text.Length : end + 1;
            if (end < 0) end = text.Length;
            else if (text[end] == '\r' && next < text.Length && text[next] == '\n') next++;
            lines.Add(text[at..(keepEnds ? next : end)]);
            at = next;
        }

        return lines;
    }

    public static string Center(RenderRun run, string text, int width, char fill)
    {
        int padding = Math.Max(0, width - CodePoints.Count(text));
        int left = (padding / 2) + (padding & width & 1);
        return new TextBuffer(run).Append(fill, left).Append(text).Append(fill, padding - left).ToString();
    }

    private static bool IsStripped(char character, string? characters) =>
        characters is null ? PythonText.IsSpace(character) : characters.Contains(character, StringComparison.Ordinal);
}

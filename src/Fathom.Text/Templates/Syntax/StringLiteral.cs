// Escapes in string literals are Python's: an escape that Python does not know stays as it is written.
using System.Globalization;
using System.Text;

namespace Fathom.Text.Templates;

internal static class StringLiteral
{
    /// <summary>The value of a literal whose inside lies in [start, end) of the source.</summary>
    public static string Decode(SourceText source, int start, int end)
    {
        string text = source.Text;
        if (text.IndexOf('\\', start, end - start) < 0) return text[start..end];
        StringBuilder value = new(end - start);
        for (int at = start; at < end;)
        {
            char current = text[at++];
            if (current != '\\')
            {
                value.Append(current);
                continue;
            }

            char escape = text[at++];
            if (escape is 'x' or 'u' or 'U')
            {
                int digits = escape switch { 'x' => 2, 'u' => 4, _ => 8 };
                if (at + digits > end ||
                    !uint.TryParse(text.AsSpan(at, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint code) ||
                    code > 0x10FFFF)
                {
                    throw source.Error(at - 2, $"the escape \\{escape} needs {digits} hexadecimal digits of a Unicode code point");
                }

                at += digits;
                if (code > 0xFFFF) value.Append(char.ConvertFromUtf32((int)code));
                else value.Append((char)code);
            }
            else if (escape is >= '0' and <= '7')
            {
                int code = escape - '0';
                for (int more = 0; more < 2 && at < end && text[at] is >= '0' and <= '7'; more++) code = (code * 8) + text[at++] - '0';
                value.Append((char)code);
            }
            else
            {
                _ = escape switch
                {
                    'n' => value.Append('\n'),
                    't' => value.Append('\t'),
                    'r' => value.Append('\r'),
                    '\\' or '\'' or '"' => value.Append(escape),
                    'a' => value.Append('\a'),
                    'b' => value.Append('\b'),
                    'f' => value.Append('\f'),
                    'v' => value.Append('\v'),
                    '\n' => value,
                    'N' => throw source.Error(at - 2, "the escape \\N{…} is not covered; write the character or its \\u code"),
                    _ => value.Append('\\').Append(escape),
                };
            }
        }

        return value.ToString();
    }
}

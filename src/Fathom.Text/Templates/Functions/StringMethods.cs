// The methods of Python's str that chat templates call.
using System.Numerics;

namespace Fathom.Text.Templates;

internal static class StringMethods
{
    public static IEnumerable<Function> All { get; } =
    [
        Function.Of("strip / chars", a => a.Run.Made(Strings.Strip(Self(a), a.TextOrNone(0)))),
        Function.Of("lstrip / chars", a => a.Run.Made(Strings.Strip(Self(a), a.TextOrNone(0), right: false))),
        Function.Of("rstrip / chars", a => a.Run.Made(Strings.Strip(Self(a), a.TextOrNone(0), left: false))),
        Function.Of("split / sep maxsplit", a => Strings.Split(a.Run, Self(a), Separator(a), a.Integer(1, -1))),
        Function.Of("rsplit / sep maxsplit", a => Strings.SplitRight(a.Run, Self(a), Separator(a), a.Integer(1, -1))),
        Function.Of("splitlines / keepends", a => Lines(a)),
        Function.Of("partition sep", a => Partition(a, fromRight: false)),
        Function.Of("rpartition sep", a => Partition(a, fromRight: true)),
        Function.Of("startswith prefix", a => Affix(a, static (text, affix) => text.StartsWith(affix, StringComparison.Ordinal))),
        Function.Of("endswith suffix", a => Affix(a, static (text, affix) => text.EndsWith(affix, StringComparison.Ordinal))),
        Function.Of("removeprefix prefix", a => Self(a).StartsWith(a.Text(0, ""), StringComparison.Ordinal) ? Self(a)[a.Text(0, "").Length..] : Self(a)),
        Function.Of("removesuffix suffix", a => Self(a).EndsWith(a.Text(0, ""), StringComparison.Ordinal) ? Self(a)[..^a.Text(0, "").Length] : Self(a)),
        Function.Of("upper", a => a.Run.Made(Self(a).ToUpperInvariant())),
        Function.Of("lower", a => a.Run.Made(Self(a).ToLowerInvariant())),
        Function.Of("title", a => a.Run.Made(Strings.Title(Self(a)))),
        Function.Of("capitalize", a => a.Run.Made(Strings.Capitalize(Self(a)))),
        Function.Of("replace old new / count", a => Strings.Replace(a.Run, Self(a), a.Text(0, ""), a.Text(1, ""), a.Integer(2, -1))),
        Function.Of("join iterable", Join),
        Function.Of("find sub", a => (BigInteger)Find(a)),
        Function.Of("rfind sub", a => Offset(a, Self(a).LastIndexOf(a.Text(0, ""), StringComparison.Ordinal))),
        Function.Of("index sub", a => Find(a) is var index && index >= 0 ? (BigInteger)index : throw a.Error("did not find the text")),
        Function.Of("count sub", a => (BigInteger)Count(a)),
        Function.Of("isdigit", a => Self(a).Length > 0 && Self(a).All(char.IsDigit)),
        Function.Of("isalpha", a => Self(a).Length > 0 && Self(a).All(char.IsLetter)),
        Function.Of("isalnum", a => Self(a).Length > 0 && Self(a).All(char.IsLetterOrDigit)),
        Function.Of("isspace", a => Self(a).Length > 0 && Self(a).All(PythonText.IsSpace)),
        Function.Of("isupper", a => Self(a).Any(char.IsUpper) && !Self(a).Any(char.IsLower)),
        Function.Of("islower", a => Self(a).Any(char.IsLower) && !Self(a).Any(char.IsUpper)),
        Function.Of("ljust width / fillchar", a => new TextBuffer(a.Run).Append(Self(a)).Append(Fill(a), Missing(a)).ToString()),
        Function.Of("rjust width / fillchar", a => new TextBuffer(a.Run).Append(Fill(a), Missing(a)).Append(Self(a)).ToString()),
        Function.Of("center width / fillchar", a => Strings.Center(a.Run, Self(a), a.Integer(0, 0), Fill(a))),
        Function.Of("zfill width", ZeroFill),
        Function.Variadic("format", (run, subject, arguments) => BraceFormat.Apply(run, (string)subject, arguments)),
    ];

    private static string Self(BoundArguments a) => (string)a.Subject;

    private static string? Separator(BoundArguments a) => a.TextOrNone(0) is "" ? throw a.Error("needs a separator that is not empty") : a.TextOrNone(0);

    private static List<object> Lines(BoundArguments a)
    {
        List<object> lines = [.. Strings.Lines(Self(a), a.Flag(0))];
        a.Run.ChargeItems(lines.Count);
        return lines;
    }

    private static TemplateTuple Partition(BoundArguments a, bool fromRight)
    {
        string text = Self(a), separator = Separator(a) ?? throw a.Error("needs a separator");
        int at = fromRight ? text.LastIndexOf(separator, StringComparison.Ordinal) : text.IndexOf(separator, StringComparison.Ordinal);
        if (at < 0) return new(fromRight ? ["", "", text] : [text, "", ""]);
        return new([text[..at], separator, text[(at + separator.Length)..]]);
    }

    private static object Affix(BoundArguments a, Func<string, string, bool> matches) => a[0] is TemplateTuple choices
        ? choices.Items.Any(choice => matches(Self(a), choice as string ?? throw a.Error("needs strings in the tuple")))
        : matches(Self(a), a.Text(0, ""));

    private static string Join(BoundArguments a)
    {
        TextBuffer text = new(a.Run);
        IReadOnlyList<object> items = Values.Items(a.Run, a[0]!);
        for (int index = 0; index < items.Count; index++)
        {
            if (index > 0) text.Append(Self(a));
            text.Append(items[index] as string ?? throw a.Error($"joins strings only, but item {index} is {TypeNames.Of(items[index])}; the filter join takes any value"));
        }

        return text.ToString();
    }

    private static int Find(BoundArguments a)
    {
        a.Run.ChargeText(Self(a).Length);
        int offset = Self(a).IndexOf(a.Text(0, ""), StringComparison.Ordinal);
        return offset <= 0 ? offset : CodePoints.IndexOf(Self(a), offset);
    }

    private static object Offset(BoundArguments a, int offset)
    {
        a.Run.ChargeText(Self(a).Length);
        return (BigInteger)(offset <= 0 ? offset : CodePoints.IndexOf(Self(a), offset));
    }

    private static int Count(BoundArguments a)
    {
        string text = Self(a), part = a.Text(0, "");
        a.Run.ChargeText(text.Length);
        if (part.Length == 0) return CodePoints.Count(text) + 1;
        int count = 0;
        for (int at = text.IndexOf(part, StringComparison.Ordinal); at >= 0; at = text.IndexOf(part, at + part.Length, StringComparison.Ordinal)) count++;
        return count;
    }

    private static int Missing(BoundArguments a) => a.Integer(0, 0) - CodePoints.Count(Self(a));

    private static char Fill(BoundArguments a) => a.Text(1, " ") is [var fill] ? fill : throw a.Error("needs one character to fill with");

    private static string ZeroFill(BoundArguments a)
    {
        string text = Self(a);
        int sign = text is ['+' or '-', ..] ? 1 : 0;
        return new TextBuffer(a.Run).Append(text.AsSpan(0, sign)).Append('0', Missing(a)).Append(text.AsSpan(sign)).ToString();
    }
}

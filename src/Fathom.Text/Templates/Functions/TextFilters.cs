// Filters on text. Except where noted they print a subject that is not a string first, as Jinja does.
using System.Text;

namespace Fathom.Text.Templates;

internal static class TextFilters
{
    public static IEnumerable<Function> All { get; } =
    [
        Function.Of("trim / chars", a => a.Run.Made(Strings.Strip(a.SubjectText, a.TextOrNone(0)))),
        Function.Of("upper", a => a.Run.Made(a.SubjectText.ToUpperInvariant())),
        Function.Of("lower", a => a.Run.Made(a.SubjectText.ToLowerInvariant())),
        Function.Of("capitalize", a => a.Run.Made(Strings.Capitalize(a.SubjectText))),
        Function.Of("title", a => a.Run.Made(Title(a.SubjectText))),
        Function.Of("replace old new / count", a =>
            Strings.Replace(a.Run, a.SubjectText, PythonText.Of(a.Run, a[0]!), PythonText.Of(a.Run, a[1]!), a[2] is null or None ? -1 : a.Integer(2, -1))),
        Function.Of("indent / width first blank", a => Indent(a)),
        Function.Of("escape", a => Escape(a.Run, a.SubjectText)),
        Function.Of("safe", a => a.SubjectText),
        Function.Of("string", a => a.SubjectText),
        Function.Of("center / width", a => Strings.Center(a.Run, a.SubjectText, a.Integer(0, 80), ' ')),
        Function.Variadic("format", (run, subject, arguments) => subject is not string format
            ? throw run.Error($"'format' works on a string, not on {TypeNames.Of(subject)}")
            : PrintfFormat.Apply(run, format, arguments.Named.Count == 0 ? new TemplateTuple(arguments.Positional) : Globals.DictionaryOf(arguments))),
    ];

    // Jinja's own rule, not str.title: a word starts after white space, a hyphen or an opening bracket.
    private static string Title(string text)
    {
        StringBuilder title = new(text.Length);
        bool start = true;
        foreach (char character in text)
        {
            title.Append(start ? char.ToUpperInvariant(character) : char.ToLowerInvariant(character));
            start = PythonText.IsSpace(character) || character is ('-' or '(' or '{' or '[' or '<');
        }

        return title.ToString();
    }

    private static string Indent(BoundArguments a)
    {
        if (a.Subject is not string subject) throw a.WrongSubject("a string");
        string indention = a[0] is string given ? given : new string(' ', Math.Clamp(a.Integer(0, 4), 0, 1000));
        bool first = a.Flag(1), blank = a.Flag(2);
        List<string> lines = Strings.Lines(subject + "\n", keepEnds: false);
        TextBuffer text = new(a.Run);
        for (int index = 0; index < lines.Count; index++)
        {
            if (index > 0) text.Append('\n');
            if (index == 0 ? first : blank || lines[index].Length > 0) text.Append(indention);
            text.Append(lines[index]);
        }

        return text.ToString();
    }

    // The result is plain text here, while Jinja marks it as safe HTML and escapes whatever is later joined to it.
    private static string Escape(RenderRun run, string text)
    {
        TextBuffer escaped = new(run);
        foreach (char character in text)
        {
            _ = character switch
            {
                '&' => escaped.Append("&amp;"),
                '<' => escaped.Append("&lt;"),
                '>' => escaped.Append("&gt;"),
                '"' => escaped.Append("&#34;"),
                '\'' => escaped.Append("&#39;"),
                _ => escaped.Append(character),
            };
        }

        return escaped.ToString();
    }
}

// One documented member as plain text: a heading in C# notation, the summary, and then each further part with a label.
// White space is collapsed as browsers do, since the XML's line breaks are only layout; <para>, lists and code blocks
// keep theirs. What a tag refers to is written as the name that a reader would use.
using System.Text;
using System.Xml;

namespace Fathom.Text;

/// <summary>Reads the children of a <c>member</c> element and renders them.</summary>
internal sealed class MemberDocumentation(DocumentationId ids)
{
    // Elements nest by recursion; documentation nests less than ten deep.
    private const int MaximumDepth = 256;

    private readonly List<(string Name, string Text)> _parameters = [];
    private readonly List<(string Name, string Text)> _typeParameters = [];
    private readonly List<(string Name, string Text)> _exceptions = [];
    private readonly StringBuilder _prose = new();
    private string _summary = "";
    private string _returns = "";
    private string _value = "";
    private string _remarks = "";
    private string _example = "";

    /// <summary>
    /// The text of the member at which <paramref name="xml"/> stands, or null where nothing is said about it. Leaves
    /// the reader behind the member's end.
    /// </summary>
    public string? Read(XmlReader xml)
    {
        string? id = xml.GetAttribute("name");
        Clear();
        if (xml.IsEmptyElement || string.IsNullOrEmpty(id))
        {
            xml.Skip();
            return null;
        }

        int depth = xml.Depth;
        xml.Read();
        while (xml.Depth > depth)
        {
            if (xml.NodeType != XmlNodeType.Element) xml.Read();
            else ReadPart(xml);
        }

        xml.Read();
        return HasText() ? Render(id) : null;
    }

    private void Clear()
    {
        _parameters.Clear();
        _typeParameters.Clear();
        _exceptions.Clear();
        _summary = _returns = _value = _remarks = _example = "";
    }

    private bool HasText()
    {
        if (_summary is not ("" or "To be added.")) return true;
        return _returns.Length + _value.Length + _remarks.Length + _example.Length > 0
            || _parameters.Exists(static p => p.Text.Length > 0) || _exceptions.Exists(static e => e.Text.Length > 0)
            || _typeParameters.Exists(static p => p.Text.Length > 0);
    }

    private void ReadPart(XmlReader xml)
    {
        switch (xml.Name)
        {
            case "summary": _summary = Paragraphs(xml); break;
            case "returns" or "return": _returns = OneLine(xml); break;
            case "value": _value = OneLine(xml); break;
            case "remarks" or "remark": _remarks = Paragraphs(xml); break;
            case "example" or "examples": _example = Paragraphs(xml); break;
            case "param": AddNamed(_parameters, xml.GetAttribute("name"), xml); break;
            case "typeparam": AddNamed(_typeParameters, xml.GetAttribute("name"), xml); break;
            case "exception": AddNamed(_exceptions, xml.GetAttribute("cref") is { } cref ? ids.Reference(cref) : null, xml); break;
            default: xml.Skip(); break;
        }
    }

    private void AddNamed(List<(string Name, string Text)> list, string? name, XmlReader xml)
    {
        string text = OneLine(xml);
        if (!string.IsNullOrEmpty(name)) list.Add((name, text));
    }

    private string Render(string id)
    {
        StringBuilder text = new(512);
        text.Append(ids.Heading(id, [.. _parameters.Select(static p => p.Name)], [.. _typeParameters.Select(static p => p.Name)])).Append('\n');
        if (_summary.Length > 0) text.Append('\n').Append(_summary).Append('\n');
        AppendList(text, "Type parameters:", _typeParameters);
        AppendList(text, "Parameters:", _parameters);
        if (_returns.Length > 0) text.Append(id[0] is 'P' or 'F' ? "\nValue: " : "\nReturns: ").Append(_returns).Append('\n');
        if (_value.Length > 0) text.Append("\nValue: ").Append(_value).Append('\n');
        AppendList(text, "Exceptions:", _exceptions);
        if (_remarks.Length > 0) text.Append("\nRemarks:\n").Append(_remarks).Append('\n');
        if (_example.Length > 0) text.Append("\nExample:\n").Append(_example).Append('\n');
        return text.ToString();
    }

    private static void AppendList(StringBuilder text, string label, List<(string Name, string Text)> items)
    {
        if (!items.Exists(static i => i.Text.Length > 0)) return;
        text.Append('\n').Append(label).Append('\n');
        foreach ((string name, string item) in items)
        {
            if (item.Length > 0) text.Append("  ").Append(name).Append(": ").Append(item).Append('\n');
        }
    }

    private string Paragraphs(XmlReader xml) => Prose(xml, blocks: true);

    private string OneLine(XmlReader xml) => Prose(xml, blocks: false);

    private string Prose(XmlReader xml, bool blocks)
    {
        _prose.Clear();
        AppendContent(xml, blocks);
        int end = _prose.Length;
        while (end > 0 && char.IsWhiteSpace(_prose[end - 1])) end--;
        return _prose.ToString(0, end);
    }

    /// <summary>Appends what is inside the element at which the reader stands, and moves behind it.</summary>
    private void AppendContent(XmlReader xml, bool blocks)
    {
        if (xml.IsEmptyElement || xml.Depth > MaximumDepth)
        {
            xml.Skip();
            return;
        }

        int depth = xml.Depth;
        xml.Read();
        while (xml.Depth > depth)
        {
            if (xml.NodeType == XmlNodeType.Element)
            {
                AppendElement(xml, blocks);
                continue;
            }

            if (xml.NodeType is XmlNodeType.Text or XmlNodeType.CDATA or XmlNodeType.Whitespace or XmlNodeType.SignificantWhitespace)
                AppendCollapsed(xml.Value);
            xml.Read();
        }

        xml.Read();
    }

    private void AppendElement(XmlReader xml, bool blocks)
    {
        switch (xml.Name)
        {
            case "see" or "seealso" or "xref":
                AppendReference(xml);
                break;
            case "paramref" or "typeparamref":
                AppendCollapsed(xml.GetAttribute("name") ?? "");
                AppendContent(xml, blocks);
                break;
            case "c":
                _prose.Append('`');
                AppendContent(xml, blocks: false);
                _prose.Append('`');
                break;
            case "code":
                AppendCode(TextInside(xml), blocks);
                break;
            case "para" or "p" or "div":
                Break(blocks ? "\n\n" : " ");
                AppendContent(xml, blocks);
                Break(blocks ? "\n\n" : " ");
                break;
            case "br":
                Break(blocks ? "\n" : " ");
                AppendContent(xml, blocks);
                break;
            case "list" or "ul" or "ol":
                AppendContent(xml, blocks);
                Break(blocks ? "\n\n" : " ");
                break;
            case "listheader":
                // "Value: Meaning" above the rows says nothing that the rows do not.
                xml.Skip();
                break;
            case "item" or "li":
                Break(blocks ? "\n" : " ");
                _prose.Append("- ");
                AppendContent(xml, blocks);
                if (!blocks && !EndsSentence()) _prose.Append(';');
                break;
            case "term":
                AppendContent(xml, blocks: false);
                TrimSpaces();
                _prose.Append(": ");
                break;
            case "description":
                AppendContent(xml, blocks);
                if (_prose.Length > 2 && _prose[^1] == ' ' && _prose[^2] == ':') _prose.Length -= 2;
                break;
            case "sup":
                _prose.Append('^');
                AppendContent(xml, blocks);
                break;
            default:
                AppendContent(xml, blocks);
                break;
        }
    }

    private void AppendReference(XmlReader xml)
    {
        string name = xml.GetAttribute("langword")
            ?? (xml.GetAttribute("cref") is { } cref ? ids.Reference(cref) : null)
            ?? (xml.GetAttribute("uid") is { } uid ? ids.Reference(QualifiedUid(uid)) : null)
            ?? xml.GetAttribute("href") ?? "";
        int before = _prose.Length;
        AppendContent(xml, blocks: false);
        if (_prose.ToString(before, _prose.Length - before).Trim().Length > 0) return;
        _prose.Length = before;
        _prose.Append(name);
    }

    /// <summary>A uid is an id without its prefix; parentheses tell a method, anything else is taken for a type.</summary>
    private static string QualifiedUid(string uid) => (uid.Contains('(') ? "M:" : "T:") + uid.Replace("%2A", "").TrimEnd('*');

    /// <summary>All text inside the element, tags left out; moves behind it. The reader's own method refuses inner tags.</summary>
    private static string TextInside(XmlReader xml)
    {
        StringBuilder text = new();
        if (!xml.IsEmptyElement)
        {
            int depth = xml.Depth;
            while (xml.Read() && xml.Depth > depth)
            {
                if (xml.NodeType is XmlNodeType.Text or XmlNodeType.CDATA or XmlNodeType.Whitespace or XmlNodeType.SignificantWhitespace)
                    text.Append(xml.Value);
            }
        }

        xml.Read();
        return text.ToString();
    }

    private void AppendCode(string code, bool blocks)
    {
        string[] lines = code.Replace("\r", "").Split('\n');
        int first = Array.FindIndex(lines, static l => l.AsSpan().Trim().Length > 0);
        if (first < 0) return;
        int last = Array.FindLastIndex(lines, static l => l.AsSpan().Trim().Length > 0);
        if (!blocks || first == last && _prose.Length > 0)
        {
            _prose.Append('`');
            AppendCollapsed(code.Trim());
            _prose.Append('`');
            return;
        }

        int indent = lines[first..(last + 1)].Where(static l => l.AsSpan().Trim().Length > 0)
            .Min(static l => l.Length - l.AsSpan().TrimStart().Length);
        Break("\n");
        _prose.Append("```\n");
        foreach (string line in lines[first..(last + 1)]) _prose.Append(line.Length > indent ? line.AsSpan(indent).TrimEnd() : "").Append('\n');
        _prose.Append("```\n");
    }

    /// <summary>Ends a line or paragraph, however much white space stands there already.</summary>
    private void Break(string text)
    {
        int end = _prose.Length;
        while (end > 0 && char.IsWhiteSpace(_prose[end - 1])) end--;
        if (end == 0)
        {
            _prose.Length = 0;
            return;
        }

        bool paragraph = _prose.ToString(end, _prose.Length - end).Contains("\n\n", StringComparison.Ordinal);
        _prose.Length = end;
        _prose.Append(paragraph ? "\n\n" : text);
    }

    private void TrimSpaces()
    {
        while (_prose.Length > 0 && _prose[^1] == ' ') _prose.Length--;
    }

    private bool EndsSentence()
    {
        TrimSpaces();
        return _prose.Length > 0 && _prose[^1] is '.' or ';' or ':' or '!' or '?';
    }

    private void AppendCollapsed(string text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            if (char.IsWhiteSpace(c))
            {
                if (_prose.Length > 0 && !char.IsWhiteSpace(_prose[^1])) _prose.Append(' ');
                continue;
            }

            // Sources often leave a space between a closing tag and the sentence's full stop.
            bool ends = c is '.' or ',' && (i + 1 == text.Length || char.IsWhiteSpace(text[i + 1]));
            if (ends) TrimSpaces();
            _prose.Append(c);
        }
    }
}

// A template's text with its newlines made '\n', as Jinja does, and without one newline at the very end.
namespace Fathom.Text.Templates;

/// <summary>The text that is lexed, and the map from offsets to lines and columns.</summary>
internal sealed class SourceText
{
    private readonly List<int> _lineStarts = [0];

    public SourceText(string name, string text)
    {
        Name = name;
        text = text.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        if (text.EndsWith('\n')) text = text[..^1];
        Text = text;
        for (int at = text.IndexOf('\n', StringComparison.Ordinal); at >= 0; at = text.IndexOf('\n', at + 1)) _lineStarts.Add(at + 1);
    }

    public string Name { get; }

    public string Text { get; }

    public SourcePosition PositionOf(int offset)
    {
        int line = _lineStarts.BinarySearch(offset);
        if (line < 0) line = ~line - 1;
        return new(line + 1, offset - _lineStarts[line] + 1);
    }

    public ChatTemplateException Error(SourcePosition at, string problem) => new(Name, at.Line, at.Column, problem);

    public ChatTemplateException Error(int offset, string problem) => Error(PositionOf(offset), problem);
}

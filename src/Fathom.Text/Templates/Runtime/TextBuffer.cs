using System.Text;

namespace Fathom.Text.Templates;

/// <summary>Text under construction, held to the run's limits at every append.</summary>
internal sealed class TextBuffer(RenderRun run)
{
    private readonly StringBuilder _text = new();

    public int Length => _text.Length;

    public TextBuffer Append(ReadOnlySpan<char> text)
    {
        run.CheckTextLength((long)_text.Length + text.Length);
        run.ChargeText(text.Length);
        _text.Append(text);
        return this;
    }

    public TextBuffer Append(char character, int count = 1)
    {
        if (count <= 0) return this;
        run.CheckTextLength((long)_text.Length + count);
        run.ChargeText(count);
        _text.Append(character, count);
        return this;
    }

    public override string ToString() => _text.ToString();
}

// Streamed text on its way to the terminal: ids become characters, stop sequences are held back, whole characters come out.
using Fathom.Inference;
using Fathom.Text;

namespace Fathom.Cli.Terminal;

/// <summary>Writes the text of generated tokens as they come.</summary>
internal sealed class TextStream(Tokenizer tokenizer, IReadOnlyList<string> stopSequences, TextWriter output)
{
    private readonly StreamingDecoder decoder = new(tokenizer, skipSpecial: true);
    private readonly StopMatcher stops = new(stopSequences);
    private readonly System.Text.StringBuilder all = new();

    /// <summary>All text that was written.</summary>
    public string Text => all.ToString();

    /// <summary>Takes a token; returns whether to go on.</summary>
    public bool Push(int id)
    {
        Write(stops.Push(decoder.Push(id)));
        return stops.Met is null;
    }

    /// <summary>Writes what was held back.</summary>
    public void Finish()
    {
        Write(stops.Push(decoder.Flush()));
        Write(stops.Flush());
    }

    private void Write(string text)
    {
        if (text.Length == 0) return;
        all.Append(text);
        output.Write(text);
        output.Flush();
    }
}

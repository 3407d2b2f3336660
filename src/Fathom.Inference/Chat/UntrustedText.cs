// The trap of chat templates: they join what people wrote with control tokens into one text, and the tokenizer cannot tell which is which.
// A user who writes <｜Assistant｜> would speak as the assistant. So before rendering, every control token within a message is broken by a
// noncharacter after its first character, and after rendering the text is encoded piece by piece between those.
using System.Buffers;
using System.Text;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>Keeps the control tokens of a tokenizer out of text that comes from outside. Safe for many threads.</summary>
internal sealed class UntrustedText
{
    private const char Break = '\uFDD0';
    private readonly Tokenizer tokenizer;
    private readonly SearchValues<string> all;
    private readonly SearchValues<string> allButThinking;

    public UntrustedText(Tokenizer tokenizer)
    {
        this.tokenizer = tokenizer;
        string[] tokens = [.. tokenizer.AddedTokens.Select(t => t.Content).Where(t => t.Length > 1)];
        all = SearchValues.Create(tokens, StringComparison.Ordinal);
        allButThinking = SearchValues.Create([.. tokens.Where(t => t is not (AnswerMarks.Think or AnswerMarks.EndThink))], StringComparison.Ordinal);
    }

    /// <summary>Text in which no control token is left whole, to be given to a template.</summary>
    /// <param name="text">Of a message.</param>
    /// <param name="keepThinking">Whether the marks of reasoning stay, as in earlier answers, from which templates cut it.</param>
    public string Protect(string text, bool keepThinking = false)
    {
        SearchValues<string> tokens = keepThinking ? allButThinking : all;
        int at = text.AsSpan().IndexOfAny(tokens);
        if (at < 0) return text;
        var safe = new StringBuilder(text.Length + 16);
        int from = 0;
        while (at >= 0)
        {
            at += from + 1;
            safe.Append(text, from, at - from).Append(Break);
            from = at;
            at = text.AsSpan(from).IndexOfAny(tokens);
        }

        return safe.Append(text, from, text.Length - from).ToString();
    }

    /// <summary>The tokens of a rendered text.</summary>
    public List<int> Encode(string rendered)
    {
        var ids = new List<int>(rendered.Length / 3);
        foreach (Range part in rendered.AsSpan().Split(Break)) tokenizer.Encode(rendered.AsSpan(part), ids);
        return ids;
    }

    /// <summary>The tokens of text in which nothing is a control token.</summary>
    public List<int> EncodePlain(string text)
    {
        var ids = new List<int>(text.Length / 3);
        tokenizer.Encode(text, ids, allowSpecial: false);
        return ids;
    }
}

// The held-out documents as text again, out of the token file: exactly those whose tokens the bits per byte were counted on, so
// that the compressors get the very same bytes. Byte-level tokens decode to the text they came from; the byte counts must agree.
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Cli.Verbs;

/// <summary>Documents of a token file.</summary>
internal sealed class HeldOutText(TokenFile file, Tokenizer tokenizer)
{
    /// <summary>The text of the first documents.</summary>
    public IEnumerable<Document> Documents(int count)
    {
        for (int i = 0; i < count; i++) yield return new Document(Text(i), $"document {i}");
    }

    /// <summary>The text of one document.</summary>
    /// <exception cref="FathomException">The tokens do not give the text's bytes back: file and tokenizer do not belong together.</exception>
    public string Text(int document)
    {
        // A document is [BOS] text EOS.
        int before = file.BosId is null ? 0 : 1, length = (int)file.DocumentTokens(document) - before - 1;
        var ids = new int[length];
        file.CopyTokens(file.DocumentStart(document) + before, ids);
        string text = tokenizer.Decode(ids);
        int bytes = System.Text.Encoding.UTF8.GetByteCount(text);
        if (bytes != file.DocumentUtf8Bytes(document))
            throw new FathomException($"{file.Path}: document {document} decodes to {bytes} bytes, {file.DocumentUtf8Bytes(document)} are expected; does the tokenizer belong to it?");
        return text;
    }

    /// <summary>Beginnings of held-out documents to continue from, spread over the file.</summary>
    /// <param name="count">Most prompts.</param>
    public IEnumerable<string> Prompts(int count)
    {
        count = Math.Min(count, file.DocumentCount);
        for (int i = 0; i < count; i++) yield return Beginning(Text((int)((long)i * file.DocumentCount / count)));
    }

    // A member's documentation begins with its signature: the kind and name up to the parameters. Other text: a few words.
    private static string Beginning(string text)
    {
        const int Words = 8, Characters = 100;
        int line = text.IndexOf('\n', StringComparison.Ordinal);
        string first = line < 0 ? text : text[..line];
        int parenthesis = first.IndexOf('(', StringComparison.Ordinal);
        if (parenthesis is > 0 and < Characters && !first[..parenthesis].Contains('.', StringComparison.Ordinal)) parenthesis = -1;
        if (parenthesis is > 0 and < Characters) return first[..(parenthesis + 1)];
        if (line is > 0 and < Characters) return text[..(line + 1)];
        string trimmed = text.TrimStart();
        int at = 0;
        for (int word = 0; word < Words && at >= 0 && at < Characters; word++) at = trimmed.IndexOfAny([' ', '\n'], at + 1 < trimmed.Length ? at + 1 : at);
        return at > 0 ? trimmed[..at] : trimmed[..Math.Min(trimmed.Length, Characters)];
    }
}

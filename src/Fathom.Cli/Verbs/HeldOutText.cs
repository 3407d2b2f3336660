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

    // A member's documentation begins with its signature, as many texts begin with a heading: the first line, or of a long signature
    // what stands before the parameters. Other text: a few words.
    private static string Beginning(string text)
    {
        const int Words = 8, Characters = 120;
        int line = text.IndexOf('\n', StringComparison.Ordinal);
        if (line is > 0 and <= Characters) return text[..(line + 1)];
        int parenthesis = text.IndexOf('(', StringComparison.Ordinal);
        bool isSignature = parenthesis is > 0 and < Characters && text[..parenthesis].Contains('.', StringComparison.Ordinal);
        if (isSignature) return text[..(parenthesis + 1)];
        string words = string.Join(' ', text.Split((char[]?)null, Words + 1, StringSplitOptions.RemoveEmptyEntries).Take(Words));
        if (words.Length <= Characters) return words;
        return words[..(char.IsHighSurrogate(words[Characters - 1]) ? Characters - 1 : Characters)];
    }
}

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
        string text = tokenizer.Decode(Ids(document));
        int bytes = System.Text.Encoding.UTF8.GetByteCount(text);
        if (bytes != file.DocumentUtf8Bytes(document))
            throw new FathomException($"{file.Path}: document {document} decodes to {bytes} bytes, {file.DocumentUtf8Bytes(document)} are expected; does the tokenizer belong to it?");
        return text;
    }

    /// <summary>Beginnings of held-out documents to continue from, spread over the file.</summary>
    /// <param name="count">Most prompts.</param>
    public IEnumerable<int[]> Prompts(int count)
    {
        count = Math.Min(count, file.DocumentCount);
        for (int i = 0; i < count; i++) yield return Beginning(Ids((int)((long)i * file.DocumentCount / count)));
    }

    // A member's documentation begins with its signature, as many texts begin with a heading: the first line. It is cut where the
    // text's own tokens are: a line break often shares a token with the mark before it, and a prompt that splits such a token is
    // one that the model has never seen.
    private int[] Beginning(int[] ids)
    {
        const int Tokens = 48, FirstWords = 12;
        int line = Array.FindIndex(ids, id => tokenizer.TokenBytes(id).Contains((byte)'\n'));
        return ids[..(line is > 0 and <= Tokens ? line : Math.Min(FirstWords, ids.Length))];
    }

    private int[] Ids(int document)
    {
        // A document is [BOS] text EOS.
        int before = file.BosId is null ? 0 : 1, length = (int)file.DocumentTokens(document) - before - 1;
        var ids = new int[length];
        file.CopyTokens(file.DocumentStart(document) + before, ids);
        return ids;
    }
}

// Held-out text in its own order, for loss and bits per byte. Every token is predicted exactly once: the first one from
// an end token put in front of the text, as every document in training follows one. That makes the bytes predicted
// those of the documents, no more and no fewer, whatever the window length.
//   bits per byte = sum of the losses in nats / ln 2 / UTF-8 bytes of the text
// The sum includes the end tokens, which cost bits and stand for no bytes.
namespace Fathom.Text;

/// <summary>Successive windows of T predictions over whole held-out documents. Safe for concurrent use.</summary>
public sealed class ValidationWindows
{
    private readonly TokenFile _file;

    /// <summary>Windows over the first documents of a held-out file.</summary>
    /// <param name="file">The held-out tokens; not disposed here.</param>
    /// <param name="sequenceLength">T, at least 1.</param>
    /// <param name="maximumTokens">
    /// Takes whole documents from the first on while they fit in this many tokens, but always one.
    /// </param>
    public ValidationWindows(TokenFile file, int sequenceLength, long maximumTokens = long.MaxValue)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentOutOfRangeException.ThrowIfLessThan(sequenceLength, 1);
        (_file, SequenceLength) = (file, sequenceLength);
        DocumentCount = 1;
        while (DocumentCount < file.DocumentCount && file.DocumentStart(DocumentCount + 1) <= maximumTokens) DocumentCount++;
        TokenCount = file.DocumentStart(DocumentCount);
        Utf8Bytes = file.Utf8BytesBefore(DocumentCount);
        Count = (TokenCount + sequenceLength - 1) / sequenceLength;
    }

    /// <summary>T.</summary>
    public int SequenceLength { get; }

    /// <summary>Documents covered.</summary>
    public int DocumentCount { get; }

    /// <summary>Tokens predicted by all windows together.</summary>
    public long TokenCount { get; }

    /// <summary>UTF-8 bytes of the text that those tokens stand for.</summary>
    public long Utf8Bytes { get; }

    /// <summary>Number of windows.</summary>
    public long Count { get; }

    /// <summary>
    /// Writes window <paramref name="window"/>: T + 1 tokens, input <c>tokens[j]</c> predicting <c>tokens[j + 1]</c>.
    /// </summary>
    /// <returns>
    /// How many of the T predictions count, from the first on: T but in the last window, whose rest is filled up with
    /// end tokens and must be left out of the sum.
    /// </returns>
    public int Fill(long window, Span<int> tokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(window, Count);
        if (tokens.Length != SequenceLength + 1)
            throw new ArgumentException($"a window has {SequenceLength + 1} tokens, the destination has {tokens.Length}", nameof(tokens));

        long first = window * SequenceLength;
        int count = (int)Math.Min(SequenceLength, TokenCount - first);
        if (first == 0)
        {
            tokens[0] = _file.EosId;
            _file.CopyTokens(0, tokens.Slice(1, count));
        }
        else
        {
            _file.CopyTokens(first - 1, tokens.Slice(0, count + 1));
        }

        tokens.Slice(count + 1).Fill(_file.EosId);
        return count;
    }

    /// <summary>Bits per byte of a summed loss over all windows.</summary>
    /// <param name="totalNats">The sum of −ln p over all <see cref="TokenCount"/> predictions.</param>
    public double BitsPerByte(double totalNats) => totalNats / Math.Log(2) / Utf8Bytes;
}

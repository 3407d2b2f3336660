// Document-level packing (DeepSeek-V3 technical report §4.1): the documents of an epoch in a shuffled order are one
// stream, cut into windows of T inputs; a document cut off at a window's end goes on in the next, and nothing masks one
// document from another inside a window. Window i holds stream[i T .. i T + T]: its last token, a target only, is the
// first input of window i + 1, so an epoch trains on every token once. What is left over at an epoch's end is dropped.
// The order is a function of (seed, epoch): resuming needs the number of samples taken and nothing else.
namespace Fathom.Text;

/// <summary>Samples of a token file, packed from shuffled documents. Safe for concurrent use.</summary>
public sealed class PackedDataset : ITokenBatches
{
    private const ulong Purpose = 0x5041434B; // "PACK"
    private readonly TokenFile _file;
    private readonly ulong _seed;
    private readonly int _lookahead;
    private readonly Lock _building = new();

    // Around an epoch's end, prefetching threads ask for samples of two epochs in turn.
    private EpochOrder? _recent;
    private EpochOrder? _older;

    /// <summary>Samples of <paramref name="sequenceLength"/> inputs each.</summary>
    /// <param name="file">The tokens; not disposed here.</param>
    /// <param name="sequenceLength">T, at least 1.</param>
    /// <param name="seed">Fixes the order of the documents in every epoch.</param>
    /// <param name="lookahead">
    /// Tokens behind the T inputs of a sample: 1 for next-token targets (multi-token prediction, which drops its last
    /// positions, needs no more); 1 + D to give D further depths a target at every position.
    /// </param>
    /// <exception cref="TextFormatException">The file has fewer tokens than one sample.</exception>
    public PackedDataset(TokenFile file, int sequenceLength, ulong seed, int lookahead = 1)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentOutOfRangeException.ThrowIfLessThan(sequenceLength, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(lookahead, 1);
        if (file.TokenCount < (long)sequenceLength + lookahead)
            throw new TextFormatException($"packing {file.Path}: it has {file.TokenCount} tokens, fewer than one sample of {(long)sequenceLength + lookahead}; use more text or a shorter sequence");
        (_file, SequenceLength, _seed, _lookahead) = (file, sequenceLength, seed, lookahead);
        SamplesPerEpoch = (file.TokenCount - lookahead) / sequenceLength;
    }

    /// <inheritdoc/>
    public int SequenceLength { get; }

    /// <summary>Tokens that <see cref="Fill"/> writes: T and the lookahead.</summary>
    public int TokensPerSample => SequenceLength + _lookahead;

    /// <inheritdoc/>
    public long SamplesPerEpoch { get; }

    /// <summary>
    /// Writes sample <paramref name="sampleIndex"/>: <see cref="TokensPerSample"/> tokens (T + 1 where the lookahead is
    /// 1). The first sample of an epoch sorts out the epoch's order; after that nothing is allocated.
    /// </summary>
    public void Fill(long sampleIndex, Span<int> tokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sampleIndex);
        if (tokens.Length != TokensPerSample)
            throw new ArgumentException($"a sample of {_file.Path} has {TokensPerSample} tokens, the destination has {tokens.Length}", nameof(tokens));

        (long epoch, long window) = Math.DivRem(sampleIndex, SamplesPerEpoch);
        EpochOrder order = Order(epoch);
        long position = window * SequenceLength;
        int place = order.PlaceOf(position);
        while (!tokens.IsEmpty)
        {
            int document = order.Documents[place];
            long inside = position - order.Starts[place];
            int count = (int)Math.Min(tokens.Length, _file.DocumentTokens(document) - inside);
            _file.CopyTokens(_file.DocumentStart(document) + inside, tokens.Slice(0, count));
            tokens = tokens.Slice(count);
            position += count;
            place++;
        }
    }

    /// <summary>The documents of an epoch in the order in which they are packed.</summary>
    public ReadOnlySpan<int> DocumentOrder(long epoch)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(epoch);
        return Order(epoch).Documents;
    }

    private EpochOrder Order(long epoch)
    {
        EpochOrder? recent = Volatile.Read(ref _recent), older = Volatile.Read(ref _older);
        if (recent?.Epoch == epoch) return recent;
        if (older?.Epoch == epoch) return older;
        lock (_building)
        {
            if (_recent?.Epoch == epoch) return _recent;
            EpochOrder built = new(_file, _seed, epoch);
            Volatile.Write(ref _older, _recent);
            Volatile.Write(ref _recent, built);
            return built;
        }
    }

    private sealed class EpochOrder
    {
        public EpochOrder(TokenFile file, ulong seed, long epoch)
        {
            Epoch = epoch;
            Documents = new int[file.DocumentCount];
            Starts = new long[file.DocumentCount + 1];
            for (int i = 0; i < Documents.Length; i++) Documents[i] = i;

            SplitMix64 random = new(SplitMix64.Key(seed, Purpose, (ulong)epoch));
            for (int i = Documents.Length - 1; i > 0; i--)
            {
                int j = (int)random.NextBelow((ulong)i + 1);
                (Documents[i], Documents[j]) = (Documents[j], Documents[i]);
            }

            for (int i = 0; i < Documents.Length; i++) Starts[i + 1] = Starts[i] + file.DocumentTokens(Documents[i]);
        }

        public long Epoch { get; }

        /// <summary>Documents in packing order.</summary>
        public int[] Documents { get; }

        /// <summary>Where each of them begins in the epoch's stream, then the stream's length.</summary>
        public long[] Starts { get; }

        /// <summary>The place in the order of the document that holds a position of the stream; none is empty.</summary>
        public int PlaceOf(long position)
        {
            int found = Array.BinarySearch(Starts, position);
            return found >= 0 ? found : ~found - 1;
        }
    }
}

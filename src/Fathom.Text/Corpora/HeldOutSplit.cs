// Splits a corpus by whole documents. The documents are ranked by a hash of (seed, index) and the first of that ranking
// are held out: the choice is fixed by the seed, spreads over the whole corpus, and asking for more keeps those already
// chosen. It needs each document's size first, hence one pass before the pass that tokenises.
using System.Text;

namespace Fathom.Text;

/// <summary>Choices of <see cref="HeldOutSplit.Plan"/>.</summary>
public sealed record HeldOutSplitOptions
{
    /// <summary>Share of the documents to hold out, in [0, 1); 0 holds out none.</summary>
    public double Fraction { get; init; } = 0.01;

    /// <summary>At least this many documents are held out (unless <see cref="Fraction"/> is 0), whatever the share and the size come to.</summary>
    public int MinimumDocuments { get; init; } = 1;

    /// <summary>No further document is held out once it would lift the held-out part above this many UTF-8 bytes.</summary>
    public long MaximumBytes { get; init; } = 4L << 20;

    /// <summary>Fixes the choice.</summary>
    public ulong Seed { get; init; }
}

/// <summary>Which documents of a corpus are held out of training.</summary>
public sealed class HeldOutSplit
{
    private const ulong Purpose = 0x53504C4954; // "SPLIT"
    private readonly HashSet<long> _heldOut;

    private HeldOutSplit(HashSet<long> heldOut, long documents, long bytes, long heldOutBytes, HeldOutSplitOptions options)
    {
        _heldOut = heldOut;
        (Documents, Utf8Bytes, HeldOutUtf8Bytes, Options) = (documents, bytes, heldOutBytes, options);
    }

    /// <summary>What was asked for.</summary>
    public HeldOutSplitOptions Options { get; }

    /// <summary>Documents of the whole corpus.</summary>
    public long Documents { get; }

    /// <summary>UTF-8 bytes of the whole corpus.</summary>
    public long Utf8Bytes { get; }

    /// <summary>Documents held out.</summary>
    public long HeldOutDocuments => _heldOut.Count;

    /// <summary>UTF-8 bytes held out.</summary>
    public long HeldOutUtf8Bytes { get; }

    /// <summary>Whether the document at this place of the corpus' order is held out.</summary>
    public bool IsHeldOut(long index) => _heldOut.Contains(index);

    /// <summary>Reads the corpus once and decides.</summary>
    /// <param name="documents">The corpus in its fixed order.</param>
    /// <param name="options">Choices, or null for the defaults.</param>
    /// <exception cref="TextFormatException">There are too few documents to leave one for training, or the fraction is outside [0, 1).</exception>
    public static HeldOutSplit Plan(IEnumerable<Document> documents, HeldOutSplitOptions? options = null)
    {
        options ??= new HeldOutSplitOptions();
        if (options.Fraction is not (>= 0 and < 1))
            throw new TextFormatException($"splitting the corpus: the held-out fraction is {options.Fraction}, expected a number in [0, 1)");
        List<long> sizes = [];
        foreach (Document document in documents) sizes.Add(Encoding.UTF8.GetByteCount(document.Text));

        (HashSet<long> chosen, long chosenBytes) = options.Fraction == 0 ? ([], 0) : Choose(sizes, options);
        return new HeldOutSplit(chosen, sizes.Count, sizes.Sum(), chosenBytes, options);
    }

    /// <summary>The documents to train on, in order. Give the same corpus that was planned.</summary>
    public IEnumerable<Document> Training(IEnumerable<Document> documents) => Part(documents, heldOut: false);

    /// <summary>The held-out documents, in order. Give the same corpus that was planned.</summary>
    public IEnumerable<Document> HeldOut(IEnumerable<Document> documents) => Part(documents, heldOut: true);

    private static (HashSet<long> Chosen, long Bytes) Choose(List<long> sizes, HeldOutSplitOptions options)
    {
        int minimum = Math.Max(1, options.MinimumDocuments);
        if (sizes.Count <= minimum)
            throw new TextFormatException($"splitting the corpus: it has {sizes.Count} document{(sizes.Count == 1 ? "" : "s")}, too few to hold out {minimum}; cut it into smaller pieces or hold out nothing (fraction 0)");

        ulong[] ranks = new ulong[sizes.Count];
        int[] order = new int[sizes.Count];
        for (int i = 0; i < order.Length; i++)
        {
            ranks[i] = SplitMix64.Key(options.Seed, Purpose, (ulong)i);
            order[i] = i;
        }

        Array.Sort(ranks, order);
        long wanted = Math.Clamp((long)Math.Round(options.Fraction * sizes.Count), minimum, sizes.Count - 1);
        HashSet<long> chosen = [];
        long bytes = 0;
        foreach (int index in order)
        {
            if (chosen.Count == wanted) break;
            if (chosen.Count >= minimum && bytes + sizes[index] > options.MaximumBytes) break;
            chosen.Add(index);
            bytes += sizes[index];
        }

        return (chosen, bytes);
    }

    private IEnumerable<Document> Part(IEnumerable<Document> documents, bool heldOut)
    {
        long index = 0;
        foreach (Document document in documents)
        {
            if (_heldOut.Contains(index++) == heldOut) yield return document;
        }

        if (index != Documents)
            throw new TextFormatException($"splitting the corpus: it had {Documents} documents when the split was planned and has {index} now; plan again");
    }
}

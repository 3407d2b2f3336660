// Learning merges from word counts: take the most frequent adjacent pair, join it everywhere, repeat. Joining changes only
// the words that hold the pair, so each pair keeps the list of words where it was seen (some may have lost it since), and
// counts are kept current by difference. The heap is lazy: an entry whose count is no longer true is put back corrected
// when it reaches the top. An entry can only be too high, because every increase pushes a new one.
//
// No two merges make the same bytes ("ab"+"c", "a"+"bc"): a stretch of bytes that no merge ever crossed went through the
// same merges wherever it stands, so it is cut in one way only. Hence every merge is a new token, and none is learned twice.
using System.Runtime.InteropServices;
using System.Text;

namespace Fathom.Text;

/// <summary>Learns merges; ids are special tokens first, then bytes, then products in order of learning.</summary>
internal sealed class BpeMergeLearner
{
    private readonly List<byte[]> _tokens = [];
    private readonly int[] _symbols; // all words one after the other
    private readonly int[] _starts; // [words + 1]
    private readonly int[] _lengths; // [words]: symbols left
    private readonly long[] _counts; // [words]
    private readonly Dictionary<(int Left, int Right), Pair> _pairs = [];
    private readonly PriorityQueue<Candidate, Candidate> _heap;
    private readonly List<Merge> _merges = [];
    private readonly BpeTrainerOptions _options;

    /// <param name="words">Words with how often each was seen.</param>
    /// <param name="firstId">Id of the first byte: the number of special tokens.</param>
    /// <param name="options">Tie rule, longest token and least count.</param>
    public BpeMergeLearner(Dictionary<string, long> words, int firstId, BpeTrainerOptions options)
    {
        _options = options;
        _heap = new PriorityQueue<Candidate, Candidate>(Comparer<Candidate>.Create(Compare));
        int[] idOfByte = new int[256];
        for (int id = 0; id < firstId; id++) _tokens.Add([]);
        foreach (byte value in ByteLevelAlphabet.BytesInVocabularyOrder()) idOfByte[value] = AddToken([value]);

        _starts = new int[words.Count + 1];
        _lengths = new int[words.Count];
        _counts = new long[words.Count];
        var symbols = new List<int>();
        int index = 0;
        foreach ((string word, long count) in words)
        {
            foreach (byte value in Encoding.UTF8.GetBytes(word)) symbols.Add(idOfByte[value]);
            _counts[index] = count;
            _lengths[index] = symbols.Count - _starts[index];
            _starts[++index] = symbols.Count;
        }

        _symbols = [.. symbols];
        CountAllPairs();
    }

    /// <summary>Number of tokens, special tokens included.</summary>
    public int TokenCount => _tokens.Count;

    /// <summary>In the order in which they were learned.</summary>
    public IReadOnlyList<Merge> Merges => _merges;

    /// <summary>The bytes of a token; empty for a special token.</summary>
    public ReadOnlySpan<byte> Bytes(int id) => _tokens[id];

    /// <summary>Learns until <paramref name="wanted"/> tokens are added or no pair is left.</summary>
    public void Learn(int wanted, Action<int> report, CancellationToken cancellation)
    {
        int size = _tokens.Count + wanted;
        HashSet<(int, int)> grown = [];
        while (_tokens.Count < size && _heap.TryDequeue(out Candidate best, out _))
        {
            cancellation.ThrowIfCancellationRequested();
            Pair pair = _pairs[(best.Left, best.Right)];
            if (pair.Count != best.Count)
            {
                Push(best.Left, best.Right, pair.Count);
                continue;
            }

            int product = AddToken([.. _tokens[best.Left], .. _tokens[best.Right]]);
            _merges.Add(new Merge(best.Left, best.Right, product));
            if (_merges.Count % 100 == 0) report(_merges.Count);
            List<int> places = pair.Words;
            pair.Words = [];
            foreach (int word in places) Join(word, best.Left, best.Right, product, grown);
            foreach ((int left, int right) in grown) Push(left, right, _pairs[(left, right)].Count);
            grown.Clear();
        }

        report(_merges.Count);
    }

    private int AddToken(byte[] bytes)
    {
        _tokens.Add(bytes);
        return _tokens.Count - 1;
    }

    private void CountAllPairs()
    {
        for (int word = 0; word < _counts.Length; word++)
        {
            ReadOnlySpan<int> symbols = _symbols.AsSpan(_starts[word], _lengths[word]);
            for (int i = 0; i + 1 < symbols.Length; i++) Change(word, symbols[i], symbols[i + 1], _counts[word]);
        }

        foreach (((int left, int right), Pair pair) in _pairs) Push(left, right, pair.Count);
    }

    private void Change(int word, int left, int right, long difference)
    {
        ref Pair? pair = ref CollectionsMarshal.GetValueRefOrAddDefault(_pairs, (left, right), out _);
        pair ??= new Pair();
        pair.Count += difference;
        if (difference > 0 && (pair.Words.Count == 0 || pair.Words[^1] != word)) pair.Words.Add(word);
    }

    /// <summary>Joins the pair wherever it stands in the word, from left to right, and corrects the counts of its neighbours.</summary>
    private void Join(int word, int left, int right, int product, HashSet<(int, int)> grown)
    {
        Span<int> symbols = _symbols.AsSpan(_starts[word], _lengths[word]);
        long count = _counts[word];
        int kept = 0;
        for (int i = 0; i < symbols.Length; i++)
        {
            if (i + 1 == symbols.Length || symbols[i] != left || symbols[i + 1] != right)
            {
                symbols[kept++] = symbols[i];
                continue;
            }

            Change(word, left, right, -count);
            if (kept > 0)
            {
                Change(word, symbols[kept - 1], left, -count);
                Grow(symbols[kept - 1], product);
            }

            if (i + 2 < symbols.Length)
            {
                Change(word, right, symbols[i + 2], -count);
                Grow(product, symbols[i + 2]);
            }

            symbols[kept++] = product;
            i++;
        }

        _lengths[word] = kept;

        void Grow(int first, int second)
        {
            Change(word, first, second, count);
            grown.Add((first, second));
        }
    }

    private void Push(int left, int right, long count)
    {
        if (count < _options.MinPairCount || _tokens[left].Length + _tokens[right].Length > _options.MaxTokenLength) return;
        var candidate = new Candidate(count, left, right);
        _heap.Enqueue(candidate, candidate);
    }

    /// <summary>Negative where <paramref name="a"/> is merged before <paramref name="b"/>.</summary>
    private int Compare(Candidate a, Candidate b)
    {
        if (a.Count != b.Count) return b.Count.CompareTo(a.Count);
        if (_options.TieRule == BpeTieRule.SmallestIds) return (a.Left, a.Right).CompareTo((b.Left, b.Right));
        int left = _tokens[b.Left].AsSpan().SequenceCompareTo(_tokens[a.Left]);
        return left != 0 ? left : _tokens[b.Right].AsSpan().SequenceCompareTo(_tokens[a.Right]);
    }

    private readonly record struct Candidate(long Count, int Left, int Right);

    private sealed class Pair
    {
        public long Count;
        public List<int> Words = [];
    }
}

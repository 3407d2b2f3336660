// Byte-pair encoding of one word: repeatedly join the adjacent pair of lowest rank, leftmost first, until no pair merges.
// A short word is scanned again after every merge, which is quadratic but touches two cache lines; a long one (a
// pre-tokenizer may hand over a megabyte of letters) keeps its pairs in a heap over a linked list, O(n log n).
using System.Text;

namespace Fathom.Text;

/// <summary>Merges words into token ids. Holds scratch memory: one instance serves one thread at a time.</summary>
/// <param name="merges">The pairs that merge.</param>
/// <param name="byteIds">[256]: the token id of each single byte.</param>
internal sealed class WordMerger(MergeTable merges, int[] byteIds)
{
    private const int ShortWord = 48;
    private const int ScratchKept = 1 << 16;

    private byte[] _bytes = new byte[256];
    private int[] _ids = new int[256];
    private int[] _next = [];
    private int[] _previous = [];
    private PriorityQueue<(int Position, int Left, int Right, int Product), long> _heap = new();

    /// <summary>The token ids of a word; the span is valid until the next call.</summary>
    public ReadOnlySpan<int> Merge(ReadOnlySpan<char> word)
    {
        int capacity = checked(word.Length * 3);
        if (_bytes.Length < capacity) _bytes = new byte[capacity];
        int length = Encoding.UTF8.GetBytes(word, _bytes); // a lone surrogate becomes U+FFFD
        return Merge(_bytes.AsSpan(0, length));
    }

    /// <summary>The token ids of a word given as bytes; the span is valid until the next call.</summary>
    public ReadOnlySpan<int> Merge(ReadOnlySpan<byte> word)
    {
        if (_ids.Length < word.Length) _ids = new int[word.Length];
        for (int i = 0; i < word.Length; i++) _ids[i] = byteIds[word[i]];
        Span<int> ids = _ids.AsSpan(0, word.Length);
        return ids.Slice(0, word.Length <= ShortWord ? MergeShort(ids) : MergeLong(ids));
    }

    /// <summary>Gives back the scratch memory that an unusually long word needed.</summary>
    public void Trim()
    {
        if (_ids.Length <= ScratchKept && _bytes.Length <= ScratchKept) return;
        _bytes = new byte[256];
        _ids = new int[256];
        _next = _previous = [];
        _heap = new();
    }

    private int MergeShort(Span<int> ids)
    {
        Span<int> ranks = stackalloc int[ShortWord]; // of the pair (i, i + 1)
        Span<int> products = stackalloc int[ShortWord];
        int count = ids.Length;
        for (int i = 0; i + 1 < count; i++) ranks[i] = merges.Rank(ids[i], ids[i + 1], out products[i]);

        while (count > 1)
        {
            int best = 0;
            for (int i = 1; i + 1 < count; i++)
            {
                if (ranks[i] < ranks[best]) best = i;
            }

            if (ranks[best] == MergeTable.NoRank) break;
            ids[best] = products[best];
            count--;
            ids.Slice(best + 2, count - best - 1).CopyTo(ids.Slice(best + 1));
            if (best + 1 < count)
            {
                ranks.Slice(best + 2, count - best - 2).CopyTo(ranks.Slice(best + 1));
                products.Slice(best + 2, count - best - 2).CopyTo(products.Slice(best + 1));
                ranks[best] = merges.Rank(ids[best], ids[best + 1], out products[best]);
            }

            if (best > 0) ranks[best - 1] = merges.Rank(ids[best - 1], ids[best], out products[best - 1]);
        }

        return count;
    }

    private int MergeLong(Span<int> ids)
    {
        const int Gone = -1; // an id that was merged into its left neighbour
        int count = ids.Length;
        if (_next.Length < count)
        {
            _next = new int[count];
            _previous = new int[count];
        }

        _heap.Clear();
        for (int i = 0; i < count; i++)
        {
            _next[i] = i + 1;
            _previous[i] = i - 1;
            if (i > 0) Push(ids, i - 1, i);
        }

        while (_heap.TryDequeue(out (int Position, int Left, int Right, int Product) pair, out _))
        {
            int left = pair.Position;
            int right = _next[left];
            if (ids[left] != pair.Left || right >= count || ids[right] != pair.Right) continue; // overtaken by another merge
            ids[left] = pair.Product;
            ids[right] = Gone;
            int after = _next[left] = _next[right];
            if (after < count)
            {
                _previous[after] = left;
                Push(ids, left, after);
            }

            if (_previous[left] >= 0) Push(ids, _previous[left], left);
        }

        int kept = 0;
        for (int i = 0; i < count; i = _next[i]) ids[kept++] = ids[i];
        return kept;
    }

    private void Push(ReadOnlySpan<int> ids, int left, int right)
    {
        int rank = merges.Rank(ids[left], ids[right], out int product);
        if (rank != MergeTable.NoRank) _heap.Enqueue((left, ids[left], ids[right], product), (long)rank << 32 | (uint)left);
    }
}

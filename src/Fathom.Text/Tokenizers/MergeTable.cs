// The merges of a byte-pair vocabulary as one open-addressing table: pair of ids -> rank and product. This is the only
// look-up inside the merge loop, so it is a flat array probed linearly, not a Dictionary.
using System.Numerics;

namespace Fathom.Text;

/// <summary>One merge: the pair of token ids and the id of the token they make.</summary>
/// <param name="Left">Id of the left part.</param>
/// <param name="Right">Id of the right part.</param>
/// <param name="Product">Id of the joined token.</param>
internal readonly record struct Merge(int Left, int Right, int Product);

/// <summary>Finds the rank and product of a pair of adjacent tokens.</summary>
internal sealed class MergeTable
{
    /// <summary>The rank of a pair that does not merge.</summary>
    public const int NoRank = int.MaxValue;

    private const ulong Empty = ulong.MaxValue;

    private readonly (ulong Pair, int Rank, int Product)[] _slots;
    private readonly int _shift;

    /// <param name="merges">In order of rank; of a pair that stands twice the later rank counts, as in Hugging Face tokenizers.</param>
    public MergeTable(IReadOnlyList<Merge> merges)
    {
        int bits = BitOperations.Log2((uint)Math.Max(1, merges.Count)) + 2; // load at most one half
        _shift = 64 - bits;
        _slots = new (ulong, int, int)[1 << bits];
        Array.Fill(_slots, (Empty, NoRank, -1));
        for (int rank = 0; rank < merges.Count; rank++)
        {
            ulong pair = Pack(merges[rank].Left, merges[rank].Right);
            _slots[SlotOf(pair)] = (pair, rank, merges[rank].Product);
        }
    }

    /// <summary>The rank of the pair (smaller merges first), or <see cref="NoRank"/>.</summary>
    public int Rank(int left, int right, out int product)
    {
        ref readonly (ulong Pair, int Rank, int Product) slot = ref _slots[SlotOf(Pack(left, right))];
        product = slot.Product;
        return slot.Rank;
    }

    private int SlotOf(ulong pair)
    {
        int index = (int)((pair * 0x9E3779B97F4A7C15UL) >> _shift);
        while (_slots[index].Pair != pair && _slots[index].Pair != Empty) index = (index + 1) & (_slots.Length - 1);
        return index;
    }

    private static ulong Pack(int left, int right) => (ulong)(uint)left << 32 | (uint)right;
}

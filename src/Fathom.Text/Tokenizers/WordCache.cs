// Words repeat: about 97 of 100 words of English prose were seen shortly before. The cache keeps the tokens of short words,
// one entry of 64 bytes a word (the word padded to 16 UTF-16 units, its length, up to six ids), so a hit costs one hash,
// one 32-byte comparison and one cache line. Memory is fixed: a word has two places, side by side; a new word takes the
// first, the word that was there moves to the second, and the one that was there is forgotten.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Fathom.Text;

/// <summary>A bounded map from short words to their token ids. One instance serves one thread at a time.</summary>
internal sealed class WordCache
{
    /// <summary>Longest word kept, in UTF-16 units.</summary>
    public const int LongestWord = 16;

    /// <summary>Most tokens a kept word may have.</summary>
    public const int MostTokens = 6;

    private const int SlotBits = 16;

    private readonly Entry[] _slots = new Entry[1 << SlotBits];

    [InlineArray(MostTokens)]
    private struct TokenIds
    {
        private int _first;
    }

    private struct Entry
    {
        public Vector256<ushort> Word;
        public int WordLength;
        public int TokenCount;
        public TokenIds Ids;
    }

    private static ReadOnlySpan<ushort> Mask =>
    [
        0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    /// <summary>The key of the word at <paramref name="start"/>, of 1 to <see cref="LongestWord"/> units.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<ushort> KeyOf(ReadOnlySpan<char> text, int start, int length)
    {
        ReadOnlySpan<ushort> units = MemoryMarshal.Cast<char, ushort>(text.Slice(start));
        return units.Length >= LongestWord
            ? Vector256.Create(units) & Vector256.Create(Mask.Slice(LongestWord - length))
            : KeyNearEnd(units.Slice(0, length));
    }

    /// <summary>Appends the tokens of the word if it is known.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryAppend(Vector256<ushort> key, int length, List<int> ids)
    {
        int slot = SlotOf(key);
        ref Entry entry = ref _slots[slot];
        if (entry.WordLength != length || entry.Word != key)
        {
            entry = ref _slots[slot ^ 1];
            if (entry.WordLength != length || entry.Word != key) return false;
        }

        if (entry.TokenCount == 1) ids.Add(entry.Ids[0]);
        else ids.AddRange(((ReadOnlySpan<int>)entry.Ids).Slice(0, entry.TokenCount));
        return true;
    }

    /// <summary>Remembers a word; one with more than <see cref="MostTokens"/> tokens is not kept.</summary>
    public void Keep(Vector256<ushort> key, int length, ReadOnlySpan<int> ids)
    {
        if (ids.Length > MostTokens) return;
        int slot = SlotOf(key);
        ref Entry entry = ref _slots[slot];
        _slots[slot ^ 1] = entry;
        entry.Word = key;
        entry.WordLength = length;
        entry.TokenCount = ids.Length;
        ids.CopyTo(entry.Ids);
    }

    private static Vector256<ushort> KeyNearEnd(ReadOnlySpan<ushort> word)
    {
        Span<ushort> padded = stackalloc ushort[LongestWord];
        padded.Clear();
        word.CopyTo(padded);
        return Vector256.Create<ushort>(padded);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int SlotOf(Vector256<ushort> key)
    {
        Vector256<ulong> parts = key.AsUInt64();
        ulong hash = (parts[0] * 0x9E3779B97F4A7C15UL) + (parts[1] * 0xD6E8FEB86659FD93UL)
            + (parts[2] * 0xA0761D6478BD642FUL) + (parts[3] * 0xE7037ED1A0B428DBUL);
        return (int)(hash >> (64 - SlotBits));
    }
}

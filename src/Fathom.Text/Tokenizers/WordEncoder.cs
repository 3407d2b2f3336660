// Text without special tokens -> ids: cut into words, look each up, merge those that are new.
using System.Runtime.Intrinsics;

namespace Fathom.Text;

/// <summary>Encodes plain text. Holds the word cache and scratch memory: one instance serves one thread at a time.</summary>
internal sealed class WordEncoder(PreTokenizer preTokenizer, WordMerger merger, Vocabulary? wholeWords)
{
    private const int ScratchKept = 1 << 20;

    private readonly WordCache _cache = new();
    private List<int> _ends = [];

    /// <summary>Appends the ids of <paramref name="text"/>.</summary>
    public void Encode(ReadOnlySpan<char> text, List<int> ids)
    {
        _ends.Clear();
        preTokenizer.Split(text, _ends);
        int start = 0;
        foreach (int end in _ends)
        {
            int length = end - start;
            if (length > WordCache.LongestWord)
            {
                ids.AddRange(Tokenize(text.Slice(start, length)));
            }
            else
            {
                Vector256<ushort> key = WordCache.KeyOf(text, start, length);
                if (!_cache.TryAppend(key, length, ids))
                {
                    ReadOnlySpan<int> tokens = Tokenize(text.Slice(start, length));
                    ids.AddRange(tokens);
                    _cache.Keep(key, length, tokens);
                }
            }

            start = end;
        }
    }

    /// <summary>Gives back the scratch memory that an unusually long text needed.</summary>
    public void Trim()
    {
        merger.Trim();
        if (_ends.Capacity > ScratchKept) _ends = [];
    }

    /// <summary>With <c>ignore_merges</c> a word that is a token stays whole, whatever the merges would make of it.</summary>
    private ReadOnlySpan<int> Tokenize(ReadOnlySpan<char> word) =>
        wholeWords is not null && wholeWords.TryGetWord(word, out int id) ? new int[] { id } : merger.Merge(word);
}

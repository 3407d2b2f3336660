// The vocabulary as a tree of bytes, so that the tokens that may come next are found by walking the tree and the grammar together: tokens
// that begin alike are looked at once, and a beginning that the grammar forbids ends a whole subtree. Nodes lie in depth-first order: a
// walk reads the arrays from left to right, and leaving a subtree is one jump.
using System.Runtime.CompilerServices;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>The bytes of all plain tokens of a tokenizer; added tokens (control tokens) are not in it.</summary>
internal sealed class TokenTrie
{
    private static readonly ConditionalWeakTable<Tokenizer, TokenTrie> Shared = [];

    private readonly byte[][] bytes; // by id; empty where a token takes no part

    private TokenTrie(byte[][] bytes)
    {
        int[] order = [.. Enumerable.Range(0, bytes.Length).Where(id => bytes[id].Length > 0)];
        Array.Sort(order, (a, b) => bytes[a].AsSpan().SequenceCompareTo(bytes[b]) is var c && c != 0 ? c : a.CompareTo(b));
        List<byte> labels = [0];
        List<byte> depths = [0];
        List<int> ends = [0], firstTokens = [0];
        var open = new Stack<int>([0]); // the nodes from the root to the last one
        byte[] previous = [];
        for (int i = 0; i < order.Length; i++)
        {
            byte[] token = bytes[order[i]];
            int common = previous.AsSpan().CommonPrefixLength(token);
            while (open.Count - 1 > common) ends[open.Pop()] = labels.Count;
            for (int at = common; at < token.Length; at++)
            {
                open.Push(labels.Count);
                labels.Add(token[at]);
                depths.Add((byte)(at + 1));
                ends.Add(0);
                firstTokens.Add(i);
            }

            previous = token;
        }

        while (open.Count > 0) ends[open.Pop()] = labels.Count;
        firstTokens.Add(order.Length);
        (Labels, Depths, Ends, FirstTokens, Tokens) = ([.. labels], [.. depths], [.. ends], [.. firstTokens], order);
        this.bytes = bytes;
    }

    /// <summary>The longest token that takes part; a longer one is never allowed under a constraint.</summary>
    public const int LongestToken = byte.MaxValue;

    /// <summary>The byte that leads to a node. Node 0 is the root.</summary>
    public byte[] Labels { get; } // [N]

    /// <summary>Bytes from the root to a node.</summary>
    public byte[] Depths { get; } // [N]

    /// <summary>The first node after a node's subtree.</summary>
    public int[] Ends { get; } // [N]

    /// <summary>Where a node's tokens begin in <see cref="Tokens"/>; they end where the next node's begin.</summary>
    public int[] FirstTokens { get; } // [N + 1]

    /// <summary>Token ids in the order of their bytes.</summary>
    public int[] Tokens { get; }

    /// <summary>The bytes of a token; empty where it is not in the tree.</summary>
    public ReadOnlySpan<byte> Bytes(int token) => (uint)token < (uint)bytes.Length ? bytes[token] : [];

    /// <summary>The tree of a tokenizer, built once.</summary>
    public static TokenTrie Of(Tokenizer tokenizer) => Shared.GetValue(tokenizer, Build);

    private static TokenTrie Build(Tokenizer tokenizer)
    {
        var added = tokenizer.AddedTokens.Select(token => token.Id).ToHashSet();
        var bytes = new byte[tokenizer.VocabularySize][];
        for (int id = 0; id < bytes.Length; id++)
        {
            bytes[id] = !added.Contains(id) && tokenizer.TryGetTokenBytes(id, out ReadOnlySpan<byte> value) && value.Length <= LongestToken ? value.ToArray() : [];
        }

        return new TokenTrie(bytes);
    }
}

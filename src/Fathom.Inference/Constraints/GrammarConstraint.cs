// One generation's place in a grammar. The mask is applied sixteen logits at a time: a word of it against one bit a lane.
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Fathom.Inference;

/// <summary>A text under construction.</summary>
/// <param name="grammar">What it may be.</param>
internal sealed class GrammarConstraint(TokenGrammar grammar) : ITokenConstraint
{
    private static readonly Vector512<int> LaneBits = Vector512.Create(
        1, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15);

    private AutomatonState state = grammar.Start;

    /// <inheritdoc/>
    public bool IsComplete { get; private set; }

    /// <inheritdoc/>
    /// <exception cref="Numerics.FathomException">The schema's patterns can be read in too many ways to find the mask.</exception>
    public void Mask(Span<float> logits)
    {
        ReadOnlySpan<ulong> mask = grammar.Mask(ref state);
        ReadOnlySpan<ushort> sixteens = MemoryMarshal.Cast<ulong, ushort>(mask);
        int covered = Math.Min(logits.Length, mask.Length * 64), at = 0;
        ref float first = ref MemoryMarshal.GetReference(logits);
        Vector512<float> forbidden = Vector512.Create(float.NegativeInfinity);
        for (; at + 16 <= covered; at += 16)
        {
            Vector512<float> unset = Vector512.Equals(Vector512.Create((int)sixteens[at / 16]) & LaneBits, Vector512<int>.Zero).AsSingle();
            Vector512.ConditionalSelect(unset, forbidden, Vector512.LoadUnsafe(ref first, (nuint)at)).StoreUnsafe(ref first, (nuint)at);
        }

        for (; at < covered; at++)
        {
            if ((mask[at >> 6] >> at & 1) == 0) logits[at] = float.NegativeInfinity;
        }

        logits.Slice(covered).Fill(float.NegativeInfinity); // a model's vocabulary may be larger than its tokenizer's
    }

    /// <inheritdoc/>
    public void Accept(int token)
    {
        state = grammar.Next(state, token, out bool ended);
        IsComplete |= ended;
    }
}

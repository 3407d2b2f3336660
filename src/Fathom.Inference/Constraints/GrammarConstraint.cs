namespace Fathom.Inference;

/// <summary>One generation's place in a grammar: a text under construction.</summary>
/// <param name="grammar">What it may be.</param>
internal sealed class GrammarConstraint(TokenGrammar grammar) : ITokenConstraint
{
    private AutomatonState state = grammar.Start;

    /// <inheritdoc/>
    public bool IsComplete { get; private set; }

    /// <inheritdoc/>
    /// <exception cref="Numerics.FathomException">The schema's patterns can be read in too many ways to find the mask.</exception>
    public void Mask(Span<ulong> allowed)
    {
        ReadOnlySpan<ulong> mask = grammar.Mask(ref state);
        int covered = Math.Min(allowed.Length, mask.Length);
        for (int word = 0; word < covered; word++) allowed[word] &= mask[word];
        allowed[covered..].Clear(); // a model's vocabulary may be larger than its tokenizer's
    }

    /// <inheritdoc/>
    public void Accept(int token)
    {
        state = grammar.Next(state, token, out bool ended);
        IsComplete |= ended;
    }
}

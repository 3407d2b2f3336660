// Where a text can be in its grammar. A text may be read in several ways at once (two alternatives that begin alike), so a state is a set
// of places. Places that differ only in what called them are one place with several callers: that keeps the set small where
// alternatives nest, which would double it at every level.
namespace Fathom.Inference;

/// <summary>Where a call returns to. A node of -1 is the end of the text.</summary>
internal readonly record struct Frame(int Node, int Count, CallStack? Parent);

/// <summary>The open calls of a place: its possible callers, each with callers of its own. Equal stacks are the same object.</summary>
/// <param name="Id">Orders stacks.</param>
/// <param name="Depth">Levels of nesting.</param>
/// <param name="Frames">The callers, at least one.</param>
internal sealed record CallStack(int Id, int Depth, Frame[] Frames)
{
    /// <inheritdoc/>
    public bool Equals(CallStack? other) => ReferenceEquals(this, other);

    /// <inheritdoc/>
    public override int GetHashCode() => Id;
}

/// <summary>A node that waits for a byte or a token, the count of its call, and what called it.</summary>
internal readonly record struct Place(int Node, int Count, CallStack Stack);

/// <summary>All places where a text can be, and what has been found out about them.</summary>
/// <param name="generation">The automaton's generation that interned it.</param>
/// <param name="places">Sorted by node and count, which are unique.</param>
/// <param name="accepts">Whether the text may end here.</param>
internal sealed class AutomatonState(int generation, Place[] places, bool accepts)
{
    /// <summary>The automaton's generation that interned it.</summary>
    public int Generation => generation;

    /// <summary>Sorted by node and count, which are unique.</summary>
    public Place[] Places => places;

    /// <summary>Whether the text may end here.</summary>
    public bool Accepts => accepts;

    /// <summary>Whether nothing can follow and this is not an end.</summary>
    public bool IsDead { get; } = places.Length == 0 && !accepts;

    /// <summary>The next state by class of byte; null where it has not been computed.</summary>
    public AutomatonState?[]? Next { get; set; }

    /// <summary>Bits of the tokens that may come; null where they have not been computed.</summary>
    public ulong[]? Mask { get; set; }
}

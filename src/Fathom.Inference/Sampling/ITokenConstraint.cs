// The seam for structured output: a grammar, a JSON schema or a list of answers says before each token which tokens may come.

namespace Fathom.Inference;

/// <summary>Allows some tokens and forbids others, one request long. Called by one thread at a time, never after it is complete.</summary>
public interface ITokenConstraint
{
    /// <summary>Whether the text is finished: nothing more may come, and the generation ends.</summary>
    bool IsComplete { get; }

    /// <summary>Clears the bits of tokens that may not come next. An end token is treated as any other.</summary>
    /// <param name="allowed">[ceil(V / 64)], bit v % 64 of word v / 64 for token v; all set before, and what is beyond the vocabulary is not looked at.</param>
    void Mask(Span<ulong> allowed);

    /// <summary>Told each token that was chosen, an end token too.</summary>
    /// <param name="token">An id that the mask allowed.</param>
    void Accept(int token);
}

// The seam for structured output: a grammar, a JSON schema or a list of answers says before each token which tokens may come.

namespace Fathom.Inference;

/// <summary>Allows some tokens and forbids others, one request long. Called by one thread at a time, never after it is complete.</summary>
public interface ITokenConstraint
{
    /// <summary>Whether the text is finished: nothing more may come, and the generation ends.</summary>
    bool IsComplete { get; }

    /// <summary>Sets the logits of tokens that may not come next to negative infinity. An end token is treated as any other.</summary>
    /// <param name="logits">[V], in place.</param>
    void Mask(Span<float> logits);

    /// <summary>Told each token that was chosen, an end token too.</summary>
    /// <param name="token">An id that the mask allowed.</param>
    void Accept(int token);
}

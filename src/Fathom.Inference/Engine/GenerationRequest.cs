namespace Fathom.Inference;

/// <summary>A text to generate. n answers to one prompt are n requests with seeds of their own: they share the prompt's cache.</summary>
public sealed record GenerationRequest
{
    /// <summary>Ids of the prompt, at least one. Read once, when the request is submitted.</summary>
    public required IReadOnlyList<int> Prompt { get; init; }

    /// <summary>How tokens are chosen, and when to stop.</summary>
    public SamplingOptions Sampling { get; init; } = new();

    /// <summary>What may be said, or null for anything. Belongs to this request alone.</summary>
    public ITokenConstraint? Constraint { get; init; }

    /// <summary>Requests of higher priority are admitted first, and give their memory up last.</summary>
    public int Priority { get; init; }

    /// <summary>
    /// Whose request it is, or null. Users of the same priority are served in turn by the tokens they have had, and no user's prompt is
    /// found in the cache by another: not even by the time it takes.
    /// </summary>
    public string? UserId { get; init; }

    /// <summary>Whether the text holds special tokens as the tokenizer writes them; the end token that ends it is left out in any case.</summary>
    public bool KeepSpecialTokens { get; init; }
}

using Fathom.Inference;

namespace Fathom.Extensions.AI;

/// <summary>What a call of the client asks for, in the engine's terms.</summary>
/// <param name="Conversation">Messages and functions.</param>
/// <param name="Sampling">How tokens are chosen.</param>
internal sealed record ChatRequest(ChatConversation Conversation, SamplingOptions Sampling)
{
    /// <summary>The JSON that the text must be, or null for anything.</summary>
    public JsonAnswer? Answer { get; init; }

    /// <summary>Of the queue: higher first.</summary>
    public int Priority { get; init; }

    /// <summary>Whose request it is, or null.</summary>
    public string? User { get; init; }

    /// <summary>Whether reasoning is given to the caller.</summary>
    public bool ShowReasoning { get; init; } = true;
}

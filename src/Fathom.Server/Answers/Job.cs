using Fathom.Inference;

namespace Fathom.Server.Answers;

/// <summary>One text to be generated for a request.</summary>
/// <param name="Prompt">Its tokens and where the answer begins.</param>
/// <param name="Sampling">How tokens are chosen.</param>
internal sealed record Job(ChatPrompt Prompt, SamplingOptions Sampling)
{
    /// <summary>Which of the request's prompts it answers; those of the same prompt pay it once.</summary>
    public int PromptIndex { get; init; }

    /// <summary>What restricts the text, or null.</summary>
    public AnswerGrammar? Grammar { get; init; }

    /// <summary>Whether calls are looked for.</summary>
    public bool Tools { get; init; }
}

/// <summary>What a request used.</summary>
/// <param name="HitTokens">Tokens of prompts that were found in the cache.</param>
/// <param name="MissTokens">Tokens of prompts that were computed.</param>
/// <param name="OutputTokens">Tokens generated.</param>
/// <param name="ReasoningTokens">Those among them that reason.</param>
internal readonly record struct TokenUsage(int HitTokens, int MissTokens, int OutputTokens, int ReasoningTokens)
{
    /// <summary>Tokens of prompts.</summary>
    public int PromptTokens => HitTokens + MissTokens;

    /// <summary>All tokens.</summary>
    public int TotalTokens => PromptTokens + OutputTokens;
}

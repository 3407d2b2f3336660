using Fathom.Inference;

namespace Fathom.Server.Answers;

/// <summary>What an event brings: a part of the text as <see cref="AnswerPart"/> has them, or what belongs to the engine.</summary>
internal enum EventKind
{
    /// <summary>Text of the reasoning.</summary>
    Reasoning = AnswerPart.Reasoning,

    /// <summary>Text of the answer.</summary>
    Content = AnswerPart.Content,

    /// <summary>A call begins; the text is the function's name.</summary>
    CallStart = AnswerPart.CallStart,

    /// <summary>Text of a call's arguments.</summary>
    CallArguments = AnswerPart.CallArguments,

    /// <summary>Tokens and their probabilities, without text: text may come later than its tokens.</summary>
    Tokens,

    /// <summary>The answer is over.</summary>
    End,
}

/// <summary>A step of an answer.</summary>
/// <param name="Choice">Which of the answers, from 0.</param>
/// <param name="Kind">What comes.</param>
/// <param name="Text">New text, or a function's name.</param>
internal readonly record struct AnswerEvent(int Choice, EventKind Kind, string Text)
{
    /// <summary>Which of the answer's calls, from 0.</summary>
    public int Call { get; init; }

    /// <summary>Tokens of <see cref="EventKind.Tokens"/>.</summary>
    public IReadOnlyList<GeneratedToken> Tokens { get; init; } = [];

    /// <summary>Whether those are of the reasoning.</summary>
    public bool Reasoning { get; init; }

    /// <summary>How it ended.</summary>
    public AnswerEnd? End { get; init; }
}

/// <summary>Why an answer is over.</summary>
internal enum EndReason
{
    /// <summary>The model ended it, or a stop sequence.</summary>
    Stop,

    /// <summary>The model ended it with calls.</summary>
    ToolCalls,

    /// <summary>No more tokens were allowed.</summary>
    Length,

    /// <summary>The server cut it.</summary>
    Cut,
}

/// <summary>How an answer ended.</summary>
/// <param name="Reason">Why.</param>
/// <param name="Result">The engine's account.</param>
internal sealed record AnswerEnd(EndReason Reason, GenerationResult Result);

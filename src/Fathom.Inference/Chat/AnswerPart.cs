namespace Fathom.Inference;

/// <summary>A part of an answer.</summary>
public enum AnswerPart
{
    /// <summary>Text of the reasoning.</summary>
    Reasoning,

    /// <summary>Text of the answer.</summary>
    Content,

    /// <summary>A call begins; the text is the function's name.</summary>
    CallStart,

    /// <summary>Text of a call's arguments.</summary>
    CallArguments,
}

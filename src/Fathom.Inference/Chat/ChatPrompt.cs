namespace Fathom.Inference;

/// <summary>A conversation as the model reads it.</summary>
/// <param name="Ids">Tokens.</param>
/// <param name="Start">Where the answer begins.</param>
/// <param name="CallName">The function that is called, where the prompt says so already.</param>
/// <param name="Text">The rendered text, for the log of those who asked for it.</param>
public sealed record ChatPrompt(IReadOnlyList<int> Ids, AnswerStart Start, string? CallName, string Text);

namespace Fathom.Text;

/// <summary>One document of a corpus: a unit of meaning that is never split between training and held-out data.</summary>
/// <param name="Text">The text; well-formed (no lone surrogates), not empty.</param>
/// <param name="Source">Where it came from, for messages: a file's relative path, with a line or piece number where it has several.</param>
public readonly record struct Document(string Text, string Source);

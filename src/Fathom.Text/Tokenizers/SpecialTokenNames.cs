// The control tokens of DeepSeek-V3. Two of the characters are not what they look like: '｜' is U+FF5C (full-width
// vertical line) and '▁' is U+2581 (lower one eighth block).
namespace Fathom.Text;

/// <summary>The texts of DeepSeek-V3's control tokens.</summary>
public static class SpecialTokenNames
{
    /// <summary>Begin of sequence (bos).</summary>
    public const string BeginOfSentence = "<｜begin▁of▁sentence｜>";

    /// <summary>End of sequence (eos).</summary>
    public const string EndOfSentence = "<｜end▁of▁sentence｜>";

    /// <summary>Padding.</summary>
    public const string Pad = "<｜▁pad▁｜>";

    /// <summary>Starts a user's turn.</summary>
    public const string User = "<｜User｜>";

    /// <summary>Starts the assistant's turn.</summary>
    public const string Assistant = "<｜Assistant｜>";

    /// <summary>Fill in the middle: before the suffix.</summary>
    public const string FimHole = "<｜fim▁hole｜>";

    /// <summary>Fill in the middle: before the prefix.</summary>
    public const string FimBegin = "<｜fim▁begin｜>";

    /// <summary>Fill in the middle: before the middle part.</summary>
    public const string FimEnd = "<｜fim▁end｜>";

    /// <summary>All of the above, in the order in which <see cref="BpeTrainer"/> numbers them from 0.</summary>
    public static IReadOnlyList<string> All { get; } =
        [BeginOfSentence, EndOfSentence, Pad, User, Assistant, FimHole, FimBegin, FimEnd];
}

// The marks that DeepSeek's models set around reasoning and calls (reference: tokenizer_config.json of DeepSeek-V3, -R1 and -V3.1). '｜' is
// U+FF5C and '▁' is U+2581.
namespace Fathom.Inference;

/// <summary>Control text within answers.</summary>
public static class AnswerMarks
{
    /// <summary>Begins reasoning.</summary>
    public const string Think = "<think>";

    /// <summary>Ends reasoning.</summary>
    public const string EndThink = "</think>";

    /// <summary>Begins the calls of an answer.</summary>
    public const string Calls = "<｜tool▁calls▁begin｜>";

    /// <summary>Ends them.</summary>
    public const string EndCalls = "<｜tool▁calls▁end｜>";

    /// <summary>Begins a call.</summary>
    public const string Call = "<｜tool▁call▁begin｜>";

    /// <summary>Ends it.</summary>
    public const string EndCall = "<｜tool▁call▁end｜>";

    /// <summary>Stands between the kind of a call and the function's name (V3), or between name and arguments (V3.1).</summary>
    public const string Separator = "<｜tool▁sep｜>";

    /// <summary>Opens the arguments in the form of V3: ```json and a line feed.</summary>
    public const string Fence = "```json\n";

    /// <summary>All that begin with an angle bracket.</summary>
    public static IReadOnlyList<string> All { get; } = [Think, EndThink, Calls, EndCalls, Call, EndCall, Separator];
}

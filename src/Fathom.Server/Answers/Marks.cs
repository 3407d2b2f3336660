// The marks that DeepSeek's models set around reasoning and calls (reference: tokenizer_config.json of DeepSeek-V3, -R1 and -V3.1). '｜' is
// U+FF5C and '▁' is U+2581.
namespace Fathom.Server.Answers;

/// <summary>Control text within answers.</summary>
internal static class Marks
{
    public const string Think = "<think>";
    public const string EndThink = "</think>";
    public const string Calls = "<｜tool▁calls▁begin｜>";
    public const string EndCalls = "<｜tool▁calls▁end｜>";
    public const string Call = "<｜tool▁call▁begin｜>";
    public const string EndCall = "<｜tool▁call▁end｜>";
    public const string Separator = "<｜tool▁sep｜>";

    /// <summary>Opens the arguments in the form of V3: ```json and a line feed.</summary>
    public const string Fence = "```json\n";

    /// <summary>All that begin with an angle bracket.</summary>
    public static IReadOnlyList<string> All { get; } = [Think, EndThink, Calls, EndCalls, Call, EndCall, Separator];
}

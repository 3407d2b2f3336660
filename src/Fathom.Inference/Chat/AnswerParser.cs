// Splits a model's text, as it streams, into reasoning, answer and calls. What may turn out to be the beginning of a mark is held back.
// Calls come in two forms: V3 and R1 write function<sep>NAME, a line feed and the arguments between ```json and ```; V3.1 writes
// NAME<sep>ARGUMENTS. Both are read, whichever template is used.
namespace Fathom.Inference;

/// <summary>Where an answer's text begins: after what the prompt has already opened for it.</summary>
public enum AnswerStart
{
    /// <summary>All of it is content; no marks are looked for.</summary>
    Plain,

    /// <summary>In the answer.</summary>
    Content,

    /// <summary>In the reasoning.</summary>
    Reasoning,

    /// <summary>In a call, before the function's name.</summary>
    CallName,

    /// <summary>In a call, after the separator, where V3.1 has the arguments.</summary>
    CallArguments,
}

/// <summary>Which parts of an answer a constraint holds to JSON. Marks within its strings are text.</summary>
[Flags]
public enum AnswerJson
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>The content, so that calls come before it or not at all.</summary>
    Content = 1,

    /// <summary>The arguments of calls.</summary>
    Arguments = 2,
}

/// <summary>Parses one answer.</summary>
/// <param name="start">What the prompt has opened.</param>
/// <param name="callName">The function whose arguments come, of <see cref="AnswerStart.CallArguments"/>.</param>
/// <param name="tools">Whether calls are looked for.</param>
/// <param name="dropped">Control text to be left out.</param>
/// <param name="json">What is known to be JSON.</param>
public sealed class AnswerParser(AnswerStart start, string? callName = null, bool tools = false, IReadOnlyList<string>? dropped = null, AnswerJson json = AnswerJson.None)
{
    private const string FenceEnd = "\n```";
    private static readonly string[] ContentMarks = [AnswerMarks.Think, AnswerMarks.Calls, AnswerMarks.Call];
    private static readonly string[] ReasoningMarks = [AnswerMarks.EndThink];
    private readonly IReadOnlyList<string> dropped = dropped ?? [];
    private State state = start switch
    {
        AnswerStart.Plain => State.Plain,
        AnswerStart.Reasoning => State.Reasoning,
        AnswerStart.CallName => State.Name,
        AnswerStart.CallArguments => State.Arguments,
        _ => State.Content,
    };

    private string held = "";
    private string? pendingName = callName;
    private bool partBegun; // something but white space was given of the current part
    private bool reasoned;
    private bool inString; // of the arguments, before what is held
    private bool escaped;

    private enum State
    {
        Plain,
        Content,
        Reasoning,
        BetweenCalls,
        Head,
        Name,
        Arguments,
    }

    /// <summary>Calls so far.</summary>
    public int Calls { get; private set; }

    /// <summary>Whether what comes next is reasoning.</summary>
    public bool InReasoning => state == State.Reasoning;

    /// <summary>Takes more text.</summary>
    /// <param name="text">Of the model.</param>
    /// <param name="give">Is given what is sure: the part, its text, and which call it belongs to.</param>
    public void Push(string text, Action<AnswerPart, string, int> give)
    {
        if (state == State.Plain)
        {
            if (text.Length > 0) give(AnswerPart.Content, text, 0);
            return;
        }

        held += text;
        while (Advance(give, last: false)) ;
    }

    /// <summary>Ends the text: what was held back is what it looks like.</summary>
    public void End(Action<AnswerPart, string, int> give)
    {
        while (Advance(give, last: true)) ;
        if (state == State.Name && held.Split('\n')[0].Trim() is { Length: > 0 } name) BeginCall(name, give);
        else if (state == State.Arguments && pendingName is { } pending) BeginCall(pending, give);
        held = "";
    }

    /// <summary>Goes on to the next mark.</summary>
    /// <returns>Whether there was one.</returns>
    private bool Advance(Action<AnswerPart, string, int> give, bool last)
    {
        switch (state)
        {
            case State.Content:
                return Text(AnswerPart.Content, give, last, ContentMarks);
            case State.Reasoning:
                return Text(AnswerPart.Reasoning, give, last, ReasoningMarks);
            case State.BetweenCalls:
                return Between();
            case State.Head:
                return Head(give);
            case State.Name:
                return Name(give);
            default:
                return Arguments(give, last);
        }
    }

    private bool Text(AnswerPart part, Action<AnswerPart, string, int> give, bool last, string[] marks)
    {
        int at = Find(marks, last, out string? mark, out int hold);
        string sure = mark is null ? held[..^hold] : held[..at];
        held = mark is null ? held[^hold..] : held[(at + mark.Length)..];
        if (mark == AnswerMarks.EndThink) sure = sure.TrimEnd();
        GiveText(part, sure, give);
        switch (mark)
        {
            case null:
                return false;
            case AnswerMarks.Think:
                Enter(State.Reasoning);
                break;
            case AnswerMarks.EndThink:
                reasoned = true;
                Enter(State.Content);
                break;
            case AnswerMarks.Calls:
                Enter(State.BetweenCalls);
                break;
            case AnswerMarks.Call:
                Enter(State.Head);
                break;
        }

        return true; // a control token that is left out changes nothing
    }

    // White space at the beginning of reasoning, and between it and the answer, is layout.
    private void GiveText(AnswerPart part, string text, Action<AnswerPart, string, int> give)
    {
        if (!partBegun && (part == AnswerPart.Reasoning || reasoned)) text = text.TrimStart();
        if (text.Length == 0) return;
        if (!partBegun) partBegun = part == AnswerPart.Reasoning || !string.IsNullOrWhiteSpace(text);
        give(part, text, 0);
    }

    private bool Between()
    {
        int call = held.IndexOf(AnswerMarks.Call, StringComparison.Ordinal);
        if (call < 0) return false;
        held = held[(call + AnswerMarks.Call.Length)..];
        Enter(State.Head);
        return true;
    }

    private bool Head(Action<AnswerPart, string, int> give)
    {
        int separator = held.IndexOf(AnswerMarks.Separator, StringComparison.Ordinal);
        if (separator < 0) return false;
        string head = held[..separator].Trim();
        held = held[(separator + AnswerMarks.Separator.Length)..];
        if (head is "function" or "")
        {
            Enter(State.Name);
        }
        else
        {
            BeginCall(head, give);
            Enter(State.Arguments);
        }

        return true;
    }

    private bool Name(Action<AnswerPart, string, int> give)
    {
        int separator = held.IndexOf(AnswerMarks.Separator, StringComparison.Ordinal);
        int line = held.IndexOf('\n', StringComparison.Ordinal), end = held.IndexOf(AnswerMarks.EndCall, StringComparison.Ordinal);
        if (separator >= 0 && (line < 0 || separator < line) && (end < 0 || separator < end)) return Head(give); // the prompt opened a call of V3.1
        if (line < 0 && end < 0) return false;
        bool cut = line < 0 || end >= 0 && end < line; // the model left the arguments away
        string name = held[..(cut ? end : line)].Trim();
        if (!cut)
        {
            string rest = held[(line + 1)..];
            if (rest.Length < AnswerMarks.Fence.Length && AnswerMarks.Fence.StartsWith(rest, StringComparison.Ordinal)) return false;
            held = rest.StartsWith(AnswerMarks.Fence, StringComparison.Ordinal) ? rest[AnswerMarks.Fence.Length..] : rest;
        }
        else
        {
            held = held[end..];
        }

        BeginCall(name, give);
        Enter(State.Arguments);
        return true;
    }

    private bool Arguments(Action<AnswerPart, string, int> give, bool last)
    {
        if (pendingName is not null) BeginCall(pendingName, give);
        int end = EndOfCall();
        if (end < 0)
        {
            int hold = last ? 0 : Math.Max(Overlap(held, AnswerMarks.EndCall), Overlap(held, FenceEnd + AnswerMarks.EndCall));
            string sure = last ? WithoutFence(held) : held[..^hold];
            held = held[^hold..];
            foreach (char c in sure) FollowString(c, ref inString, ref escaped);
            if (sure.Length > 0) give(AnswerPart.CallArguments, sure, Calls - 1);
            return false;
        }

        string arguments = WithoutFence(held[..end]);
        held = held[(end + AnswerMarks.EndCall.Length)..];
        if (arguments.Length > 0) give(AnswerPart.CallArguments, arguments, Calls - 1);
        Enter(State.BetweenCalls);
        return true;
    }

    /// <summary>Where the call ends in what is held, or -1.</summary>
    private int EndOfCall()
    {
        if (!json.HasFlag(AnswerJson.Arguments)) return held.IndexOf(AnswerMarks.EndCall, StringComparison.Ordinal);
        (bool inside, bool escape) = (inString, escaped);
        for (int at = 0; at < held.Length; at++)
        {
            if (!inside && held.AsSpan(at).StartsWith(AnswerMarks.EndCall, StringComparison.Ordinal)) return at;
            FollowString(held[at], ref inside, ref escape);
        }

        return -1;
    }

    private static void FollowString(char c, ref bool inside, ref bool escape)
    {
        if (c == '"' && !escape) inside = !inside;
        escape = inside && c == '\\' && !escape;
    }

    private void BeginCall(string name, Action<AnswerPart, string, int> give)
    {
        pendingName = null;
        give(AnswerPart.CallStart, name, Calls++);
    }

    private static string WithoutFence(string text) => text.EndsWith(FenceEnd, StringComparison.Ordinal) ? text[..^FenceEnd.Length] : text;

    private void Enter(State next)
    {
        state = next;
        partBegun = inString = escaped = false;
    }

    /// <summary>The first mark in the text, and how much of its end may become one.</summary>
    private int Find(string[] marks, bool last, out string? mark, out int hold)
    {
        (mark, hold) = (null, 0);
        for (int at = held.IndexOf('<', StringComparison.Ordinal); at >= 0; at = held.IndexOf('<', at + 1))
        {
            ReadOnlySpan<char> rest = held.AsSpan(at);
            foreach (string candidate in Candidates(marks))
            {
                // Reasoning comes first or not at all; later the mark is text about it. So are all marks within a document.
                bool first = candidate == AnswerMarks.Think || state == State.Content && json.HasFlag(AnswerJson.Content);
                if (first && (partBegun || !held.AsSpan(0, at).IsWhiteSpace())) continue;
                if (rest.StartsWith(candidate, StringComparison.Ordinal))
                {
                    mark = candidate;
                    return at;
                }

                if (!last && candidate.AsSpan().StartsWith(rest, StringComparison.Ordinal)) hold = held.Length - at;
            }

            if (hold > 0) break;
        }

        // White space at the end of reasoning belongs to the mark that may follow.
        if (!last && state == State.Reasoning) hold = held.Length - held.AsSpan(0, held.Length - hold).TrimEnd().Length;
        return -1;
    }

    private IEnumerable<string> Candidates(string[] marks)
    {
        foreach (string mark in marks)
        {
            if (tools || mark is AnswerMarks.Think or AnswerMarks.EndThink) yield return mark;
        }

        foreach (string token in dropped) yield return token;
    }

    /// <summary>Length of the longest end of a text with which a mark begins.</summary>
    private static int Overlap(string text, string mark)
    {
        for (int length = Math.Min(mark.Length - 1, text.Length); length > 0; length--)
        {
            if (text.AsSpan(text.Length - length).SequenceEqual(mark.AsSpan(0, length))) return length;
        }

        return 0;
    }
}

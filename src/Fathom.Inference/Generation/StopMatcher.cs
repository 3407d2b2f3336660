// Stop sequences in streamed text: what might be the beginning of one is held back until it is sure.

namespace Fathom.Inference;

/// <summary>Cuts a stream of text at the first of some sequences.</summary>
public sealed class StopMatcher(IReadOnlyList<string> sequences)
{
    private string held = "";

    /// <summary>The sequence that was met, or null.</summary>
    public string? Met { get; private set; }

    /// <summary>Takes more text and gives what can be shown now.</summary>
    public string Push(string text)
    {
        if (Met is not null) return "";
        if (sequences.Count == 0) return text;
        string all = held + text;
        int end = -1;
        foreach (string sequence in sequences)
        {
            int at = all.IndexOf(sequence, StringComparison.Ordinal);
            if (at < 0 || end >= 0 && at >= end) continue;
            end = at;
            Met = sequence;
        }

        if (end >= 0)
        {
            held = "";
            return all[..end];
        }

        int keep = 0;
        foreach (string sequence in sequences)
        {
            for (int length = Math.Min(sequence.Length - 1, all.Length); length > keep; length--)
            {
                if (all.EndsWith(sequence[..length], StringComparison.Ordinal)) keep = length;
            }
        }

        held = all[^keep..];
        return all[..^keep];
    }

    /// <summary>Gives what was held back, at the end of the stream.</summary>
    public string Flush()
    {
        string rest = held;
        held = "";
        return rest;
    }
}

// What the user types. A paste of several lines arrives at once and is one message; a backslash at the end of a line continues it.
namespace Fathom.Cli.Chat;

/// <summary>Reads messages from the terminal or from redirected input.</summary>
internal static class LineReader
{
    private const int PasteMilliseconds = 20;

    /// <summary>The next message; null at the end of the input.</summary>
    public static string? Read(string prompt)
    {
        bool terminal = !Console.IsInputRedirected;
        if (terminal) Console.Write(prompt);
        string? line = Console.ReadLine();
        if (line is null) return null;
        var lines = new List<string> { line };
        while (true)
        {
            bool continued = lines[^1].EndsWith('\\');
            if (continued) lines[^1] = lines[^1][..^1];
            else if (!terminal || !MoreIsWaiting()) break;
            if (continued && terminal) Console.Write(new string(' ', prompt.Length));
            if (Console.ReadLine() is not { } next) break;
            lines.Add(next);
        }

        return string.Join('\n', lines);
    }

    private static bool MoreIsWaiting()
    {
        if (Console.KeyAvailable) return true;
        Thread.Sleep(PasteMilliseconds);
        return Console.KeyAvailable;
    }
}

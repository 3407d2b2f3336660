namespace Fathom.Numerics;

/// <summary>
/// A problem in what the user gave us: a file, a configuration, an argument. The message is one line that says what was
/// being done, with what, what was expected and what to do; commands print it and exit with code 2. Names in it may come from
/// a damaged file, so line breaks and other control characters become spaces.
/// </summary>
public class FathomException(string message, Exception? inner = null) : Exception(OneLine(message), inner)
{
    private static string OneLine(string message) =>
        message.Any(char.IsControl) ? string.Concat(message.Select(c => char.IsControl(c) ? ' ' : c)) : message;
}

namespace Fathom.Numerics;

/// <summary>
/// A problem in what the user gave us: a file, a configuration, an argument. The message is one line that says what was
/// being done, with what, what was expected and what to do; commands print it and exit with code 2.
/// </summary>
public class FathomException(string message, Exception? inner = null) : Exception(message, inner);

namespace Fathom.Text;

/// <summary>
/// A file or text given by the user cannot be used as it is: missing, damaged, or of another format than expected.
/// The message is one line that names the file, what was found there, and what to do.
/// </summary>
/// <param name="message">One line for the user.</param>
/// <param name="inner">The lower-level failure, if one was the cause.</param>
public sealed class TextFormatException(string message, Exception? inner = null) : Exception(message, inner);

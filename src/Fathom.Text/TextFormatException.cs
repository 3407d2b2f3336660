// One exception for every input file of this library that is not what it should be, so that a caller can tell
// "your file is broken" from "the program is broken" without reading messages.
namespace Fathom.Text;

/// <summary>
/// An input file (tokenizer.json, a chat template, a corpus) is broken or asks for something that is not supported.
/// </summary>
/// <param name="message">One line: what was being read, which file and field, what was expected, what was found.</param>
/// <param name="inner">The failure underneath, if there is one.</param>
public sealed class TextFormatException(string message, Exception? inner = null) : Exception(message, inner);

namespace Fathom.Text;

/// <summary>How the files of a corpus are read.</summary>
public enum CorpusFormat
{
    /// <summary>By name: .jsonl, .ndjson, .json-lines and .jl (each also with .gz) are JSON lines, anything else is text.</summary>
    Auto,

    /// <summary>Text, whatever the name.</summary>
    Text,

    /// <summary>JSON lines, whatever the name.</summary>
    JsonLines,
}

/// <summary>Choices of <see cref="Corpus.Read"/>.</summary>
public sealed record CorpusOptions
{
    /// <summary>How files are read; by name when not said.</summary>
    public CorpusFormat Format { get; init; } = CorpusFormat.Auto;

    /// <summary>The field of a JSON line that holds the text.</summary>
    public string TextField { get; init; } = "text";

    /// <summary>
    /// Text that separates the documents of a text file, e.g. <c>&lt;|endoftext|&gt;</c>; it belongs to none of them.
    /// Without one, <see cref="MaximumPieceBytes"/> decides.
    /// </summary>
    public string? Separator { get; init; }

    /// <summary>
    /// A text file with more UTF-8 bytes than this becomes several documents, each the longest piece of at most this
    /// many bytes that ends after a blank line (else after a line, else after a space, else between two characters).
    /// The pieces in order are the file, but for pieces of white space alone, which are left out. Held-out data are whole documents, so even a corpus of one file can be split.
    /// Does not apply to JSON lines or where a <see cref="Separator"/> is given.
    /// </summary>
    public int MaximumPieceBytes { get; init; } = 16 * 1024;
}

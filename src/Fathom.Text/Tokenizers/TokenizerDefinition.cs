// What a tokenizer consists of, between the three places that need all of it: the reader, the trainer and the writer.
namespace Fathom.Text;

/// <summary>The complete, validated content of a byte-level byte-pair tokenizer.</summary>
internal sealed record TokenizerDefinition
{
    /// <summary>The byte-pair model's tokens in the byte-level alphabet; every single byte is among them.</summary>
    public required IReadOnlyDictionary<string, int> Vocabulary { get; init; }

    /// <summary>In order of rank.</summary>
    public required IReadOnlyList<Merge> Merges { get; init; }

    /// <summary>In the order of the file.</summary>
    public required IReadOnlyList<AddedToken> AddedTokens { get; init; }

    /// <summary>Cuts text into words.</summary>
    public required PreTokenizer PreTokenizer { get; init; }

    /// <summary>Whether a word that is a token stays whole, whatever the merges would make of it.</summary>
    public bool IgnoreMerges { get; init; }

    /// <summary>Begin of sequence.</summary>
    public int? BosId { get; init; }

    /// <summary>End of sequence.</summary>
    public int? EosId { get; init; }

    /// <summary>Padding.</summary>
    public int? PadId { get; init; }

    /// <summary>Whether published models expect <see cref="BosId"/> before a text.</summary>
    public bool AddsBos { get; init; }

    /// <summary>The Jinja chat template, if there is one.</summary>
    public string? ChatTemplate { get; init; }

    /// <summary>Longest sequence in tokens, if the configuration says so.</summary>
    public long? ModelMaxLength { get; init; }
}

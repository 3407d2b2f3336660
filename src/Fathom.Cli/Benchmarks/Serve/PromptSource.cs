// Prompts that look like those of people and are still all different: slices of real text from random places, so that no two begin alike
// and a server's prefix cache finds nothing that was not meant to be found.
using System.Text;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Cli.Benchmarks.Serve;

/// <summary>Cuts prompts from a text.</summary>
internal sealed class PromptSource
{
    private const string Separator = "\n\n";
    private const int MostCharacters = 8 << 20, PieceCharacters = 500, MostPieces = 16;
    private readonly string text;
    private readonly Random random;

    private PromptSource(string text, string name, int seed) => (this.text, Name, random) = (text, name, new Random(seed));

    /// <summary>What the text is.</summary>
    public string Name { get; }

    /// <summary>Characters that a token has on average; measured once a server has counted a prompt.</summary>
    public double CharactersPerToken { get; set; } = 4;

    /// <summary>Reads the text.</summary>
    /// <param name="path">A corpus of any kind that training takes, or null for the API documentation that comes with the SDK.</param>
    /// <param name="seed">Decides which slices are cut.</param>
    /// <exception cref="FathomException">There is no text, or too little.</exception>
    public static PromptSource Open(string? path, int seed)
    {
        IEnumerable<Document> documents = path is not null
            ? Corpus.Read(path)
            : (ReferencePackCorpus.Find() ?? throw new FathomException("the SDK's API documentation, of which prompts are made, was not found; give a text with --data")).Read();
        var text = new StringBuilder();
        foreach (Document document in documents)
        {
            text.Append(document.Text).Append("\n\n");
            if (text.Length >= MostCharacters) break;
        }

        string name = path ?? "the SDK's API documentation";
        return text.Length >= 1000 ? new PromptSource(text.ToString(), name, seed) : throw new FathomException($"{name} has {text.Length} characters, which is too little to make prompts of; give a longer text with --data");
    }

    /// <summary>
    /// Text of about so many tokens: a slice from where a word begins, and for a long one several, since a page of tables has twice the
    /// tokens of a page of prose.
    /// </summary>
    /// <exception cref="FathomException">The text is shorter than that.</exception>
    public string Next(int tokens)
    {
        int characters = (int)Math.Max(1, tokens * CharactersPerToken), pieces = Math.Clamp(characters / PieceCharacters, 1, MostPieces);
        return pieces == 1 ? Slice(characters) : string.Join(Separator, Enumerable.Range(0, pieces).Select(_ => Slice((characters / pieces) - Separator.Length)));
    }

    /// <summary>A slice of so many characters.</summary>
    public string Slice(int characters)
    {
        const int Slack = 256; // to look for the beginning of a word
        if (characters + Slack > text.Length) throw new FathomException($"{Name} has {text.Length} characters, fewer than a prompt of {characters}; give a longer text with --data, or ask for shorter prompts");
        int at = random.Next(text.Length - characters - Slack + 1);
        int space = text.AsSpan(at, Slack).IndexOfAny(' ', '\n');
        at += space + 1;
        // Half of a surrogate pair at either end would not be text.
        if (char.IsLowSurrogate(text[at])) at++;
        string slice = text.Substring(at, characters);
        return char.IsHighSurrogate(slice[^1]) ? slice[..^1] : slice;
    }
}

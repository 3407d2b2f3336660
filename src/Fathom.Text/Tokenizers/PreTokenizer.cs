// Pre-tokenization: cutting text into the words inside which byte pairs may be merged. A tokenizer.json states it as a
// sequence of regular expressions; each one cuts the pieces of the one before, and matches and the gaps between them
// both stay ("Isolated"). The published sequences of DeepSeek-V3 and GPT-2 are recognised by their exact text and run as
// hand-written matchers; any other runs through RegexPreTokenizer, which is also the specification of the two.
namespace Fathom.Text;

/// <summary>Cuts text into words. Instances are immutable and safe for use by many threads at once.</summary>
public abstract class PreTokenizer
{
    /// <summary>DeepSeek-V3's three patterns: up to three digits; a run of Han and kana; the alternation of everything else.</summary>
    internal static readonly string[] DeepSeekV3Patterns =
    [
        @"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" +
        "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    ];

    /// <summary>GPT-2's pattern, which <c>ByteLevel</c> with <c>use_regex</c> stands for.</summary>
    internal const string Gpt2Pattern = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    private protected PreTokenizer(IReadOnlyList<string> patterns) => Patterns = patterns;

    /// <summary>DeepSeek-V3's pre-tokenizer (tokenizer.json of DeepSeek-V3 and R1).</summary>
    public static PreTokenizer DeepSeekV3 { get; } = new DeepSeekPreTokenizer();

    /// <summary>GPT-2's pre-tokenizer.</summary>
    public static PreTokenizer Gpt2 { get; } = new Gpt2PreTokenizer();

    /// <summary>The regular expressions in the order in which they cut.</summary>
    public IReadOnlyList<string> Patterns { get; }

    /// <summary>The pre-tokenizer for a sequence of patterns: hand-written where they are published ones, regular expressions otherwise.</summary>
    /// <exception cref="TextFormatException">A pattern is not a regular expression that .NET understands, or cannot be matched by code point.</exception>
    public static PreTokenizer FromPatterns(IReadOnlyList<string> patterns)
    {
        if (patterns.SequenceEqual(DeepSeekV3Patterns)) return DeepSeekV3;
        return patterns is [Gpt2Pattern] ? Gpt2 : Reference(patterns);
    }

    /// <summary>The slow, obvious pre-tokenizer for a sequence of patterns: .NET regular expressions, matched by code point.</summary>
    /// <exception cref="TextFormatException">A pattern is not a regular expression that .NET understands, or cannot be matched by code point.</exception>
    public static PreTokenizer Reference(IReadOnlyList<string> patterns) => new RegexPreTokenizer(patterns);

    /// <summary>
    /// Appends the end of every word of <paramref name="text"/> to <paramref name="ends"/>, in order: the first word is
    /// <c>text[0..ends[0]]</c>, the next <c>text[ends[0]..ends[1]]</c>, and the last one ends where the text does. No
    /// word is empty and no surrogate pair is cut.
    /// </summary>
    /// <param name="text">UTF-16 text of any content; a lone surrogate counts as U+FFFD.</param>
    /// <param name="ends">Receives offsets in UTF-16 units from the start of <paramref name="text"/>.</param>
    public abstract void Split(ReadOnlySpan<char> text, List<int> ends);
}

// The hand-written matchers against their specification, the .NET regular expressions of the same patterns; and the
// regular expressions themselves on what UTF-16 gets wrong.
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Tokenizers;

public sealed class PreTokenizerTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("DeepSeekV3")]
    [InlineData("Gpt2")]
    public void Hand_written_matchers_cut_random_text_where_the_patterns_do(string name)
    {
        PreTokenizer fast = name == "Gpt2" ? PreTokenizer.Gpt2 : PreTokenizer.DeepSeekV3;
        PreTokenizer slow = PreTokenizer.Reference(fast.Patterns);
        Assert.NotSame(fast.GetType(), slow.GetType());
        var random = new Random(20250101);
        const int Texts = 20_000;
        long words = 0;
        for (int i = 0; i < Texts; i++)
        {
            string text = TokenizerFixtures.RandomText(random, random.Next(1, 30));
            string[] expected = Words(slow, text);
            string[] found = Words(fast, text);
            words += found.Length;
            if (!expected.SequenceEqual(found)) Assert.Fail($"text {i}: \"{TokenizerFixtures.Escape(text)}\"\nexpected {Show(expected)}\nfound    {Show(found)}");
        }

        output.WriteLine($"{name}: {Texts} random texts, {words} words, every cut equal");
    }

    [Theory]
    [InlineData("DeepSeekV3")]
    [InlineData("Gpt2")]
    public void Every_UTF16_unit_is_cut_alike(string name)
    {
        PreTokenizer fast = name == "Gpt2" ? PreTokenizer.Gpt2 : PreTokenizer.DeepSeekV3;
        PreTokenizer slow = PreTokenizer.Reference(fast.Patterns);
        for (int unit = 0; unit <= char.MaxValue; unit++)
        {
            string text = $" {(char)unit}a{(char)unit}.{(char)unit}{(char)unit}\n";
            if (!Words(slow, text).SequenceEqual(Words(fast, text)))
                Assert.Fail($"U+{unit:X4}: expected {Show(Words(slow, text))}, found {Show(Words(fast, text))}");
        }

        output.WriteLine($"{name}: all 65,536 UTF-16 units cut alike");
    }

    [Fact]
    public void Segments_hide_what_follows_from_look_ahead()
    {
        Assert.Equal(["  ", "123", "4"], Words(PreTokenizer.DeepSeekV3, "  1234"));
        Assert.Equal([" ", " word"], Words(PreTokenizer.DeepSeekV3, "  word"));
        Assert.Equal(["\t\t", "你好"], Words(PreTokenizer.DeepSeekV3, "\t\t你好"));
        Assert.Equal(["ア", "・", "イ"], Words(PreTokenizer.DeepSeekV3, "ア・イ"));
        Assert.Equal(["x", "();\r\n\n", " y"], Words(PreTokenizer.DeepSeekV3, "x();\r\n\n y"));
        Assert.Equal(["\u0000\u0001", "\u0002a"], Words(PreTokenizer.DeepSeekV3, "\u0000\u0001\u0002a"));
    }

    [Fact]
    public void Categories_apply_to_code_points_not_to_halves_of_surrogate_pairs()
    {
        PreTokenizer letters = PreTokenizer.Reference([@"\p{L}+"]);
        Assert.Equal(["1", "a\U00010400\U00020000", "😀", "b"], Words(letters, "1a\U00010400\U00020000😀b"));
        PreTokenizer symbols = PreTokenizer.Reference([@"\p{So}"]);
        Assert.Equal(["😀", "😀", "a", "\uDC00", "\uD800"], Words(symbols, "😀😀a\uDC00\uD800"));
    }

    [Fact]
    public void Ranges_beyond_the_basic_plane_work_in_patterns()
    {
        PreTokenizer split = PreTokenizer.Reference(["[A-Za-zꙀ-ꙮ\U00010400-\U0001044F\U0001E900-\U0001E943]+"]);
        Assert.Equal(["\U00010450", "a\U00010400\U0001044Fb\U0001E943", "\uE000😀"], Words(split, "\U00010450a\U00010400\U0001044Fb\U0001E943\uE000😀"));
        Assert.Throws<TextFormatException>(() => PreTokenizer.Reference(["[a-\U00010400]"]));
        Assert.Throws<TextFormatException>(() => PreTokenizer.Reference(["[\\p{L}\U00010400]"]));
    }

    [Fact]
    public void DeepSeek_V2_style_patterns_cut_by_code_point()
    {
        PreTokenizer split = PreTokenizer.FromPatterns(["[\r\n]", @"\s?\p{L}+", @"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", @"\p{N}"]);
        Assert.Equal(["Hi", " \U00010400b", "!?", "\n", "1", "2", "世界", " ", "\U0001D7D8", "😀"], Words(split, "Hi \U00010400b!?\n12世界 \U0001D7D8😀"));
        Assert.Equal(["a", " ", "\nb"], Words(PreTokenizer.FromPatterns([@"\s$"]), "a \nb")); // $ ends a line
    }

    [Theory]
    [InlineData("(", "pre_tokenizer pattern")]
    [InlineData(@"\p{Han}+", "pre_tokenizer pattern")]
    [InlineData("[a-z&&[aeiou]]", "set operations")]
    [InlineData("[¡-\uFFFF]+", "cannot be told apart")]
    public void Patterns_that_cannot_be_matched_are_refused(string pattern, string message)
    {
        TextFormatException refused = Assert.Throws<TextFormatException>(() => PreTokenizer.FromPatterns([pattern]));
        output.WriteLine(refused.Message);
        Assert.Contains(message, refused.Message, StringComparison.Ordinal);
        Assert.Contains(pattern, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_corpus_is_cut_alike()
    {
        string text = File.ReadAllText(Golden.Shared("corpus", "wikitext-2", "valid.txt"))[..200_000];
        foreach (PreTokenizer fast in new[] { PreTokenizer.DeepSeekV3, PreTokenizer.Gpt2 })
        {
            List<int> expected = [], found = [];
            PreTokenizer.Reference(fast.Patterns).Split(text, expected);
            fast.Split(text, found);
            Assert.Equal(expected, found);
            output.WriteLine($"{found.Count} words equal");
        }
    }

    private static string[] Words(PreTokenizer preTokenizer, string text)
    {
        List<int> ends = [];
        preTokenizer.Split(text, ends);
        int start = 0;
        List<string> words = [];
        foreach (int end in ends)
        {
            words.Add(text[start..end]);
            start = end;
        }

        Assert.Equal(text.Length, start);
        return [.. words];
    }

    private static string Show(string[] words) => string.Join(' ', words.Select(word => $"[{TokenizerFixtures.Escape(word)}]"));
}

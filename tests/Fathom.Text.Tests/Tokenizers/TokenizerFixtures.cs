// Tokenizers and texts that several test classes share: DeepSeek's real file where the reference data is here, and a small
// tokenizer trained on the spot, which every clone has.
using System.Text;
using Fathom.Testing;

namespace Fathom.Text.Tests.Tokenizers;

internal static class TokenizerFixtures
{
    private static readonly Lazy<Tokenizer> LazyDeepSeek = new(() => Tokenizer.Load(Golden.Shared("tokenizer")));

    private static readonly Lazy<Tokenizer> LazySmall = new(() => BpeTrainer.Train(
        [string.Join('\n', Enumerable.Range(0, 40).Select(i => $"The {i}th small corpus, the smaller the better: été, 你好世界, {i * 37}!\r\n"))],
        new BpeTrainerOptions { VocabularySize = 320 }));

    // Everything the patterns tell apart, and what lies just beside it.
    private static readonly string[] Interesting =
    [
        " ", "  ", "\t", "\n", "\r", "\r\n", "\v", "\f", "\u0085", "\u00A0", "\u1680", "\u2003", "\u2028", "\u3000", "\u180E", "\u200B", "\u200D", "\uFEFF",
        "'", "'s", "'t", "'ll", "'LL", "'re", "'ve", "'m", "'d", "\"", "(", ")", "_", "-", "$", "+", "<", "|", "~", "^", "`", "!", "?", "…", "—", "。", "、", "€", "±",
        "a", "b", "Z", "é", "ß", "Ж", "ش", "ก", "ा", "\u0301", "\u20DD", "ǅ", "ʰ", "한", "々", "〆",
        "0", "7", "42", "1234", "½", "Ⅷ", "٣", "²", "\U0001D7D8", "\U00010107",
        "一", "龥", "龦", "䷿", "ぁ", "ん", "ア", "ー", "・", "゠", "\u3040", "\u3099", "゛", "ヿ", "㄀",
        "😀", "👩‍👩‍👧", "🇩🇪", "\U00010400", "\U0001D400", "\U00020000", "\U000E0100", "\U00011000", "\U0001F1E6", "\U000F0000", "\U000E0001", "\U0003FFFD",
        "\0", "\u0007", "\uE000", "\uF8FF", "\uFFFD", "\uFFFF", "\u0378", "\uD800", "\uDC00", "\uDBFF",
    ];

    public static Tokenizer DeepSeek
    {
        get
        {
            Golden.Shared("tokenizer", "tokenizer.json"); // skips the test where it is absent
            return LazyDeepSeek.Value;
        }
    }

    public static Tokenizer Small => LazySmall.Value;

    /// <summary>Random text of mostly interesting pieces, now and then any UTF-16 unit or any code point.</summary>
    public static string RandomText(Random random, int pieces)
    {
        var text = new StringBuilder();
        for (int i = 0; i < pieces; i++)
        {
            switch (random.Next(12))
            {
                case 0: text.Append((char)random.Next(0x10000)); break;
                case 1: text.Append(Rune.IsValid(random.Next(0x110000)) ? new Rune(random.Next(0xD800)).ToString() : "\U0001F600"); break;
                case 2: text.Append(new Rune(random.Next(0x10000, 0x110000)).ToString()); break;
                case 3: text.Append((char)random.Next(' ', 0x7F)); break;
                default: text.Append(Interesting[random.Next(Interesting.Length)]); break;
            }
        }

        return text.ToString();
    }

    /// <summary>What UTF-8 makes of a text: lone surrogates become U+FFFD.</summary>
    public static string WellFormed(string text) => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text));

    /// <summary>Text for a message.</summary>
    public static string Escape(string text) =>
        string.Concat(text.Select(c => c is >= ' ' and < '\u007F' ? c.ToString() : $"\\u{(int)c:X4}"));
}

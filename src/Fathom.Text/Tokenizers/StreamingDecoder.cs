// Text from ids as they are sampled. A token may end inside a character (most emoji take two to four tokens), so the
// bytes of an unfinished character wait for the next token.
using System.Text;

namespace Fathom.Text;

/// <summary>Turns ids into text one at a time; only whole characters come out. Not safe for use by several threads at once.</summary>
/// <param name="tokenizer">The vocabulary.</param>
/// <param name="skipSpecial">Whether tokens for which <see cref="Tokenizer.IsSpecial"/> holds are left out.</param>
public sealed class StreamingDecoder(Tokenizer tokenizer, bool skipSpecial = false)
{
    private readonly Decoder _utf8 = Encoding.UTF8.GetDecoder();

    /// <summary>The characters that <paramref name="id"/> completes; empty if it ends inside a character.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is not in the vocabulary; the decoder is unchanged.</exception>
    public string Push(int id) => skipSpecial && tokenizer.IsSpecial(id) ? "" : Decode(tokenizer.TokenBytes(id), flush: false);

    /// <summary>Ends the text: U+FFFD if bytes of an unfinished character are left, otherwise nothing. The decoder is then as new.</summary>
    public string Flush() => Decode([], flush: true);

    private string Decode(ReadOnlySpan<byte> bytes, bool flush)
    {
        var characters = new char[_utf8.GetCharCount(bytes, flush)];
        int count = _utf8.GetChars(bytes, characters, flush); // takes in the bytes even where no character comes out
        return new string(characters, 0, count);
    }
}

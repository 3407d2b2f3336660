// The "byte-level" alphabet of GPT-2: a tokenizer file is JSON and cannot hold raw bytes, so every byte is written as
// one printable character. Bytes that are printable in Latin-1 stand for themselves; the other 68 (controls, space,
// DEL, 0x80-0xA0, soft hyphen) take U+0100, U+0101, ... in byte order. That makes a space 'Ġ' and a line feed 'Ċ'.
using System.Text;

namespace Fathom.Text;

/// <summary>The one-to-one map between bytes and the characters that stand for them in a byte-level vocabulary.</summary>
internal static class ByteLevelAlphabet
{
    private const int FirstStandIn = 0x100;

    private static readonly char[] CharacterOfByte = new char[256];
    private static readonly short[] ByteOfCharacter = new short[FirstStandIn + 68];

    static ByteLevelAlphabet()
    {
        Array.Fill(ByteOfCharacter, (short)-1);
        int standIn = FirstStandIn;
        for (int value = 0; value < 256; value++)
        {
            bool printable = value is >= '!' and <= '~' or >= 0xA1 and <= 0xAC or >= 0xAE;
            char character = (char)(printable ? value : standIn++);
            CharacterOfByte[value] = character;
            ByteOfCharacter[character] = (short)value;
        }
    }

    /// <summary>The 256 bytes in the order of their characters, which is the id order of published vocabularies.</summary>
    public static byte[] BytesInVocabularyOrder()
    {
        byte[] bytes = [.. Enumerable.Range(0, 256).Select(value => (byte)value)];
        Array.Sort([.. CharacterOfByte], bytes);
        return bytes;
    }

    /// <summary>The character that stands for <paramref name="value"/>.</summary>
    public static char ToCharacter(byte value) => CharacterOfByte[value];

    /// <summary>The text that stands for <paramref name="bytes"/>, one character a byte.</summary>
    public static string ToText(ReadOnlySpan<byte> bytes) => string.Create(bytes.Length, bytes, static (text, source) =>
    {
        for (int i = 0; i < text.Length; i++) text[i] = CharacterOfByte[source[i]];
    });

    /// <summary>
    /// The bytes that a vocabulary entry stands for. An entry with a character outside the alphabet is literal text
    /// (a special token such as <c>&lt;｜User｜&gt;</c>) and gives its UTF-8 bytes, as the published decoder does.
    /// </summary>
    public static byte[] ToBytes(string token)
    {
        byte[] bytes = new byte[token.Length];
        for (int i = 0; i < token.Length; i++)
        {
            int value = token[i] < ByteOfCharacter.Length ? ByteOfCharacter[token[i]] : -1;
            if (value < 0) return Encoding.UTF8.GetBytes(token);
            bytes[i] = (byte)value;
        }

        return bytes;
    }
}

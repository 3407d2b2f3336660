// Layout of a token file, little-endian throughout:
//   header   256 bytes, below
//   tokens   TokenCount × (2 or 4) bytes, then zeros up to a multiple of 8
//   starts   (DocumentCount + 1) × int64: first token of each document, then TokenCount
//   bytes    (DocumentCount + 1) × int64: UTF-8 bytes of all documents before each, then Utf8Bytes
// The header is written last and carries a checksum of itself, so an unfinished or altered file is not taken for a
// whole one; the SHA-256 of everything behind the header is checked on request, for it costs a read of the file.
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Fathom.Text;

/// <summary>The fields of a token file's header, and the sizes that follow from them.</summary>
internal readonly record struct TokenFileHeader
{
    public const int Size = 256;
    public const int Version = 1;
    private const int ChecksumOffset = Size - sizeof(ulong);
    private const int KeyOffset = 64;
    private const int HashOffset = 96;

    public required int TokenWidth { get; init; }

    public required long DocumentCount { get; init; }

    public required long TokenCount { get; init; }

    public required long Utf8Bytes { get; init; }

    public required int VocabularySize { get; init; }

    public required int EosId { get; init; }

    /// <summary>-1 where documents do not begin with a token of their own.</summary>
    public required int BosId { get; init; }

    /// <summary>SHA-256 over what the file was made of and how, in hex.</summary>
    public required string Key { get; init; }

    /// <summary>SHA-256 over the bytes behind the header, in hex.</summary>
    public required string ContentHash { get; init; }

    private static ReadOnlySpan<byte> Magic => "FATHOMTK"u8;

    public long StartsOffset => Size + TokenBytes + Padding;

    public long BytesOffset => StartsOffset + (DocumentCount + 1) * sizeof(long);

    public long FileLength => BytesOffset + (DocumentCount + 1) * sizeof(long);

    public int Padding => (int)(-TokenBytes & 7);

    private long TokenBytes => TokenCount * TokenWidth;

    /// <summary>Two bytes a token where every id fits.</summary>
    public static int WidthFor(int vocabularySize) => vocabularySize <= 1 << 16 ? sizeof(ushort) : sizeof(uint);

    public void Write(Span<byte> target)
    {
        target.Clear();
        Magic.CopyTo(target);
        BinaryPrimitives.WriteInt32LittleEndian(target.Slice(8), Version);
        BinaryPrimitives.WriteInt32LittleEndian(target.Slice(12), TokenWidth);
        BinaryPrimitives.WriteInt64LittleEndian(target.Slice(16), DocumentCount);
        BinaryPrimitives.WriteInt64LittleEndian(target.Slice(24), TokenCount);
        BinaryPrimitives.WriteInt64LittleEndian(target.Slice(32), Utf8Bytes);
        BinaryPrimitives.WriteInt32LittleEndian(target.Slice(40), VocabularySize);
        BinaryPrimitives.WriteInt32LittleEndian(target.Slice(44), EosId);
        BinaryPrimitives.WriteInt32LittleEndian(target.Slice(48), BosId);
        Convert.FromHexString(Key).CopyTo(target.Slice(KeyOffset));
        Convert.FromHexString(ContentHash).CopyTo(target.Slice(HashOffset));
        BinaryPrimitives.WriteUInt64LittleEndian(target.Slice(ChecksumOffset), Checksum(target));
    }

    /// <summary>Reads and checks a header.</summary>
    /// <exception cref="TextFormatException">These bytes are no header of this version, or were altered.</exception>
    public static TokenFileHeader Read(ReadOnlySpan<byte> source, string path)
    {
        if (source.Length < Size || !source.StartsWith(Magic))
            throw new TextFormatException($"opening the token file {path}: it does not begin with a token file's header; it was cut off or is another kind of file; tokenise the corpus again");
        int version = BinaryPrimitives.ReadInt32LittleEndian(source.Slice(8));
        if (BinaryPrimitives.ReadUInt64LittleEndian(source.Slice(ChecksumOffset)) != Checksum(source))
            throw new TextFormatException($"opening the token file {path}: its header is damaged (checksum); tokenise the corpus again");
        if (version != Version)
            throw new TextFormatException($"opening the token file {path}: it has format version {version}, this program reads version {Version}; tokenise the corpus again");

        TokenFileHeader header = new()
        {
            TokenWidth = BinaryPrimitives.ReadInt32LittleEndian(source.Slice(12)),
            DocumentCount = BinaryPrimitives.ReadInt64LittleEndian(source.Slice(16)),
            TokenCount = BinaryPrimitives.ReadInt64LittleEndian(source.Slice(24)),
            Utf8Bytes = BinaryPrimitives.ReadInt64LittleEndian(source.Slice(32)),
            VocabularySize = BinaryPrimitives.ReadInt32LittleEndian(source.Slice(40)),
            EosId = BinaryPrimitives.ReadInt32LittleEndian(source.Slice(44)),
            BosId = BinaryPrimitives.ReadInt32LittleEndian(source.Slice(48)),
            Key = Convert.ToHexStringLower(source.Slice(KeyOffset, 32)),
            ContentHash = Convert.ToHexStringLower(source.Slice(HashOffset, 32)),
        };
        if (header.VocabularySize < 1 || header.TokenWidth != WidthFor(header.VocabularySize)
            || header.DocumentCount is < 1 or > int.MaxValue || header.TokenCount < header.DocumentCount || header.TokenCount > 1L << 56
            || header.Utf8Bytes < 0 || (uint)header.EosId >= (uint)header.VocabularySize)
            throw new TextFormatException($"opening the token file {path}: its header holds impossible values; tokenise the corpus again");
        return header;
    }

    /// <summary>The first 8 bytes of the SHA-256 of the header without its checksum.</summary>
    private static ulong Checksum(ReadOnlySpan<byte> header)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(header.Slice(0, ChecksumOffset), hash);
        return BinaryPrimitives.ReadUInt64LittleEndian(hash);
    }

    /// <summary>SHA-256 of a text as lower-case hex.</summary>
    public static string HashText(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
}

// A tokenised corpus mapped into memory. Opening checks the header, the file's length and the two tables; it does not
// read the tokens. The trap: a mapped file must outlive every pointer into it, so all access goes through this class,
// and disposing it while another thread reads is the caller's mistake to avoid.
using System.Diagnostics.CodeAnalysis;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Fathom.Text;

/// <summary>The tokens of a corpus, one document after the other, each ended by <see cref="EosId"/>. Safe for concurrent reading.</summary>
public sealed unsafe class TokenFile : IDisposable
{
    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _view;
    private readonly TokenFileHeader _header;
    private readonly byte* _base;
    private readonly byte* _tokens;
    private readonly long* _starts;
    private readonly long* _bytes;
    private bool _disposed;

    private TokenFile(string path, FileStream stream, TokenFileHeader header)
    {
        (Path, _header) = (path, header);
        _file = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
        _view = _file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref _base);
        _base += _view.PointerOffset;
        _tokens = _base + TokenFileHeader.Size;
        _starts = (long*)(_base + header.StartsOffset);
        _bytes = (long*)(_base + header.BytesOffset);
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>Number of documents.</summary>
    public int DocumentCount => (int)_header.DocumentCount;

    /// <summary>Number of tokens, those around the documents included.</summary>
    public long TokenCount => _header.TokenCount;

    /// <summary>UTF-8 bytes of the documents' text.</summary>
    public long Utf8Bytes => _header.Utf8Bytes;

    /// <summary>The vocabulary size of the encoder that wrote the file.</summary>
    public int VocabularySize => _header.VocabularySize;

    /// <summary>The id behind every document.</summary>
    public int EosId => _header.EosId;

    /// <summary>The id in front of every document, or null.</summary>
    public int? BosId => _header.BosId < 0 ? null : _header.BosId;

    /// <summary>The <see cref="TokenFileOptions.Key"/> that the file was built with.</summary>
    public string Key => _header.Key;

    /// <summary>SHA-256, in hex, of the tokens and tables.</summary>
    public string ContentHash => _header.ContentHash;

    /// <summary>Opens a token file.</summary>
    /// <exception cref="TextFormatException">The file is absent, unreadable, cut off, damaged or of another format.</exception>
    public static TokenFile Open(string path)
    {
        FileStream? stream = null;
        TokenFile? file = null;
        try
        {
            stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 1);
            byte[] bytes = new byte[TokenFileHeader.Size];
            int read = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            TokenFileHeader header = TokenFileHeader.Read(bytes.AsSpan(0, read), path);
            if (stream.Length != header.FileLength)
                throw new TextFormatException($"opening the token file {path}: it has {stream.Length} bytes, its header promises {header.FileLength}; tokenise the corpus again");
            if (!BitConverter.IsLittleEndian)
                throw new TextFormatException($"opening the token file {path}: it is little-endian and this machine is not");
            file = new TokenFile(path, stream, header);
            file.CheckTables();
            TokenFile result = file;
            (stream, file) = (null, null);
            return result;
        }
        catch (Exception failure) when (failure is UnauthorizedAccessException or IOException)
        {
            throw new TextFormatException($"opening the token file {path}: {failure.Message}", failure);
        }
        finally
        {
            file?.Dispose();
            stream?.Dispose();
        }
    }

    /// <summary>Opens a file that was built before, if it is there, whole, and was built from the same things.</summary>
    /// <param name="path">The file.</param>
    /// <param name="key">The <see cref="TokenFileOptions.Key"/> wanted.</param>
    /// <param name="file">The open file.</param>
    /// <param name="reason">Why it cannot be used.</param>
    public static bool TryOpen(string path, string key, [NotNullWhen(true)] out TokenFile? file, [NotNullWhen(false)] out string? reason)
    {
        (file, reason) = (null, null);
        if (!File.Exists(path))
        {
            reason = $"{path} does not exist";
            return false;
        }

        try
        {
            file = Open(path);
        }
        catch (TextFormatException failure)
        {
            reason = failure.Message;
            return false;
        }

        if (file.Key == key) return true;
        file.Dispose();
        file = null;
        reason = $"{path} was built from another corpus, tokenizer or options";
        return false;
    }

    /// <summary>The first token of a document; for <see cref="DocumentCount"/> itself, the number of tokens.</summary>
    public long DocumentStart(int document) => _starts[Checked(document, DocumentCount + 1)];

    /// <summary>Tokens of a document, those around it included.</summary>
    public long DocumentTokens(int document) => _starts[Checked(document, DocumentCount) + 1] - _starts[document];

    /// <summary>UTF-8 bytes of a document's text.</summary>
    public long DocumentUtf8Bytes(int document) => _bytes[Checked(document, DocumentCount) + 1] - _bytes[document];

    /// <summary>UTF-8 bytes of all documents before this one; for <see cref="DocumentCount"/> itself, of all.</summary>
    public long Utf8BytesBefore(int document) => _bytes[Checked(document, DocumentCount + 1)];

    /// <summary>Copies the tokens from <paramref name="start"/> on.</summary>
    /// <param name="start">Index of the first token.</param>
    /// <param name="destination">Filled whole.</param>
    /// <exception cref="TextFormatException">The file holds an id outside its vocabulary: it was altered.</exception>
    public void CopyTokens(long start, Span<int> destination)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start, TokenCount - destination.Length);
        uint largest = 0;
        if (_header.TokenWidth == sizeof(ushort))
        {
            ReadOnlySpan<ushort> source = new(_tokens + start * sizeof(ushort), destination.Length);
            for (int i = 0; i < source.Length; i++)
            {
                destination[i] = source[i];
                largest = Math.Max(largest, source[i]);
            }
        }
        else
        {
            ReadOnlySpan<uint> source = new(_tokens + start * sizeof(uint), destination.Length);
            source.CopyTo(MemoryMarshal.Cast<int, uint>(destination));
            foreach (uint id in source) largest = Math.Max(largest, id);
        }

        if (largest >= (uint)VocabularySize)
            throw new TextFormatException($"reading tokens {start} to {start + destination.Length - 1} of {Path}: id {largest} is outside the vocabulary of {VocabularySize}; the file was altered, tokenise the corpus again");
    }

    /// <summary>Reads the whole file and compares it with the checksum that was taken when it was written.</summary>
    /// <exception cref="TextFormatException">The file was altered.</exception>
    public void Verify()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        const int blockSize = 1 << 24;
        for (long offset = TokenFileHeader.Size; offset < _header.FileLength; offset += blockSize)
            hash.AppendData(new ReadOnlySpan<byte>(_base + offset, (int)Math.Min(blockSize, _header.FileLength - offset)));
        if (Convert.ToHexStringLower(hash.GetHashAndReset()) != ContentHash)
            throw new TextFormatException($"checking the token file {Path}: its content does not match its checksum; tokenise the corpus again");
    }

    /// <summary>Unmaps the file; no other thread may be reading.</summary>
    public void Dispose()
    {
        if (_disposed) return;
        _disposed = true;
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _file.Dispose();
    }

    private int Checked(int document, int count)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentOutOfRangeException.ThrowIfNegative(document);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(document, count);
        return document;
    }

    private void CheckTables()
    {
        bool good = _starts[0] == 0 && _starts[DocumentCount] == TokenCount && _bytes[0] == 0 && _bytes[DocumentCount] == Utf8Bytes;
        for (int i = 0; good && i < DocumentCount; i++) good = _starts[i] < _starts[i + 1] && _bytes[i] <= _bytes[i + 1];
        if (!good)
            throw new TextFormatException($"opening the token file {Path}: its table of documents is damaged; tokenise the corpus again");
    }
}

// Decompresses gzip and notices when the file was cut off, which GZipStream alone does not: at the end of its input it
// reports the end of the data, wherever in the format that is (dotnet/runtime issue 47563). So a small gzip member with
// a marker is put behind the file. Members of one file are decompressed one after the other; if the file is whole its
// data are followed by the marker, and if it is not, the marker's bytes are taken for the missing part and either
// break the format or come out as something else.
using System.IO.Compression;

namespace Fathom.Text;

/// <summary>The decompressed bytes of a gzip file. Ends with an <see cref="InvalidDataException"/> where the file is cut off or damaged.</summary>
internal sealed class GzipReader : ForwardReader
{
    private const int BufferSize = 1 << 16;

    private readonly GZipStream _gzip;
    private readonly byte[] _buffer = new byte[BufferSize + Marker.Length];
    private int _start;
    private int _end;

    /// <summary>Decompresses <paramref name="file"/>, which is disposed with this.</summary>
    public GzipReader(Stream file) => _gzip = new GZipStream(new Followed(file, MarkerMember), CompressionMode.Decompress);

    /// <summary>32 bytes that end no text.</summary>
    private static ReadOnlySpan<byte> Marker =>
        [0xFF, 0x00, 0xC1, 0x8D, 0x3A, 0xF5, 0x61, 0xE2, 0x97, 0x0B, 0xD4, 0x5C, 0x28, 0xFE, 0xB3, 0x76,
         0x1E, 0xA9, 0x42, 0xCF, 0x80, 0x69, 0x05, 0xDA, 0x33, 0xFA, 0x8E, 0x57, 0x14, 0xBC, 0x71, 0xFF];

    private static byte[] MarkerMember { get; } = Compress();

    /// <inheritdoc/>
    public override int Read(Span<byte> buffer)
    {
        if (buffer.IsEmpty) return 0;

        // The last bytes are held back, for they may be the marker's.
        while (_end - _start <= Marker.Length)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            (_start, _end) = (0, _end - _start);
            int read = _gzip.Read(_buffer.AsSpan(_end));
            _end += read;
            if (read > 0) continue;
            if (_buffer.AsSpan(0, _end).SequenceEqual(Marker)) return 0;
            throw new InvalidDataException("the gzip data end too early or are followed by something else");
        }

        int count = Math.Min(buffer.Length, _end - _start - Marker.Length);
        _buffer.AsSpan(_start, count).CopyTo(buffer);
        _start += count;
        return count;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) _gzip.Dispose();
        base.Dispose(disposing);
    }

    private static byte[] Compress()
    {
        using MemoryStream member = new();
        using (GZipStream gzip = new(member, CompressionLevel.NoCompression)) gzip.Write(Marker);
        return member.ToArray();
    }

    /// <summary>A stream and then some bytes.</summary>
    private sealed class Followed(Stream first, byte[] second) : ForwardReader
    {
        private int _position;

        public override int Read(Span<byte> buffer)
        {
            int read = first.Read(buffer);
            if (read > 0 || buffer.IsEmpty) return read;
            int count = Math.Min(buffer.Length, second.Length - _position);
            second.AsSpan(_position, count).CopyTo(buffer);
            _position += count;
            return count;
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing) first.Dispose();
            base.Dispose(disposing);
        }
    }
}

/// <summary>A stream that is read from its beginning to its end and can do nothing else.</summary>
internal abstract class ForwardReader : Stream
{
    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => false;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    /// <inheritdoc/>
    public abstract override int Read(Span<byte> buffer);

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override void Flush() => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}

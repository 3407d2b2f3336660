// Bits per byte of general-purpose compressors on the held-out text: the yardstick beside a model's own bits per byte.
// They see the held-out text only, and adapt to it as they go; a model has seen the training text and does not adapt.
using System.Buffers;
using System.IO.Compression;
using System.Text;

namespace Fathom.Text;

/// <summary>Compressed sizes of one text.</summary>
/// <param name="Utf8Bytes">Bytes of the text as UTF-8.</param>
/// <param name="GzipBytes">
/// Bytes after gzip at its smallest setting (level 9 of the zlib-ng that .NET ships, headers included; <c>gzip -9</c>
/// itself differs by around one percent).
/// </param>
/// <param name="BrotliBytes">Bytes after Brotli at quality 11 with a 16 MiB window (2^24).</param>
public sealed record CompressionBaseline(long Utf8Bytes, long GzipBytes, long BrotliBytes)
{
    private const int BrotliQuality = 11;
    private const int BrotliWindowBits = 24;

    /// <summary>Bits that gzip needs for one byte of the text.</summary>
    public double GzipBitsPerByte => 8.0 * GzipBytes / Utf8Bytes;

    /// <summary>Bits that Brotli needs for one byte of the text.</summary>
    public double BrotliBitsPerByte => 8.0 * BrotliBytes / Utf8Bytes;

    /// <summary>Compresses the documents, one directly after the other, holding one document at a time.</summary>
    /// <exception cref="TextFormatException">There is no text.</exception>
    public static CompressionBaseline Measure(IEnumerable<Document> documents)
    {
        using CountingStream gzipped = new();
        using BrotliCounter brotli = new();
        long bytes = 0;
        using (GZipStream gzip = new(gzipped, CompressionLevel.SmallestSize, leaveOpen: true))
        {
            foreach (Document document in documents)
            {
                byte[] utf8 = Encoding.UTF8.GetBytes(document.Text);
                bytes += utf8.Length;
                gzip.Write(utf8);
                brotli.Write(utf8);
            }
        }

        if (bytes == 0) throw new TextFormatException("measuring the compression baseline: the text is empty");
        return new CompressionBaseline(bytes, gzipped.Length, brotli.Finish());
    }

    /// <summary>Brotli with the window size set, which BrotliStream does not offer.</summary>
    private sealed class BrotliCounter : IDisposable
    {
        private readonly byte[] _output = new byte[1 << 16];
        private BrotliEncoder _encoder = new(BrotliQuality, BrotliWindowBits);
        private long _bytes;

        public void Write(ReadOnlySpan<byte> input) => Compress(input, isFinalBlock: false);

        public long Finish()
        {
            Compress([], isFinalBlock: true);
            return _bytes;
        }

        public void Dispose() => _encoder.Dispose();

        private void Compress(ReadOnlySpan<byte> input, bool isFinalBlock)
        {
            OperationStatus status;
            do
            {
                status = _encoder.Compress(input, _output, out int consumed, out int written, isFinalBlock);
                if (status == OperationStatus.InvalidData)
                    throw new InvalidOperationException("the Brotli encoder refused its input");
                input = input.Slice(consumed);
                _bytes += written;
            }
            while (status == OperationStatus.DestinationTooSmall || !input.IsEmpty);
        }
    }

    /// <summary>Counts what is written to it and keeps nothing.</summary>
    private sealed class CountingStream : Stream
    {
        private long _length;

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => _length;

        public override long Position { get => _length; set => throw new NotSupportedException(); }

        public override void Write(byte[] buffer, int offset, int count) => _length += count;

        public override void Write(ReadOnlySpan<byte> buffer) => _length += buffer.Length;

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}

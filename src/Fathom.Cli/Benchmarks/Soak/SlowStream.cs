namespace Fathom.Cli.Benchmarks.Soak;

/// <summary>A stream that is read in small pieces with pauses, up to about a second of them, then as fast as it comes.</summary>
internal sealed class SlowStream(Stream inner, Random random) : Stream
{
    private const int Pauses = 40, LongestPause = 40;
    private int paused;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (paused++ >= Pauses) return await inner.ReadAsync(buffer, cancellationToken).ConfigureAwait(false);
        await Task.Delay(random.Next(LongestPause), cancellationToken).ConfigureAwait(false);
        return await inner.ReadAsync(buffer[..Math.Min(buffer.Length, random.Next(16, 256))], cancellationToken).ConfigureAwait(false);
    }

    public override int Read(byte[] buffer, int offset, int count) => inner.Read(buffer, offset, count);

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing) inner.Dispose();
        base.Dispose(disposing);
    }
}

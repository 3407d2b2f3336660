// Cuts a stream of bytes into records without holding more than one record (and one block) in memory.
// Three rules: at a delimiter, at line ends, and at blank lines up to a size. All work on bytes: a UTF-8 file can be cut
// at ASCII bytes, or in front of any byte that does not continue a character, without decoding it first.
namespace Fathom.Text;

/// <summary>Successive records of a stream; a record is valid until the next call.</summary>
/// <param name="stream">Read to its end; not disposed here.</param>
/// <param name="fileName">Named in errors.</param>
internal sealed class RecordReader(Stream stream, string fileName)
{
    private const int BlockSize = 64 * 1024;
    private const int MaximumRecord = 1 << 29;

    private byte[] _buffer = new byte[4 * BlockSize];
    private int _start;
    private int _end;
    private bool _ended;

    /// <summary>The bytes that have been read and not yet given out, at least <paramref name="count"/> unless the stream ends.</summary>
    public ReadOnlyMemory<byte> Peek(int count)
    {
        while (_end - _start < count && ReadMore())
        {
        }

        return _buffer.AsMemory(_start, _end - _start);
    }

    /// <summary>Leaves out the next <paramref name="count"/> bytes of those that <see cref="Peek"/> showed.</summary>
    public void Skip(int count) => _start += count;

    /// <summary>The bytes up to the next <paramref name="delimiter"/> (not included) or the end; false at the end.</summary>
    public bool TryReadUntil(ReadOnlySpan<byte> delimiter, out ReadOnlyMemory<byte> record)
    {
        int searched = 0;
        while (true)
        {
            int found = _buffer.AsSpan(_start + searched, _end - _start - searched).IndexOf(delimiter);
            if (found >= 0)
            {
                record = _buffer.AsMemory(_start, searched + found);
                _start += searched + found + delimiter.Length;
                return true;
            }

            searched = Math.Max(0, _end - _start - delimiter.Length + 1);
            if (ReadMore()) continue;
            record = _buffer.AsMemory(_start, _end - _start);
            _start = _end;
            return !record.IsEmpty;
        }
    }

    /// <summary>The longest next piece of at most <paramref name="maximum"/> bytes by the rule of <see cref="CorpusOptions.MaximumPieceBytes"/>.</summary>
    public bool TryReadPiece(int maximum, out ReadOnlyMemory<byte> record)
    {
        ReadOnlyMemory<byte> window = Peek(maximum + 1);
        record = window.Length <= maximum ? window : window.Slice(0, FindCut(window.Span.Slice(0, maximum + 1)));
        _start += record.Length;
        return !record.IsEmpty;
    }

    /// <summary>Where to cut a window whose last byte is already one too many: after a blank line, a line, a space, or a character.</summary>
    internal static int FindCut(ReadOnlySpan<byte> window)
    {
        int maximum = window.Length - 1;
        ReadOnlySpan<byte> piece = window.Slice(0, maximum);
        int lastLineEnd = piece.LastIndexOf((byte)'\n');
        for (int lineEnd = lastLineEnd; lineEnd >= 0;)
        {
            int previous = piece.Slice(0, lineEnd).LastIndexOf((byte)'\n');
            bool blank = piece.Slice(previous + 1, lineEnd - previous - 1).IndexOfAnyExcept((byte)' ', (byte)'\t', (byte)'\r') < 0;
            if (blank && previous >= 0) return lineEnd + 1;
            lineEnd = previous;
        }

        if (lastLineEnd >= 0) return lastLineEnd + 1;
        int space = piece.LastIndexOf((byte)' ');
        if (space >= 0) return space + 1;
        int cut = maximum;
        while (cut > maximum - 4 && cut > 1 && (window[cut] & 0xC0) == 0x80) cut--;
        return cut;
    }

    private bool ReadMore()
    {
        if (_ended) return false;
        if (_end == _buffer.Length)
        {
            int length = _end - _start;
            if (length >= MaximumRecord)
                throw new TextFormatException($"reading {fileName}: a single document is larger than {MaximumRecord >> 20} MiB; split it or choose another separator");
            byte[] target = length > _buffer.Length - BlockSize ? new byte[2 * _buffer.Length] : _buffer;
            _buffer.AsSpan(_start, length).CopyTo(target);
            (_buffer, _start, _end) = (target, 0, length);
        }

        int read;
        try
        {
            read = stream.Read(_buffer, _end, _buffer.Length - _end);
        }
        catch (InvalidDataException failure)
        {
            throw new TextFormatException($"reading {fileName}: the gzip file is cut off or damaged; fetch it again ({failure.Message})", failure);
        }
        catch (Exception failure) when (failure is UnauthorizedAccessException or IOException)
        {
            throw new TextFormatException($"reading {fileName}: {failure.Message}", failure);
        }

        _end += read;
        _ended = read == 0;
        return read > 0;
    }
}

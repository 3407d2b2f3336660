// Lines of a file that grows while it is read. Only whole lines count: the last one may be half written. Nothing is held but one buffer,
// however long the file is.
using System.Buffers;

namespace Fathom.Server.Runs;

/// <summary>Reads whole lines from a place in a file.</summary>
internal static class JsonLines
{
    /// <summary>Longest line that is looked at; longer ones are passed over. A step's loads of 61 layers with 256 experts take about 100 kB.</summary>
    public const int LongestLine = 16 << 20;

    private const int Piece = 256 << 10;

    /// <summary>Takes a line.</summary>
    /// <param name="line">Without its end.</param>
    /// <param name="offset">Where it begins in the file.</param>
    /// <returns>Whether to go on; the line of the last call counts as read either way.</returns>
    public delegate bool Handler(ReadOnlySpan<byte> line, long offset);

    /// <summary>Opens a file that another process may be writing, cutting or replacing.</summary>
    /// <exception cref="IOException">It cannot be opened.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    public static FileStream Open(string path) => new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);

    /// <summary>Reads whole lines.</summary>
    /// <param name="file">The file.</param>
    /// <param name="from">Beginning of a line.</param>
    /// <param name="budget">Bytes after which to stop, at the end of a line.</param>
    /// <param name="handle">Takes each line.</param>
    /// <returns>Where the next line begins.</returns>
    public static long Read(FileStream file, long from, long budget, Handler handle)
    {
        file.Position = from;
        byte[] buffer = ArrayPool<byte>.Shared.Rent(Piece);
        try
        {
            long next = from, dropped = 0; // dropped: bytes of an overlong line that are no longer in the buffer
            int held = 0;
            while (true)
            {
                int read = file.Read(buffer, held, buffer.Length - held);
                int searched = held, used = 0;
                held += read;
                while (buffer.AsSpan(searched, held - searched).IndexOf((byte)'\n') is >= 0 and var found)
                {
                    int end = searched + found;
                    long length = dropped + end - used + 1;
                    bool goOn = dropped > 0 || handle(buffer.AsSpan(used, end - used), next);
                    (next, used, searched, dropped) = (next + length, end + 1, end + 1, 0);
                    if (!goOn || next - from >= budget) return next;
                }

                if (read == 0) return next;
                buffer.AsSpan(used, held - used).CopyTo(buffer);
                held -= used;
                if (dropped > 0 || held >= LongestLine) (dropped, held) = (dropped + held, 0);
                else if (held == buffer.Length) buffer = Grow(buffer, held);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private static byte[] Grow(byte[] buffer, int held)
    {
        byte[] larger = ArrayPool<byte>.Shared.Rent(buffer.Length * 2);
        buffer.AsSpan(0, held).CopyTo(larger);
        ArrayPool<byte>.Shared.Return(buffer);
        return larger;
    }
}

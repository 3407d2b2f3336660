// Lists the memory that will be packed next, in equal shares for the tile kernels that run before. A kernel asks for a line a step:
// many at once would fill the processor's list of outstanding requests and hold up the arithmetic that they should hide behind.
namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Walks over the cache lines of a matrix block in equal shares.</summary>
internal unsafe struct Prefetcher
{
    private const int Line = 64;

    private readonly nint pitch;
    private readonly int linesOfPiece, share;
    private byte* piece;
    private int line, left;

    /// <summary>Prepares the list of a block of an operand.</summary>
    /// <param name="first">First element of the block.</param>
    /// <param name="depthFirst">Whether lines are contiguous over the depth; otherwise they are adjacent.</param>
    /// <param name="stride">Elements between contiguous pieces.</param>
    /// <param name="size">Bytes of an element.</param>
    /// <param name="lines">Lines of the block.</param>
    /// <param name="depth">Its depth; 0 for nothing to list.</param>
    /// <param name="shares">Calls of <see cref="Next"/> that are to cover it.</param>
    public Prefetcher(byte* first, bool depthFirst, long stride, int size, int lines, int depth, int shares)
    {
        (int pieces, int length) = depthFirst ? (lines, depth) : (depth, lines);
        if (length == 0) pieces = 0;
        long start = (long)first & (Line - 1);
        piece = first - start;
        pitch = (nint)stride * size;
        linesOfPiece = (int)((start + (long)length * size + Line - 1) / Line);
        left = pieces * linesOfPiece;
        share = (left + shares - 1) / Math.Max(1, shares);
    }

    /// <summary>Lists the next share.</summary>
    /// <param name="lines">Where the addresses go.</param>
    /// <param name="room">Most of them.</param>
    /// <returns>How many there are.</returns>
    public int Next(byte** lines, int room)
    {
        int count = Math.Min(Math.Min(share, left), room);
        left -= count;
        for (int i = 0; i < count; i++)
        {
            lines[i] = piece + (nint)line * Line;
            if (++line < linesOfPiece) continue;
            line = 0;
            piece += pitch;
        }

        return count;
    }
}

// How the rows of a matrix are dealt to the threads of a GPU by kernels that copy, convert or sum them (rows.cuh on the device). Short rows share a
// block, long ones take several, and no thread stands idle for more than a rounding.
using Fathom.Compute.Cuda.Runtime;

namespace Fathom.Compute.Cuda;

/// <summary>A cut of rows of equal length into blocks.</summary>
/// <param name="Width">Threads of one row in a block.</param>
/// <param name="RowsOfBlock">Rows of a block.</param>
/// <param name="Pieces">Blocks that a row takes.</param>
internal readonly record struct RowCut(int Width, int RowsOfBlock, int Pieces)
{
    private const int MostThreads = 256;
    private const int Warp = 32;

    /// <summary>Threads of a block: whole warps.</summary>
    public int Threads => RoundUp((long)Width * RowsOfBlock);

    /// <summary>The cut for rows of so many chunks, of which a thread takes so many.</summary>
    /// <param name="rows">Number of rows.</param>
    /// <param name="chunks">Chunks of a row: what a thread reads or writes at once.</param>
    /// <param name="chunksOfThread">Chunks that a thread has under way.</param>
    /// <param name="multiprocessors">Of the GPU: few rows are spread over all of them before they share blocks.</param>
    public static RowCut For(long rows, long chunks, int chunksOfThread, int multiprocessors)
    {
        long wanted = Math.Max(1, LaunchShape.Cover(chunks, chunksOfThread));
        if (wanted > MostThreads / 2)
        {
            int pieces = checked((int)LaunchShape.Cover(wanted, MostThreads));
            return new RowCut(RoundUp(LaunchShape.Cover(wanted, pieces)), 1, pieces);
        }

        long spread = Math.Max(1, LaunchShape.Cover(rows, multiprocessors));
        return new RowCut((int)wanted, (int)Math.Min(MostThreads / wanted, spread), 1);
    }

    /// <summary>Blocks and threads for so many rows; none for rows without chunks.</summary>
    public LaunchShape Shape(long rows, long chunks) => new((chunks == 0 ? 0 : LaunchShape.Cover(rows, RowsOfBlock), Pieces, 1), Threads);

    private static int RoundUp(long threads) => (int)((threads + Warp - 1) / Warp * Warp);
}

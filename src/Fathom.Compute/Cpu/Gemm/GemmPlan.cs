// How a packed product is cut, from its shape alone: blocks of the depth that keep a panel of A in the first-level cache, blocks of
// columns that keep their panels of B in the second, and tiles for the team. The depth blocks decide the order of a sum, so they
// depend on the depth alone: not on the rows, not on the threads.
namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Sizes of blocks; pure functions.</summary>
internal static class GemmPlan
{
    /// <summary>Longest block of the depth: 12 rows of it are 24 KB, three quarters of a first-level cache.</summary>
    public const int LargestDepthBlock = 512;

    /// <summary>Longest stretch of the depth that is packed at once.</summary>
    public const long LargestDepthChunk = 2048;

    /// <summary>Rows up to which a product is mostly the packing of its B.</summary>
    private const long FewRows = 512;

    /// <summary>Steps of the depth that a tile kernel asks for before their turn.</summary>
    public const int StepsAhead = 8;

    /// <summary>Rows over which the copy of B into panels is not felt.</summary>
    private const long RowsThatPayForPacking = 1024;

    /// <summary>Distance of addresses that share a set of the first-level cache.</summary>
    private const long AliasingBytes = 4096;

    /// <summary>Elements of B that stay in the second-level cache while rows pass over them (256 KB).</summary>
    private const int SecondLevelElements = 64 << 10;

    /// <summary>Tiles a thread should find, so that a slow one does not keep the others waiting.</summary>
    private const int TilesPerThread = 6;

    private const int LargestRowPanels = 16;

    /// <summary>Length of the blocks that a depth is cut into; the last may be shorter.</summary>
    public static int DepthBlock(long depth)
    {
        long blocks = Math.Max(1, (depth + LargestDepthBlock - 1) / LargestDepthBlock);
        return (int)Math.Min(LargestDepthBlock, ((depth + blocks - 1) / blocks + 7) / 8 * 8);
    }

    /// <summary>Length of the block that begins at a place of a depth: whole stretches are cut one by one.</summary>
    public static int DepthBlockAt(long start, long depth)
    {
        long stretch = start / LargestDepthChunk * LargestDepthChunk, end = Math.Min(stretch + LargestDepthChunk, depth);
        return (int)Math.Min(DepthBlock(end - stretch), end - start);
    }

    /// <summary>
    /// Whether columns of B that are adjacent are read where they lie: where few rows pay for packing, all panels are whole and
    /// steps of the depth do not meet in the same sets of the caches.
    /// </summary>
    /// <param name="rows">Most rows of a product.</param>
    /// <param name="depth">Longest depth of a product.</param>
    /// <param name="columns">Columns of a product.</param>
    /// <param name="stride">Elements from one step of the depth to the next in B.</param>
    /// <param name="tileColumns">Columns of a tile.</param>
    public static bool ReadsInPlace(long rows, long depth, long columns, long stride, int tileColumns) =>
        rows <= RowsThatPayForPacking && columns % tileColumns == 0 && depth * columns <= PackElements(long.MaxValue) && stride * sizeof(float) % AliasingBytes != 0;

    /// <summary>
    /// Elements of B that are packed at once. For few rows 2 MB, which are still near when they are used; for many 8 MB, so that
    /// A is packed again for fewer parts of the columns.
    /// </summary>
    public static long PackElements(long rows) => rows <= FewRows ? 512 << 10 : 2 << 20;

    /// <summary>Columns that are packed at once for a stretch of the depth, a multiple of the tile's columns.</summary>
    /// <param name="columns">Columns of the product.</param>
    /// <param name="depth">The stretch of the depth.</param>
    /// <param name="elements">Elements that may be packed at once.</param>
    /// <param name="tileColumns">Columns of a tile.</param>
    public static long ColumnChunk(long columns, long depth, long elements, int tileColumns)
    {
        long all = (columns + tileColumns - 1) / tileColumns;
        long fit = Math.Max(1, elements / (Math.Max(1, depth) * tileColumns));
        long chunks = (all + fit - 1) / fit;
        return (all + chunks - 1) / chunks * tileColumns;
    }

    /// <summary>Panels of B that stay in the second-level cache together.</summary>
    public static int SecondLevelPanels(int depthBlock, int tileColumns) => Math.Max(1, SecondLevelElements / (Math.Max(1, depthBlock) * tileColumns));

    /// <summary>Panels of adjacent columns that are packed together, for long reads; fewer where threads would find no work.</summary>
    public static int PackPanels(int panels, int threads) => Math.Clamp(panels / (2 * threads), 1, 8);

    /// <summary>Row panels of a team tile, and into how many parts the columns are cut besides.</summary>
    /// <param name="rowPanels">Row panels of all products together.</param>
    /// <param name="columnPanels">Column panels of one product.</param>
    /// <param name="threads">Threads of the team.</param>
    public static (int RowPanels, int ColumnParts) TeamTile(long rowPanels, long columnPanels, int threads)
    {
        if (threads == 1) return (LargestRowPanels, 1);
        long wanted = (long)threads * TilesPerThread;
        int rows = (int)Math.Clamp(rowPanels / wanted, 1, LargestRowPanels);
        long tiles = (rowPanels + rows - 1) / rows;
        // A row panel is packed again for each part of the columns: no more parts than needed, and none of less than four panels.
        long parts = Math.Clamp((wanted + tiles - 1) / Math.Max(1, tiles), 1, Math.Max(1, columnPanels / 4));
        return (rows, (int)parts);
    }
}

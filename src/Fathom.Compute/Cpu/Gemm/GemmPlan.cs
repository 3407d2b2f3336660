// How a packed product is cut, from its shape alone: blocks of the depth that keep a panel of A in the first-level cache, tiles of C
// whose panels of B stay in the second, and enough of them for the team. The depth blocks decide the order of a sum, so they
// depend on the depth alone: not on the rows, not on the threads.
namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Size of a tile.</summary>
/// <param name="Rows">About as many rows; those of a product are cut evenly.</param>
/// <param name="Columns">Columns, a multiple of those of a tile kernel.</param>
internal readonly record struct TileSize(long Rows, int Columns);

/// <summary>Sizes of blocks; pure functions.</summary>
internal static class GemmPlan
{
    /// <summary>Longest block of the depth: 12 rows of it are 18 KB, little more than half a first-level cache.</summary>
    public const int LargestDepthBlock = 384;

    /// <summary>Steps of the depth that a tile kernel asks for before their turn.</summary>
    public const int StepsAhead = 8;

    /// <summary>Elements of B that stay in the second-level cache while rows pass over them (576 KB).</summary>
    public const int SecondLevelElements = 144 << 10;

    /// <summary>Tiles a thread should find, so that a slow one does not keep the others waiting.</summary>
    private const int TilesOfOneBlock = 6;

    /// <summary>The same where each tile packs B for itself.</summary>
    private const int TilesOfManyBlocks = 2;

    /// <summary>Row panels below which a tile is not cut.</summary>
    private const int LeastRowPanels = 4;

    /// <summary>Column panels below which a tile is not cut.</summary>
    private const int LeastColumnPanels = 2;

    /// <summary>Panels of A that are packed together where a step of the depth gives one of them less than a cache line.</summary>
    private const int PanelsOfAdjacentLines = 8;

    /// <summary>Length of the blocks that a depth is cut into; the last may be shorter.</summary>
    public static int DepthBlock(long depth)
    {
        long blocks = Math.Max(1, (depth + LargestDepthBlock - 1) / LargestDepthBlock);
        return (int)Math.Min(LargestDepthBlock, ((depth + blocks - 1) / blocks + 7) / 8 * 8);
    }

    /// <summary>
    /// Panels of A that are packed together. One where its lines are contiguous over the depth: it goes from packing to use within
    /// the first-level cache. Several where lines are adjacent, since a step of the depth gives each panel less than a cache line.
    /// </summary>
    public static int RowGroup(bool depthFirst) => depthFirst ? 1 : PanelsOfAdjacentLines;

    /// <summary>The tiles of a call: as large as the second-level cache allows, then cut along the longer side until all threads have work.</summary>
    /// <param name="rows">Rows of all products together.</param>
    /// <param name="columns">Columns of each.</param>
    /// <param name="depth">Longest depth.</param>
    /// <param name="depthBlock">Longest block of a depth.</param>
    /// <param name="products">Number of products.</param>
    /// <param name="threads">Threads of the team.</param>
    /// <param name="unitRows">Rows of a tile kernel.</param>
    /// <param name="unitColumns">Columns of a tile kernel.</param>
    public static TileSize Tile(long rows, long columns, long depth, int depthBlock, int products, int threads, int unitRows, int unitColumns)
    {
        long panels = (columns + unitColumns - 1) / unitColumns, mostPanels = Math.Max(1, SecondLevelElements / (Math.Max(1, depthBlock) * unitColumns));
        long rowTiles = 1, columnTiles = (panels + mostPanels - 1) / mostPanels, rowsOfProduct = Math.Max(1, rows / products);
        // B is packed again for each tile of a sum of several blocks; otherwise a thread keeps it for the next rows.
        long wanted = (long)threads * (depth > depthBlock ? TilesOfManyBlocks : TilesOfOneBlock);
        for (long tiles; threads > 1 && ((tiles = products * rowTiles * columnTiles) < wanted || (tiles % threads != 0 && tiles < 2 * wanted));)
        {
            long tileRows = rowsOfProduct / rowTiles, tilePanels = panels / columnTiles;
            bool canCutRows = tileRows > LeastRowPanels * unitRows, canCutColumns = tilePanels > LeastColumnPanels;
            if (canCutRows && (tileRows >= tilePanels * unitColumns || !canCutColumns)) rowTiles++;
            else if (canCutColumns) columnTiles++;
            else break;
        }

        return new TileSize(Math.Max(unitRows, (rowsOfProduct + rowTiles - 1) / rowTiles), (int)((panels + columnTiles - 1) / columnTiles) * unitColumns);
    }
}

// Which of the own kernels computes a product, and with how many blocks: pure, from shapes and types alone.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Linear;

/// <summary>Ways to compute a product.</summary>
internal enum GemmWay
{
    /// <summary>gemm_tensor.cu: tiles through mma.sync.</summary>
    Tensor,

    /// <summary>gemm_simt.cu: tiles in F32; takes everything.</summary>
    Simt,

    /// <summary>gemm_few.cu on tensor cores: a few rows, weights read once.</summary>
    FewTensor,

    /// <summary>gemm_few.cu in F32.</summary>
    FewSimt,

    /// <summary>gemm_codes.cu: BF16 rows, from one on, with E4M3 weights.</summary>
    Codes,
}

/// <summary>One launch of a product.</summary>
/// <param name="Way">The kernel.</param>
/// <param name="Tile">Side of a block's tile; rows of it for few rows.</param>
/// <param name="Staged">Type that tiles have in shared memory (tensor cores).</param>
/// <param name="Shape">Blocks.</param>
/// <param name="BandRows">Row tiles that are walked together.</param>
/// <param name="Splits">Blocks that share the depth, whose sums a second kernel adds up.</param>
internal readonly record struct GemmPlan(GemmWay Way, int Tile, DType Staged, LaunchShape Shape, int BandRows = 1, int Splits = 1)
{
    /// <summary>Tiles under way in shared memory, where the kernel is told (<see cref="GemmWay.Codes"/>).</summary>
    public int Stages { get; init; }

    /// <summary>Most rows of a product that the kernels for few rows take.</summary>
    public const int MostFewRows = 16;

    /// <summary>The same where operands differ in type, which cuBLASLt has no product for: decoding with FP8 weights.</summary>
    public const int MostFewMixedRows = 128;

    /// <summary>Rows a group has on average up to which those kernels take grouped products.</summary>
    public const int MostFewRowsOfGroup = 4;

    // gemm_codes.cu has the same.
    private const int CodeOutputs = 128, CodeThreads = 256;

    // gemm_few.cu has the same.
    private const int FewThreads = 256, FewWarps = FewThreads / 32, OutputsOfWarp = 16, OutputsOfBlock = 4, FewTile = 8, MostFewTile = 64;
    private const int BlocksAtOnce = 2, LeastSteps = 4, MostSplits = 16, SimtThreads = 256;
    private const int LargeTile = 128, SmallTile = 64;
    private const int CodeBlocksAtOnce = 4;
    private const int Band = 8;

    /// <summary>Depth beyond which F32 products take small tiles, whose sums have two levels.</summary>
    private const int DepthOfLargeTiles = 4096;

    /// <summary>The way a product goes.</summary>
    /// <param name="p">The product; neither rows nor columns are 0.</param>
    /// <param name="multiprocessors">Of the GPU.</param>
    public static GemmPlan Choose(in GemmTraits p, int multiprocessors)
    {
        (bool coversDepth, bool tensorCores) = Ways(p);
        bool few = !p.A.Transposed && !p.B.Transposed && coversDepth && p.Grouping switch
        {
            GemmGrouping.None => p.Rows <= (tensorCores && p.A.DType != p.B.DType ? MostFewMixedRows : MostFewRows),
            GemmGrouping.Rows => p.Rows <= Math.Max(MostFewRows, MostFewRowsOfGroup * p.Groups),
            _ => false,
        };
        if (tensorCores && IsCodes(p) && TakesCodes(p)) return Codes(p, multiprocessors);
        if (few) return FewRows(p, tensorCores, multiprocessors);
        return Tiles(p, tensorCores, multiprocessors);
    }

    /// <summary>
    /// The way of a forward product in which the bits of a row are its own: kernels whose sums take one order whatever the tile, and as
    /// many blocks to a sum as its depth and the columns ask for, however many rows there are.
    /// </summary>
    /// <param name="p">The product, its operands along the depth; neither rows nor columns are 0.</param>
    /// <param name="multiprocessors">Of the GPU.</param>
    public static GemmPlan ByRow(in GemmTraits p, int multiprocessors)
    {
        (bool coversDepth, bool tensorCores) = Ways(p);
        if (tensorCores && IsCodes(p)) return Codes(p, multiprocessors);
        if (tensorCores)
        {
            GemmPlan plan = Tiles(p, tensorCores, multiprocessors);
            // Experts' products are wide enough together, and what blocks would hand over too much.
            if (p.Grouping != GemmGrouping.None) return plan;
            int splits = Sharing(p, LaunchShape.Cover(p.Columns, SmallTile), LeastSteps, multiprocessors);
            return plan with { Splits = splits, Shape = plan.Shape with { Grid = (plan.Shape.Grid.X, 1, splits) } };
        }

        if (!coversDepth) return Tiles(p, false, multiprocessors, ofRow: true);
        long across = LaunchShape.Cover(p.Columns, OutputsOfBlock), down = RowTiles(p, FewTile);
        int shared = p.Grouping == GemmGrouping.None ? Sharing(p, across, LeastSteps * FewWarps, multiprocessors) : 1;
        return new GemmPlan(GemmWay.FewSimt, FewTile, default, new LaunchShape((across, down, shared), FewThreads), 1, shared);
    }

    /// <summary>
    /// Tiles that ragged groups of rows have at most: every group that is not empty begins its own, and at most
    /// as many are not empty as there are rows.
    /// </summary>
    public static long MostTiles(long rows, int groups, int tile) => Math.Min(rows, (rows + Math.Min(rows, groups) * (tile - 1)) / tile);

    private static GemmPlan FewRows(in GemmTraits p, bool tensorCores, int multiprocessors)
    {
        int outputs = tensorCores ? OutputsOfWarp * FewWarps : OutputsOfBlock;
        int tile = tensorCores && p.Grouping == GemmGrouping.None ? Math.Clamp((int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)p.Rows), FewTile, MostFewTile) : FewTile;
        long across = LaunchShape.Cover(p.Columns, outputs), down = RowTiles(p, tile), blocks = across * down;
        int splits = Sharing(p, blocks, tensorCores ? LeastSteps : LeastSteps * FewWarps, multiprocessors);
        return new GemmPlan(tensorCores ? GemmWay.FewTensor : GemmWay.FewSimt, tile, default, new LaunchShape((across, down, splits), FewThreads), 1, splits);
    }

    private static bool IsCodes(in GemmTraits p) =>
        p.Grouping != GemmGrouping.Depth && !p.A.Transposed && !p.B.Transposed && p.A is { DType: DType.BF16, IsScaled: false } && p.B.DType == DType.F8E4M3;

    private static bool TakesCodes(in GemmTraits p) => p.Grouping == GemmGrouping.None
        ? p.Rows is > FewTile and <= MostFewMixedRows
        : p.Rows > (long)MostFewRowsOfGroup * p.Groups && p.Rows <= (long)MostFewMixedRows * p.Groups;

    // Every sum takes the depth in one order, and who shares a sum follows from columns and depth.
    private static GemmPlan Codes(in GemmTraits p, int multiprocessors)
    {
        long ofGroup = p.Grouping == GemmGrouping.Rows ? LaunchShape.Cover(p.Rows, p.Groups) : p.Rows;
        (int tile, int stages) = ofGroup switch { <= 8 => (8, 5), <= 16 => (16, 5), <= 32 => (32, 4), _ => (64, 3) };
        long across = LaunchShape.Cover(p.Columns, CodeOutputs), down = RowTiles(p, tile);
        int splits = p.Grouping == GemmGrouping.None ? Sharing(p, across, LeastSteps, multiprocessors, CodeBlocksAtOnce) : 1;
        int sharedBytes = stages * (CodeOutputs * ScaledTensor.TileSize + tile * (2 * ScaledTensor.TileSize + 32));
        return new GemmPlan(GemmWay.Codes, tile, default, new LaunchShape((across * down, 1, splits), CodeThreads, sharedBytes), p.Grouping == GemmGrouping.Rows ? 1 : Band, splits)
        {
            Stages = stages,
        };
    }

    // Where blocks do not fill the GPU and the depth is long, several share it.
    private static int Sharing(in GemmTraits p, long blocks, int leastSteps, int multiprocessors, int blocksAtOnce = BlocksAtOnce)
    {
        long steps = LaunchShape.Cover(p.Depth, ScaledTensor.TileSize), wanted = blocksAtOnce * multiprocessors / blocks;
        return (int)Math.Clamp(Math.Min(steps / leastSteps, wanted), 1, MostSplits);
    }

    private static (bool CoversDepth, bool TensorCores) Ways(in GemmTraits p)
    {
        bool groupedDepth = p.Grouping == GemmGrouping.Depth;
        bool coversDepth = GemmScales.CoverDepth(p.A.Layout, p.A.Transposed, groupedDepth) && GemmScales.CoverDepth(p.B.Layout, p.B.Transposed, groupedDepth);
        return (coversDepth, coversDepth && p.A.FitsTensorCores && p.B.FitsTensorCores && p.A.WholeChunks && p.B.WholeChunks);
    }

    private static GemmPlan Tiles(in GemmTraits p, bool tensorCores, int multiprocessors, bool ofRow = false)
    {
        long largeTiles = RowTiles(p, LargeTile) * LaunchShape.Cover(p.Columns, LargeTile) * (p.Grouping == GemmGrouping.Depth ? p.Groups : 1);
        bool small = ofRow || largeTiles < multiprocessors || p.Rows <= SmallTile || p.Grouping == GemmGrouping.Rows && p.Rows / p.Groups < SmallTile
            || !tensorCores && (p.Grouping == GemmGrouping.Depth ? p.Depth / p.Groups : p.Depth) > DepthOfLargeTiles;
        int tile = small ? SmallTile : LargeTile, band = p.Grouping == GemmGrouping.Rows ? 1 : Band;
        var grid = (RowTiles(p, tile) * LaunchShape.Cover(p.Columns, tile), 1L, p.Grouping == GemmGrouping.Depth ? p.Groups : 1L);
        if (!tensorCores) return new GemmPlan(GemmWay.Simt, tile, default, new LaunchShape(grid, SimtThreads), band);
        bool asCodes = p.A.DType == DType.F8E4M3 && p.B.DType == DType.F8E4M3 && !p.A.Transposed && !p.B.Transposed;
        var shape = new LaunchShape(grid, 2 * tile, TensorSharedBytes(tile, p.A.IsScaled || p.B.IsScaled));
        return new GemmPlan(GemmWay.Tensor, tile, asCodes ? DType.F8E4M3 : DType.BF16, shape, band);
    }

    /// <summary>Dynamic shared memory of gemm_tensor: a ring of two tiles of 128-byte rows, and of their scales.</summary>
    internal static int TensorSharedBytes(int tile, bool scaled) => (tile == LargeTile ? 3 : 4) * 2 * tile * (128 + (scaled ? sizeof(float) : 0));

    private static long RowTiles(in GemmTraits p, int tile) =>
        p.Grouping == GemmGrouping.Rows ? MostTiles(p.Rows, p.Groups, tile) : LaunchShape.Cover(p.Rows, tile);
}

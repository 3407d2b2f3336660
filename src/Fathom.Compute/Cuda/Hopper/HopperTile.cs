// Which tiles the result is cut into. A larger tile loads fewer bytes for the same products; a smaller one fills the last round of
// multiprocessors better, and two blocks on a multiprocessor store one's tile while the other multiplies. Which is best follows from a few
// rates of the chip, written down here; everything is pure.

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>The shape of a block's work: template arguments of the kernels in hopper_gemm.cu and hopper_bf16.cu.</summary>
/// <param name="Teams">Warpgroups that multiply.</param>
/// <param name="Waves">Times 64 rows that each of them has.</param>
/// <param name="Columns">Columns of a tile.</param>
/// <param name="Stages">Stages of the ring.</param>
/// <param name="PerMultiprocessor">Blocks that run on a multiprocessor at a time.</param>
/// <param name="Copies">Whether the copy engine stores a result that nothing is added to, while the next tile is multiplied; lanes store it otherwise.</param>
internal readonly record struct HopperTile(int Teams, int Waves, int Columns, int Stages, int PerMultiprocessor, bool Copies = false)
{
    /// <summary>Most groups whose table fits beside the stages.</summary>
    public const int MostGroups = 1024;

    /// <summary>Shared memory of a multiprocessor, and what the system keeps of it for every block.</summary>
    public const int MultiprocessorSharedBytes = 228 << 10, ReservedBytes = 1 << 10;

    /// <summary>Steps of the sum in a box of an operand that runs across it.</summary>
    public const int AcrossRows = 64;

    private const int RowBytes = 128, TeamThreads = 128, Alignment = 1024, BarrierBytes = 8;

    /// <summary>
    /// Longest sums that are stored by the copy engine. Measured with 256 groups of 128 steps of the sum it takes 11 to 18 % less time than lanes, which
    /// wait for memory; with 32 of 256 and 8 of 4,096 two blocks a multiprocessor take less.
    /// </summary>
    public const int MostCopiedDepth = 192;

    /// <summary>Rows that the copy engine stores at a time.</summary>
    public const int StoreRows = 16;

    /// <summary>Tiles for E4M3 products of rows.</summary>
    public static readonly HopperTile[] Fp8Rows =
    [
        new(2, 2, 128, 4, 1), new(2, 1, 192, 5, 1), new(2, 1, 128, 6, 1), new(1, 2, 128, 3, 2), new(2, 1, 64, 8, 1), new(2, 1, 32, 9, 1), new(1, 1, 64, 12, 1), new(1, 1, 32, 16, 1),
    ];

    /// <summary>Tiles for E4M3 weight gradients.</summary>
    public static readonly HopperTile[] Fp8Weights = [new(2, 2, 128, 4, 1), new(1, 2, 128, 3, 2), new(2, 2, 128, 4, 1, Copies: true)];

    /// <summary>Tiles for BF16.</summary>
    public static readonly HopperTile[] BFloat16 = [new(2, 1, 256, 4, 1), new(2, 1, 128, 6, 1)];

    /// <summary>Rows of a tile.</summary>
    public int Rows => 64 * Waves * Teams;

    /// <summary>Threads of a block: the teams, and the warpgroup that loads.</summary>
    public int Threads => TeamThreads * (Teams + 1);

    /// <summary>Dynamic shared memory of a block.</summary>
    /// <param name="groups">Groups in the table.</param>
    /// <param name="scaled">Whether stages hold scales (E4M3 weight gradients).</param>
    public int SharedBytes(int groups, bool scaled) =>
        Alignment + Stages * ((Rows + Columns) * (RowBytes + (scaled ? sizeof(float) : 0)) + 3 * BarrierBytes) + 2 * (groups + 1) * sizeof(int);

    /// <summary>Tiles of a result, or an estimate where groups of rows are ragged: each adds half a tile of rows that are not there.</summary>
    public double Count(long rows, long columns, int groups)
    {
        double down = groups == 1 ? (rows + Rows - 1) / Rows : Math.Max((double)rows / Rows + 0.5 * Math.Min(groups, rows), 1);
        return down * ((columns + Columns - 1) / Columns);
    }

    /// <summary>The tile that is predicted to be fastest.</summary>
    /// <param name="tiles">To choose from.</param>
    /// <param name="rows">Rows of the result, over all groups of rows.</param>
    /// <param name="columns">Columns of the result.</param>
    /// <param name="depth">Length of the sums; the mean where they are grouped.</param>
    /// <param name="groups">Groups of rows; where sums are grouped, results.</param>
    /// <param name="grouped">Whether the groups share out the rows (and not the sums).</param>
    /// <param name="resultBytes">Bytes that a stored element moves.</param>
    /// <param name="multiprocessors">Of the GPU.</param>
    /// <param name="elementBytes">1 for E4M3, 2 for BF16.</param>
    public static HopperTile Choose(
        ReadOnlySpan<HopperTile> tiles, long rows, long columns, double depth, int groups, bool grouped, int resultBytes, int multiprocessors, int elementBytes)
    {
        HopperTile best = tiles[0];
        double least = double.PositiveInfinity;
        foreach (HopperTile tile in tiles)
        {
            if (tile.Copies && (resultBytes > sizeof(float) || depth > MostCopiedDepth)) continue;
            double clocks = tile.Clocks(rows, columns, depth, groups, grouped, resultBytes, multiprocessors, elementBytes);
            if (clocks < least) (best, least) = (tile, clocks);
        }

        return best;
    }

    /// <summary>Predicted clocks of a product, from the multiprocessor's rates.</summary>
    public double Clocks(long rows, long columns, double depth, int groups, bool grouped, int resultBytes, int multiprocessors, int elementBytes)
    {
        // Per clock and multiprocessor: bytes from the second-level cache and to it, and bytes of operands that the tensor cores read.
        const double FromCache = 56, ToCache = 64, FromShared = 128, StartClocks = 700, AddClocks = 150;

        // What columns' scales add to a wave of an E4M3 weight gradient, measured: less where two blocks take turns.
        double scaleClocks = grouped || elementBytes > 1 ? 0 : PerMultiprocessor > 1 ? 200 : 238;
        double steps = Math.Ceiling(depth * elementBytes / RowBytes), side = Rows * RowBytes + Columns * RowBytes;

        // 64 rows by the columns, 128 bytes of the sum: 32 multiply-adds of bytes take a clock for every 64 x 2 of the result.
        double wave = Math.Max(2.0 * Columns, (64 + Columns) * RowBytes / FromShared);
        bool alternates = Teams * PerMultiprocessor > 1;
        double multiply = Teams * Waves * (wave + scaleClocks + (alternates || elementBytes == 2 ? 0 : AddClocks));
        double step = Math.Max(multiply, side / FromCache);
        double store = (double)Rows * Columns * resultBytes / ToCache + StartClocks;
        double tile = steps * step + (Copies ? 0 : PerMultiprocessor > 1 ? 0.3 : 1) * store;
        double count = grouped ? Count(rows, columns, groups) : groups * Count(rows, columns, 1);
        double rounds = Math.Ceiling(count / (multiprocessors * PerMultiprocessor));
        return rounds * PerMultiprocessor * tile;
    }
}

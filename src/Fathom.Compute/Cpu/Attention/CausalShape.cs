// The sizes of a causal attention call, and the choices that follow from them alone. Nothing here knows the number of threads
// except the query block, which no result depends on: a row's numbers are the same in a block of any size.

namespace Fathom.Compute.Cpu.Attention;

/// <summary>Sizes, in the letters of <see cref="Operators.IAttentionOperators"/>.</summary>
/// <param name="Batch">B.</param>
/// <param name="Heads">H.</param>
/// <param name="Queries">T.</param>
/// <param name="Keys">S.</param>
/// <param name="Nope">dn.</param>
/// <param name="Rope">dr.</param>
/// <param name="Value">dv.</param>
internal readonly record struct CausalShape(int Batch, int Heads, int Queries, int Keys, int Nope, int Rope, int Value)
{
    /// <summary>Keys that are packed and multiplied at a time: a multiple of the tile's 12 rows and of its 32 columns.</summary>
    public const int KeyBlock = 96;

    /// <summary>Query rows whose scores are computed together: the rows of a product's widest tile.</summary>
    public const int RowTile = 12;

    /// <summary>Query rows of the backward pass that are gathered before keys and values take their gradients: the depth of these products.</summary>
    public const int RowGroup = 48;

    private const int ManyHeads = 64;

    /// <summary>dn + dr.</summary>
    public int Key => Nope + Rope;

    /// <summary>
    /// Queries of one task of the forward pass. A block of keys is packed once for each, which costs little from a hundred rows
    /// on; smaller blocks where there would be too few tasks for the threads.
    /// </summary>
    public int QueryBlock(int threads)
    {
        int block = 384;
        while (block > RowGroup && (long)Batch * Heads * Blocks(Queries, block) < 4L * threads) block /= 2;
        return block;
    }

    /// <summary>
    /// Keys of one task of the backward pass, which adds up a gradient of the queries of its own; the sums of several are
    /// added in order afterwards. All keys where there are heads enough to share out, otherwise about a quarter.
    /// </summary>
    public int KeyGroup =>
        Batch * Heads >= ManyHeads
            ? Math.Max(KeyBlock, Scratch.RoundUp(Keys, KeyBlock))
            : Math.Max(6 * KeyBlock, Scratch.RoundUp(Blocks(Keys, 4), KeyBlock));

    /// <summary>Number of key groups.</summary>
    public int KeyGroups => Blocks(Keys, KeyGroup);

    /// <summary>How many blocks of a size cover a number of things.</summary>
    public static int Blocks(int count, int size) => (count + size - 1) / size;
}

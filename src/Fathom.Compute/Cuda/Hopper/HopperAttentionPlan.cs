// What follows from sizes alone: whether Hopper's own kernels take a causal call, and in how many blocks. No GPU is needed to ask.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>Shapes of the kernels in hopper_attention*.cu.</summary>
internal static class HopperAttentionPlan
{
    /// <summary>Head dimensions that the kernels are written for: DeepSeek-V3's.</summary>
    public const int Nope = 128, Rope = 64, Value = 128;

    /// <summary>Tokens of a box and of a tile that streams past.</summary>
    public const int Side = 64;

    /// <summary>Tokens that stay in a block.</summary>
    public const int BlockRows = 128;

    /// <summary>Floats that a tile of queries has for its statistics.</summary>
    public const int TileStatistics = 2 * Side;

    /// <summary>Fewer queries than this leave most of a block's rows empty; the kernels of attention_mma.cu have smaller tiles.</summary>
    public const int LeastQueries = 65;

    /// <summary>The compute capability that the kernels are for.</summary>
    public const int Capability = 90;

    private const int Threads = 384, StatisticThreads = 256, StatisticLanes = 16, Alignment = 1024, BarrierBytes = 8, ForwardStages = 2, ForwardBarriers = 10;
    private const int GradientStages = 2, ScoreStages = 2, Teams = 2, GradientBarriers = 9 + 2 * Teams;
    private const int KeyBytes = (Nope + Rope) * sizeof(ushort), ValueBytes = Value * sizeof(ushort);

    /// <summary>Dynamic shared memory of the forward kernel: queries, two tiles of 128 keys and values.</summary>
    public const int ForwardSharedBytes = Alignment + BlockRows * KeyBytes + ForwardStages * BlockRows * (KeyBytes + ValueBytes) + ForwardBarriers * BarrierBytes;

    /// <summary>
    /// Dynamic shared memory of the gradients' kernel: keys and values, two tiles of what streams past with statistics, two of the scores' gradients.
    /// </summary>
    public const int GradientSharedBytes = Alignment + (BlockRows + GradientStages * Side) * (KeyBytes + ValueBytes) + GradientStages * TileStatistics * sizeof(float)
        + ScoreStages * BlockRows * Side * sizeof(ushort) + (GradientBarriers + 1) * BarrierBytes;

    /// <summary>Whether the kernels can compute a call at all.</summary>
    /// <param name="type">Type of the activations.</param>
    /// <param name="sizes">Sizes of the call.</param>
    /// <param name="scale">Softmax scale.</param>
    /// <param name="aligned">Whether all rows begin at multiples of 16 bytes.</param>
    /// <param name="capability">Of the GPU, as 90.</param>
    public static bool CanTake(DType type, in CausalSizes sizes, float scale, bool aligned, int capability) =>
        capability == Capability && type == DType.BF16 && aligned && scale > 0 && sizes is { Nope: Nope, Rope: Rope, Value: Value, Batch: > 0, Heads: > 0, Queries: > 0 } &&
        StatisticRows(sizes) <= int.MaxValue;

    /// <summary>Whether they should: <see cref="CanTake"/>, and enough queries to fill their blocks.</summary>
    public static bool Takes(DType type, in CausalSizes sizes, float scale, bool aligned, int capability) =>
        sizes.Queries >= LeastQueries && CanTake(type, sizes, scale, aligned, capability);

    /// <summary>Whether the gradients' kernels read the forward result in a format: E5M6 with a power of two for each head's row.</summary>
    public static bool ReadsCodes(in OperandTraits output) => output is { Elements: DType.E5M6Pair, Layout: ScaleLayout.RowTile, Scales: DType.F8E8M0 };

    /// <summary>Whether they read it as it lies: values in rows that begin at multiples of 16 bytes, or codes in rows that begin at words.</summary>
    public static bool ReadsOutput(in ScaledTensor output) => output.Layout == ScaleLayout.None
        ? CausalVariant.IsAligned(output.Elements)
        : ReadsCodes(OperandTraits.Of(output)) && (output.Elements.Address | output.Elements.RowStride * output.DType.SizeInBytes()) % sizeof(uint) == 0;

    /// <summary>Tiles of queries, of all heads and sequences.</summary>
    public static long StatisticRows(in CausalSizes sizes) => LaunchShape.Cover(sizes.Queries, Side) * sizes.Heads * sizes.Batch;

    /// <summary>
    /// Heads of sequences whose sums of dQ are under way at the same time, for each of which memory is needed: as many as are begun while the block with
    /// the most queries, twice the mean, is at work, and some more. They should fit into the second-level cache, where they are added to.
    /// </summary>
    public static int Slots(in CausalSizes sizes, int multiprocessors)
    {
        const int More = 4;
        return (int)Math.Min(LaunchShape.Cover(2 * multiprocessors, LaunchShape.Cover(sizes.Keys, BlockRows)) + More, (long)sizes.Heads * sizes.Batch);
    }

    /// <summary>Bytes of so many heads' sums of dQ in F32.</summary>
    public static long QuerySumBytes(in CausalSizes sizes, int slots) => slots * LaunchShape.Cover(sizes.Queries, Side) * Side * (Nope + Rope) * sizeof(float);

    /// <summary>Bytes of the sums of the rotary keys' gradient in F32, which all heads share.</summary>
    public static long RotarySumBytes(in CausalSizes sizes) => sizes.Batch * LaunchShape.Cover(sizes.Keys, BlockRows) * BlockRows * Rope * sizeof(float);

    /// <summary>Words that the gradients' kernel counts in: blocks taken, and how many have added to each half of a sum.</summary>
    public static long CountWords(in CausalSizes sizes, int slots) =>
        1 + Teams * (slots * LaunchShape.Cover(sizes.Queries, Side) + sizes.Batch * LaunchShape.Cover(sizes.Keys, BlockRows));

    /// <summary>Pairs of blocks of queries, a late one with an early one of the same head, which have the same work; a block alone counts as a pair.</summary>
    public static long Pairs(in CausalSizes sizes) => LaunchShape.Cover(LaunchShape.Cover(sizes.Queries, BlockRows), 2) * sizes.Heads * sizes.Batch;

    /// <summary>Blocks of the forward kernel, which take one pair after another.</summary>
    public static LaunchShape ForwardShape(in CausalSizes sizes, int multiprocessors) => new(Math.Min(Pairs(sizes), multiprocessors), Threads, ForwardSharedBytes);

    /// <summary>Blocks of the kernel of statistics.</summary>
    public static LaunchShape StatisticsShape(in CausalSizes sizes) => new(LaunchShape.Cover(StatisticRows(sizes) * Side, StatisticThreads / StatisticLanes), StatisticThreads);

    /// <summary>Blocks of the gradients' kernel, one for 128 keys of a head.</summary>
    public static LaunchShape GradientShape(in CausalSizes sizes) => new(LaunchShape.Cover(sizes.Keys, BlockRows) * sizes.Heads * sizes.Batch, Threads, GradientSharedBytes);
}

// What follows from sizes alone: which causal kernels take a call, in which tiles, in how many blocks. No GPU is needed to ask.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>Which instantiations of the causal kernels take a call.</summary>
/// <param name="Type">Type of the activations.</param>
/// <param name="TensorCores">Kernels of attention_mma.cu, otherwise those of attention.cu.</param>
/// <param name="Nope">On tensor cores dn up to the next 16; otherwise columns of keys that a block takes at a time, both parts together.</param>
/// <param name="Rope">On tensor cores dr up to the next 16; otherwise 0.</param>
/// <param name="Value">On tensor cores dv up to the next 16; otherwise columns of values that a block takes at a time.</param>
internal readonly record struct CausalVariant(DType Type, bool TensorCores, int Nope, int Rope, int Value)
{
    /// <summary>Rows of a tile of the backward pass, and keys of one of the forward pass.</summary>
    public const int Tile = 64;

    private const int MostKeyColumns = 192, MostValueColumns = 128, Quad = 64;

    /// <summary>Threads of a block.</summary>
    public int Threads => TensorCores ? 128 : 256;

    /// <summary>Queries of a block of the forward pass.</summary>
    public int QueryTile => TensorCores ? 128 : Tile;

    /// <summary>Dynamic shared memory of the forward kernel.</summary>
    public int ForwardSharedBytes => TensorCores ? sizeof(ushort) * ((QueryTile + Tile) * (Nope + Rope + 8) + Tile * (Value + 8)) : GeneralSharedBytes(Value);

    /// <summary>Dynamic shared memory of the tensor cores' gradient kernels: two tiles of what streams past, and statistics of two tiles of queries.</summary>
    public int GradientSharedBytes => sizeof(ushort) * Tile * (3 * (Nope + Rope + 8) + 2 * (Value + 8)) + 4 * Tile * sizeof(float);

    /// <summary>Name of the forward kernel.</summary>
    public string Forward => TensorCores ? $"causal_forward_mma<{Nope}, {Rope}, {Value}>" : $"causal_forward<{DTypeNames.Of(Type)}, {Value / Quad}>";

    /// <summary>Name of the kernel of dQ.</summary>
    public string QueryGradient => TensorCores ? $"causal_query_gradient_mma<{Nope}, {Rope}, {Value}>" : Gradient("OfQueries", Nope);

    /// <summary>Name of the kernel of dK, on tensor cores also of dV.</summary>
    public string KeyGradient => TensorCores ? $"causal_key_gradient_mma<{Nope}, {Rope}, {Value}>" : Gradient("OfKeys", Nope);

    /// <summary>Name of the kernel of dV alone.</summary>
    public string ValueGradient => Gradient("OfValues", Value);

    /// <summary>The source file.</summary>
    public string File => TensorCores ? "attention_mma.cu" : "attention.cu";

    /// <summary>
    /// Tensor cores for BF16 whose rows are whole pieces of 16 bytes and whose head dimensions are those of DeepSeek-V3 or less;
    /// the general cores for everything else.
    /// </summary>
    /// <param name="type">Type of the activations.</param>
    /// <param name="sizes">Sizes of the call.</param>
    /// <param name="aligned">Whether all rows begin at multiples of 16 bytes (<see cref="IsAligned"/>).</param>
    /// <param name="sharedBytes">The most shared memory that a block may have.</param>
    public static CausalVariant Choose(DType type, in CausalSizes sizes, bool aligned, int sharedBytes)
    {
        bool fits = type == DType.BF16 && aligned && sizes is { Nope: > 0, Rope: > 0, Value: > 0 } && (sizes.Nope | sizes.Rope | sizes.Value) % 8 == 0;
        var tiles = new CausalVariant(DType.BF16, true, Round(sizes.Nope, 16), Round(sizes.Rope, 16), Round(sizes.Value, 16));
        if (fits && tiles.Nope + tiles.Rope <= MostKeyColumns && tiles.Value <= MostValueColumns && Math.Max(tiles.ForwardSharedBytes, tiles.GradientSharedBytes) <= sharedBytes)
            return tiles;
        return new CausalVariant(type, false, Math.Clamp(Round(sizes.Key, Quad), Quad, MostKeyColumns), 0, Math.Clamp(Round(sizes.Value, Quad), Quad, MostValueColumns));
    }

    /// <summary>Whether every row of a BF16 tensor begins at a multiple of 16 bytes.</summary>
    public static bool IsAligned(in Tensor tensor) => tensor.Address % 16 == 0 && tensor.RowStride % 8 == 0;

    /// <summary>
    /// Heads of a group, which a block of dK takes one after another: many, since each group keeps a sum of the rotary key's gradient,
    /// but few enough that every multiprocessor has some blocks.
    /// </summary>
    public static int GroupHeads(in CausalSizes sizes, int multiprocessors)
    {
        const int blocksEach = 6;
        long tiles = Math.Max(1, LaunchShape.Cover(sizes.Keys, Tile) * sizes.Batch);
        long groups = Math.Clamp(LaunchShape.Cover((long)blocksEach * multiprocessors, tiles), 1, sizes.Heads);
        return (int)LaunchShape.Cover(sizes.Heads, groups);
    }

    /// <summary>Blocks of the forward kernel.</summary>
    public LaunchShape ForwardShape(in CausalSizes sizes) =>
        new((LaunchShape.Cover(sizes.Queries, QueryTile) * (TensorCores ? 1 : LaunchShape.Cover(sizes.Value, Value)), sizes.Heads, sizes.Batch), Threads, ForwardSharedBytes);

    /// <summary>Blocks of the kernel of dQ.</summary>
    public LaunchShape QueryGradientShape(in CausalSizes sizes) => TensorCores
        ? new((LaunchShape.Cover(sizes.Queries, Tile), sizes.Heads, sizes.Batch), Threads, GradientSharedBytes)
        : GradientShape(sizes, sizes.Key, Nope, sizes.Heads);

    /// <summary>Blocks of the kernel of dK.</summary>
    public LaunchShape KeyGradientShape(in CausalSizes sizes, int groups) => TensorCores
        ? new((groups, LaunchShape.Cover(sizes.Keys, Tile), sizes.Batch), Threads, GradientSharedBytes)
        : GradientShape(sizes, sizes.Key, Nope, groups);

    /// <summary>Blocks of the kernel of dV alone.</summary>
    public LaunchShape ValueGradientShape(in CausalSizes sizes) => GradientShape(sizes, sizes.Value, Value, sizes.Heads);

    private static int GeneralSharedBytes(int columns) => sizeof(float) * (2 * Tile * 36 + Tile * 68 + 32 * columns);

    private static int Round(int value, int to) => (value + to - 1) / to * to;

    private string Gradient(string of, int columns) => $"causal_gradient<{DTypeNames.Of(Type)}, {of}, {columns / Quad}>";

    private LaunchShape GradientShape(in CausalSizes sizes, int columns, int chunk, int groups) =>
        new((LaunchShape.Cover(columns, chunk), groups, LaunchShape.Cover(sizes.Queries, Tile) * sizes.Batch), Threads, GeneralSharedBytes(chunk));
}

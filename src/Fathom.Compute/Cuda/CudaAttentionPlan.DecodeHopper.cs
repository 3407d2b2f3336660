using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>
/// Decode on Hopper's own instructions, for the sizes of DeepSeek-V2 and V3: which calls it takes, its kernels and its blocks. No result
/// depends on <see cref="Tiles"/>.
/// </summary>
/// <param name="Weights">Type of kv_b_proj's elements, BF16 or E4M3.</param>
/// <param name="Tiles">Sixteens of sequences that a block takes into the latent space: 1 or 2.</param>
internal readonly record struct HopperDecodeVariant(DType Weights, int Tiles)
{
    /// <summary>Capability that the kernels are for.</summary>
    public const int Capability = 90;

    /// <summary>Columns of a query in the latent space: R + dr.</summary>
    public const int QueryLength = Latent + Rope;

    /// <summary>Heads of a block, and cached tokens that it multiplies at a time.</summary>
    public const int Tile = 64;

    /// <summary>Threads of a block of the attention kernel: the loader's, the scorer's and two summers' 128.</summary>
    public const int AttendThreads = 512;

    /// <summary>Dynamic shared memory of the attention kernel: queries and two stages of keys, barriers, factors; and room to begin at a multiple of 1024.</summary>
    public const int AttendSharedBytes = 3 * QueryLength * Tile * sizeof(ushort) + 23 * sizeof(ulong) + 4 * Tile * sizeof(float) + 2 * sizeof(int) + 1024;

    /// <summary>Name of the attention kernel.</summary>
    public const string Attend = "decode_attend_hopper";

    private const int Nope = 128, Rope = 64, Value = 128, Latent = 512, Alignment = 16, FragmentRows = 16, ProjectThreads = 512;

    /// <summary>Name of the kernel that takes queries into the latent space.</summary>
    public string Absorb => $"decode_absorb_mma<{DTypeNames.Of(Weights)}, {Tiles}>";

    /// <summary>Name of the kernel that joins splits and takes results out of the latent space.</summary>
    public string Project => $"decode_project_mma<{DTypeNames.Of(Weights)}>";

    /// <summary>Whether a call is these kernels'.</summary>
    /// <param name="capability">Of the GPU.</param>
    /// <param name="type">Type of queries and results.</param>
    /// <param name="sizes">Sizes of the call.</param>
    /// <param name="weights">kv_b_proj.</param>
    /// <param name="cache">The cache.</param>
    /// <param name="aligned">Whether rows of queries, results and cache begin at multiples of 16 bytes.</param>
    public static bool Fits(int capability, DType type, in DecodeSizes sizes, in ScaledTensor weights, in Tensor cache, bool aligned)
    {
        int size = weights.DType.SizeInBytes();
        return capability == Capability && type == DType.BF16 && cache.DType == DType.BF16 && weights.DType is DType.BF16 or DType.F8E4M3 &&
            sizes is { Nope: Nope, Rope: Rope, Value: Value, Latent: Latent, BlockSize: > 0 } && sizes.BlockSize % Tile == 0 &&
            aligned && weights.Elements.Address % Alignment == 0 && weights.Elements.RowStride * size % Alignment == 0 &&
            cache.Rows is > 0 and <= int.MaxValue && (long)sizes.Batch * sizes.Heads <= int.MaxValue;
    }

    /// <summary>Two sixteens of sequences to a block where there are more than one: weights are then read half as often.</summary>
    public static HopperDecodeVariant Choose(DType weights, in DecodeSizes sizes) => new(weights, sizes.Batch <= FragmentRows ? 1 : 2);

    /// <summary>Blocks of the kernel that takes queries into the latent space: a warp for 128 bytes of a row, with shared memory for all that it reads.</summary>
    public LaunchShape AbsorbShape(in DecodeSizes sizes)
    {
        int threads = Latent * Weights.SizeInBytes() / 128 * 32;
        return new LaunchShape((sizes.Heads, LaunchShape.Cover(sizes.Batch, FragmentRows * Tiles), 1), threads, threads * Nope / 32 * (8 + 2 * Tiles) * Alignment);
    }

    /// <summary>Blocks of the attention kernel: each stays and takes parts, 64 heads by a split, in turn.</summary>
    public static LaunchShape AttendShape(in DecodeSizes sizes, int splits, int multiprocessors)
    {
        long parts = checked((int)(LaunchShape.Cover(sizes.Heads, Tile) * splits * sizes.Batch));
        return new LaunchShape(Math.Min(parts, multiprocessors), AttendThreads, AttendSharedBytes);
    }

    /// <summary>Blocks of the kernel that joins splits and takes results out of the latent space.</summary>
    public static LaunchShape ProjectShape(in DecodeSizes sizes) => new((sizes.Heads, LaunchShape.Cover(sizes.Batch, FragmentRows), 1), ProjectThreads);
}

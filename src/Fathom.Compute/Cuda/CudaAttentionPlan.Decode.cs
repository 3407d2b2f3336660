using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>Which instantiations of the decode kernels take a call. No result depends on <see cref="Heads"/> or <see cref="Queries"/>.</summary>
/// <param name="Type">Type of queries and results.</param>
/// <param name="Weights">Type of kv_b_proj's elements.</param>
/// <param name="Cache">Type of the cache.</param>
/// <param name="TensorCores">Attention over BF16 latents on tensor cores, otherwise in F32.</param>
/// <param name="Heads">Heads of a block.</param>
/// <param name="Latent">On tensor cores R, otherwise columns of latents of a block: 256, 512 or 1024.</param>
/// <param name="Key">On tensor cores R + dr up to the next 32, otherwise 0.</param>
/// <param name="Queries">Sequences that a block takes into and out of the latent space.</param>
internal readonly record struct DecodeVariant(DType Type, DType Weights, DType Cache, bool TensorCores, int Heads, int Latent, int Key, int Queries)
{
    /// <summary>Threads of a block.</summary>
    public const int Threads = 256;

    /// <summary>The longest latent.</summary>
    public const int MostLatent = 4 * Threads;

    private const int ShortSplit = 384, LongSplit = 512, ManySplits = 32, TokenTile = 32, Stages = 3, SmallestHeads = 16, LargestHeads = 64, MostTensorLatent = 512, ManyQueries = 8;
    private const int ColumnBlock = 256, ColumnGroups = 4, ProjectRows = 32;

    /// <summary>Name of the kernel that takes queries into the latent space.</summary>
    public string Absorb => $"decode_absorb<{DTypeNames.Of(Type)}, {DTypeNames.Of(Weights)}, {(TensorCores ? "bf16" : "float")}, {Queries}>";

    /// <summary>Name of the attention kernel.</summary>
    public string Attend => TensorCores ? $"decode_attend_mma<{Heads}, {Latent}, {Key}, {CacheName}>" : $"decode_attend<{CacheName}, {Latent / Threads}>";

    /// <summary>Name of the kernel that takes results out of the latent space.</summary>
    public string Project => $"decode_project<{DTypeNames.Of(Type)}, {DTypeNames.Of(Weights)}, {Queries}>";

    /// <summary>Dynamic shared memory of the attention kernel on tensor cores.</summary>
    public int TensorSharedBytes => sizeof(ushort) * (Heads + Stages * TokenTile) * (Key + 8) + Heads * (sizeof(float) * (TokenTile + 4) + sizeof(ushort) * (TokenTile + 8) + 3 * sizeof(float));

    /// <summary>
    /// Tensor cores where queries are BF16 and the cache is no wider, the latent is whole pieces of 16 and at most 512. As many heads to a block as leave
    /// each multiprocessor a block, since all heads of a block share what it reads.
    /// </summary>
    /// <param name="type">Type of queries and results.</param>
    /// <param name="weights">Type of kv_b_proj's elements.</param>
    /// <param name="cache">Type of the cache.</param>
    /// <param name="sizes">Sizes of the call.</param>
    /// <param name="splits">The most splits of a sequence.</param>
    /// <param name="aligned">Whether cached tokens begin at multiples of 16 bytes.</param>
    /// <param name="multiprocessors">Of the GPU.</param>
    /// <param name="sharedBytes">The most shared memory that a block may have.</param>
    public static DecodeVariant Choose(
        DType type, DType weights, DType cache, in DecodeSizes sizes, int splits, bool aligned, int multiprocessors, int sharedBytes)
    {
        int queries = sizes.Batch == 1 ? 1 : ManyQueries, columns = sizes.Latent <= Threads ? 1 : sizes.Latent <= 2 * Threads ? 2 : 4;
        var general = new DecodeVariant(type, weights, cache, false, SmallestHeads, columns * Threads, 0, queries);
        bool fits = type == DType.BF16 && cache is DType.BF16 or DType.F8E4M3 && aligned && sizes.Latent % 16 == 0 && sizes.Latent is > 0 and <= MostTensorLatent && sizes.Key % 8 == 0;
        if (!fits) return general;
        DecodeVariant tensor = general with { TensorCores = true, Heads = LargestHeads, Latent = sizes.Latent, Key = (sizes.Key + 31) / 32 * 32 };
        while (tensor.Heads > SmallestHeads && (tensor.TensorSharedBytes > sharedBytes || Wasteful(tensor.Heads, sizes) || LaunchShape.Cover(sizes.Heads, tensor.Heads) * splits * sizes.Batch < multiprocessors))
            tensor = tensor with { Heads = tensor.Heads / 2 };
        return tensor.TensorSharedBytes <= sharedBytes ? tensor : general;
    }

    /// <summary>
    /// Tokens of a split, of a sequence's own length alone: 384 up to 32 splits, then as many times 512 as keep to 32. split_length in
    /// attention_decode.cuh.
    /// </summary>
    public static long SplitTokens(long length) =>
        length <= ShortSplit * ManySplits ? ShortSplit : LaunchShape.Cover(length, LongSplit * ManySplits) * LongSplit;

    /// <summary>The most splits of a sequence of up to so many tokens.</summary>
    public static int MostSplits(long tokens) => (int)Math.Clamp(LaunchShape.Cover(tokens, ShortSplit), 1, ManySplits);

    /// <summary>Blocks of the kernel that takes queries into the latent space.</summary>
    public LaunchShape AbsorbShape(in DecodeSizes sizes) => new(
        (LaunchShape.Cover(Math.Max(1, sizes.Latent), ColumnBlock), sizes.Heads, LaunchShape.Cover(sizes.Batch, Queries)), Threads,
        sizeof(float) * ((Queries * sizes.Nope + 3) / 4 * 4 + ColumnGroups * Queries * ColumnBlock));

    /// <summary>Blocks of the attention kernel.</summary>
    public LaunchShape AttendShape(in DecodeSizes sizes, int splits) => new(
        (LaunchShape.Cover(sizes.Heads, Heads), splits, sizes.Batch), Threads,
        TensorCores ? TensorSharedBytes : sizeof(float) * (Heads + TokenTile) * ((sizes.Key + 3) / 4 * 4 + 4));

    /// <summary>Blocks of the kernel that takes results out of the latent space.</summary>
    public LaunchShape ProjectShape(in DecodeSizes sizes) => new(
        (LaunchShape.Cover(sizes.Value, ProjectRows), sizes.Heads, LaunchShape.Cover(sizes.Batch, Queries)), Threads, sizeof(float) * Queries * ((sizes.Latent + 3) / 4 * 4));

    private string CacheName => Cache == DType.F8E4M3 ? "latent8" : DTypeNames.Of(Cache);

    // More than half of a block's heads would be missing.
    private static bool Wasteful(int heads, in DecodeSizes sizes) => heads / 2 >= sizes.Heads;
}

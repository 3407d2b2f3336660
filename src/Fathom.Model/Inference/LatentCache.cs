// The key-value cache of MLA: for every token and layer one row of R + dr numbers (LatentRow), in blocks of 64 tokens that sequences own.
// All layers share one numbering of blocks, so a sequence has one block table.
using Fathom.Compute;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>The memory of a pool of cache blocks, for all layers.</summary>
public sealed class LatentCache
{
    private readonly Tensor[] layers;

    /// <summary>Allocates the pool.</summary>
    /// <param name="device">Where it lies.</param>
    /// <param name="config">The model.</param>
    /// <param name="capacity">Tokens of all sequences together; rounded up to whole blocks.</param>
    /// <param name="dtype">F32, BF16, or F8E4M3: latents in codes with a scale for each 128, rotary keys in BF16.</param>
    /// <param name="mtpModules">MTP modules that are cached as well, behind the transformer layers.</param>
    /// <exception cref="FathomException">The memory is not to be had, or the model's latents cannot lie in codes.</exception>
    public LatentCache(Device device, ModelConfig config, long capacity, DType dtype = DType.BF16, int mtpModules = 0)
    {
        Pool = new BlockPool(checked((int)((capacity + BlockPool.BlockSize - 1) / BlockPool.BlockSize)));
        ScratchSlot = Pool.Blocks * BlockPool.BlockSize;
        var row = new LatentRow(dtype, config.KvLoraRank, config.QkRopeHeadDim);
        if (!row.IsPossible)
            throw new FathomException($"a cache of {dtype} is not possible for kv_lora_rank {row.Latent} and qk_rope_head_dim {row.Rope}: FP8 needs them divisible by 4 and by 2; take F32 or BF16");
        Shape shape = new(Pool.Blocks + 1, BlockPool.BlockSize, row.Columns);
        layers = [.. Enumerable.Range(0, config.NumHiddenLayers + mtpModules).Select(_ => device.Allocate(shape, dtype, MemoryKind.KeyValueCache))];
    }

    /// <summary>Bytes of a token, in all layers.</summary>
    public long BytesPerToken => layers[0].Columns * layers[0].DType.SizeInBytes() * layers.Length;

    /// <summary>Who owns which block.</summary>
    public BlockPool Pool { get; }

    /// <summary>
    /// First row of a block behind the pool's, which is nobody's: rows that only fill a pass up to a size write there.
    /// </summary>
    internal int ScratchSlot { get; }

    /// <summary>The cache of one layer, [blocks + 1, 64, columns of a row].</summary>
    public Tensor Layer(int layer) => layers[layer];
}

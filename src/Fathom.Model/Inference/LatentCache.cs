// The key-value cache of MLA: for every token and layer one row of R + dr numbers, in blocks of 64 tokens that sequences own. All
// layers share one numbering of blocks, so a sequence has one block table.
using Fathom.Compute;
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
    /// <param name="dtype">F32 or BF16.</param>
    /// <param name="mtpModules">MTP modules that are cached as well, behind the transformer layers.</param>
    /// <exception cref="FathomException">The memory is not to be had.</exception>
    public LatentCache(Device device, ModelConfig config, long capacity, DType dtype = DType.BF16, int mtpModules = 0)
    {
        Pool = new BlockPool(checked((int)((capacity + BlockPool.BlockSize - 1) / BlockPool.BlockSize)));
        Shape shape = new(Pool.Blocks, BlockPool.BlockSize, config.KvLoraRank + config.QkRopeHeadDim);
        layers = [.. Enumerable.Range(0, config.NumHiddenLayers + mtpModules).Select(_ => device.Allocate(shape, dtype, MemoryKind.KeyValueCache))];
    }

    /// <summary>Who owns which block.</summary>
    public BlockPool Pool { get; }

    /// <summary>The cache of one layer, [blocks, 64, R + dr].</summary>
    public Tensor Layer(int layer) => layers[layer];
}

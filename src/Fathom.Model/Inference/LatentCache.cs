// The key-value cache of MLA: for every token and layer one row of R + dr numbers, in blocks of 64 tokens that sequences own. All
// layers share one numbering of blocks, so a sequence has one block table.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>A pool of cache blocks for all layers.</summary>
public sealed class LatentCache
{
    /// <summary>Tokens of a block.</summary>
    public const int BlockSize = 64;

    private readonly Tensor[] layers;
    private readonly Stack<int> free;

    /// <summary>Allocates the pool.</summary>
    /// <param name="device">Where it lies.</param>
    /// <param name="config">The model; its transformer layers are cached, not its MTP modules.</param>
    /// <param name="capacity">Tokens of all sequences together; rounded up to whole blocks.</param>
    /// <param name="dtype">F32 or BF16.</param>
    /// <exception cref="FathomException">The memory is not to be had.</exception>
    public LatentCache(Device device, ModelConfig config, long capacity, DType dtype = DType.BF16)
    {
        Blocks = checked((int)((capacity + BlockSize - 1) / BlockSize));
        Shape shape = new(Blocks, BlockSize, config.KvLoraRank + config.QkRopeHeadDim);
        layers = [.. Enumerable.Range(0, config.NumHiddenLayers).Select(_ => device.Allocate(shape, dtype, MemoryKind.KeyValueCache))];
        free = new Stack<int>(Enumerable.Range(0, Blocks).Reverse());
    }

    /// <summary>Number of blocks in the pool.</summary>
    public int Blocks { get; }

    /// <summary>Blocks that no sequence owns.</summary>
    public int FreeBlocks => free.Count;

    /// <summary>The cache of one layer, [blocks, 64, R + dr].</summary>
    public Tensor Layer(int layer) => layers[layer];

    internal bool TryTakeBlock(out int block) => free.TryPop(out block);

    internal void GiveBack(int block) => free.Push(block);
}

/// <summary>The cached tokens of one sequence.</summary>
public sealed class CachedSequence(LatentCache cache) : IDisposable
{
    private readonly List<int> blocks = [];

    /// <summary>Tokens in the cache.</summary>
    public int Length { get; private set; }

    /// <summary>The blocks in order.</summary>
    public IReadOnlyList<int> Blocks => blocks;

    /// <summary>Makes room for more tokens.</summary>
    /// <returns>Whether the pool had enough blocks; if not, nothing has changed.</returns>
    public bool TryGrow(int tokens)
    {
        int needed = (Length + tokens + LatentCache.BlockSize - 1) / LatentCache.BlockSize;
        if (needed - blocks.Count > cache.FreeBlocks) return false;
        while (blocks.Count < needed && cache.TryTakeBlock(out int block)) blocks.Add(block);
        Length += tokens;
        return true;
    }

    /// <summary>Forgets all tokens from a position on.</summary>
    public void Truncate(int length)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        Length = length;
        int needed = (length + LatentCache.BlockSize - 1) / LatentCache.BlockSize;
        for (; blocks.Count > needed; blocks.RemoveAt(blocks.Count - 1)) cache.GiveBack(blocks[^1]);
    }

    /// <summary>The cache row of a position.</summary>
    public int Slot(int position) => blocks[position / LatentCache.BlockSize] * LatentCache.BlockSize + position % LatentCache.BlockSize;

    /// <summary>Gives all blocks back.</summary>
    public void Dispose() => Truncate(0);
}

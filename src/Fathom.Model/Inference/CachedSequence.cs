namespace Fathom.Model;

/// <summary>The cached tokens of one sequence: a table of blocks, and how many tokens they hold.</summary>
/// <param name="pool">Where blocks come from.</param>
public sealed class CachedSequence(BlockPool pool) : IDisposable
{
    private readonly List<int> blocks = [];

    /// <summary>Tokens in the cache.</summary>
    public int Length { get; private set; }

    /// <summary>The blocks in order; there may be more than the tokens need.</summary>
    public IReadOnlyList<int> Blocks => blocks;

    /// <summary>Tokens that fit without another block.</summary>
    public int Capacity => blocks.Count * BlockPool.BlockSize;

    /// <summary>Takes blocks for so many tokens.</summary>
    /// <param name="tokens">All tokens of the sequence, those cached among them.</param>
    /// <returns>Whether the pool had enough; if not, nothing has changed.</returns>
    public bool TryReserve(int tokens)
    {
        int needed = BlockPool.BlocksOf(tokens);
        if (needed - blocks.Count > pool.FreeBlocks) return false;
        while (blocks.Count < needed && pool.TryTake(out int block)) blocks.Add(block);
        return true;
    }

    /// <summary>Makes room for more tokens, and counts them as cached.</summary>
    /// <returns>Whether the pool had enough blocks; if not, nothing has changed.</returns>
    public bool TryGrow(int tokens)
    {
        if (!TryReserve(Length + tokens)) return false;
        Length += tokens;
        return true;
    }

    /// <summary>Takes the next block over from whoever computed it, in place of one that was reserved.</summary>
    /// <param name="contents">What the block holds.</param>
    /// <returns>Whether there is such a block.</returns>
    /// <exception cref="InvalidOperationException">The sequence does not end with a full block.</exception>
    public bool TryShare(in BlockHash contents)
    {
        if (Length % BlockPool.BlockSize != 0) throw new InvalidOperationException($"a block can be shared behind whole blocks, not behind {Length} tokens");
        if (!pool.TryTake(contents, out int block)) return false;
        int at = Length / BlockPool.BlockSize;
        if (at == blocks.Count)
        {
            blocks.Add(block);
        }
        else
        {
            pool.Return(blocks[at]);
            blocks[at] = block;
        }

        Length += BlockPool.BlockSize;
        return true;
    }

    /// <summary>Lets a full block be found by others. Nothing may be written to it from here on.</summary>
    /// <param name="block">Number of the block within the sequence.</param>
    /// <param name="contents">What it holds.</param>
    public void Publish(int block, in BlockHash contents) => pool.Publish(blocks[block], contents);

    /// <summary>Forgets all tokens from a position on, and gives blocks back that are not needed then.</summary>
    public void Truncate(int length)
    {
        Rewind(length);
        int needed = BlockPool.BlocksOf(length);
        for (; blocks.Count > needed; blocks.RemoveAt(blocks.Count - 1)) pool.Return(blocks[^1]);
    }

    /// <summary>Forgets all tokens from a position on, and keeps the blocks.</summary>
    public void Rewind(int length)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        Length = length;
    }

    /// <summary>The cache row of a position.</summary>
    public int Slot(int position) => blocks[position / BlockPool.BlockSize] * BlockPool.BlockSize + position % BlockPool.BlockSize;

    /// <summary>Gives all blocks back.</summary>
    public void Dispose() => Truncate(0);
}

// Who owns which block of the cache. A block is in use by some sequences, or free; a free one may still be found by the hash of what it
// holds until its turn comes to be written over: first those that hold nothing of use, then the one that was given back longest ago.
// A sequence gives its last block back first, so that of a chain the end goes before the beginning that everything depends on.

namespace Fathom.Model;

/// <summary>Reference-counted blocks with an index of what they hold. Not thread-safe.</summary>
public sealed class BlockPool
{
    /// <summary>Tokens of a block.</summary>
    public const int BlockSize = 64;

    private const int None = -1;
    private readonly int[] users;
    private readonly BlockHash?[] hashes;
    private readonly Dictionary<BlockHash, int> index = [];
    private readonly Stack<int> empty;

    // Free blocks that hold something, oldest first, as a doubly linked list.
    private readonly int[] older;
    private readonly int[] newer;
    private int oldest = None;
    private int newest = None;
    private int kept;

    /// <summary>A pool of free blocks.</summary>
    /// <param name="blocks">How many.</param>
    public BlockPool(int blocks)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(blocks);
        users = new int[blocks];
        hashes = new BlockHash?[blocks];
        older = new int[blocks];
        newer = new int[blocks];
        empty = new Stack<int>(Enumerable.Range(0, blocks).Reverse());
    }

    /// <summary>Number of blocks.</summary>
    public int Blocks => users.Length;

    /// <summary>Blocks that no sequence uses.</summary>
    public int FreeBlocks => empty.Count + kept;

    /// <summary>Free blocks that can still be found by what they hold.</summary>
    public int KeptBlocks => kept;

    /// <summary>Blocks that cover a number of tokens.</summary>
    public static int BlocksOf(int tokens) => (tokens + BlockSize - 1) / BlockSize;

    /// <summary>Takes a free block, to be written.</summary>
    /// <returns>Whether there was one.</returns>
    public bool TryTake(out int block)
    {
        if (!empty.TryPop(out block))
        {
            if (oldest == None) return false;
            block = oldest;
            Unlink(block);
            Forget(block);
        }

        users[block] = 1;
        return true;
    }

    /// <summary>Takes the block that holds something, free or in use; it must not be written.</summary>
    /// <returns>Whether there is one.</returns>
    public bool TryTake(in BlockHash contents, out int block)
    {
        if (!index.TryGetValue(contents, out block)) return false;
        if (users[block]++ == 0) Unlink(block);
        return true;
    }

    /// <summary>Whether there is a block, free or in use, that holds something.</summary>
    public bool Holds(in BlockHash contents) => index.ContainsKey(contents);

    /// <summary>Lets a full block be found. Where another block holds the same, that one stays the one that is found.</summary>
    /// <param name="block">In use, and written for the last time.</param>
    /// <param name="contents">What it holds.</param>
    public void Publish(int block, in BlockHash contents)
    {
        if (hashes[block] is null && index.TryAdd(contents, block)) hashes[block] = contents;
    }

    /// <summary>Gives a block back.</summary>
    public void Return(int block)
    {
        if (users[block] == 0) throw new InvalidOperationException($"block {block} is given back, but in nobody's use");
        if (--users[block] > 0) return;
        if (hashes[block] is null) empty.Push(block);
        else Link(block);
    }

    /// <summary>Forgets what free blocks hold, and lets nothing of what is in use be found.</summary>
    public void ForgetAll()
    {
        while (oldest != None)
        {
            int block = oldest;
            Unlink(block);
            empty.Push(block);
        }

        Array.Clear(hashes);
        index.Clear();
    }

    private void Forget(int block)
    {
        if (hashes[block] is { } contents) index.Remove(contents);
        hashes[block] = null;
    }

    private void Link(int block)
    {
        (older[block], newer[block]) = (newest, None);
        if (newest == None) oldest = block;
        else newer[newest] = block;
        newest = block;
        kept++;
    }

    private void Unlink(int block)
    {
        if (older[block] == None) oldest = newer[block];
        else newer[older[block]] = newer[block];
        if (newer[block] == None) newest = older[block];
        else older[newer[block]] = older[block];
        kept--;
    }
}

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>How many blocks of how many threads, with how much dynamic shared memory each.</summary>
/// <param name="Grid">Blocks; none of them zero, or nothing is launched. At most 2^31 - 1 by 65535 by 65535.</param>
/// <param name="Block">Threads of a block.</param>
/// <param name="SharedBytes">Dynamic shared memory of a block.</param>
internal readonly record struct LaunchShape((long X, long Y, long Z) Grid, int Block, int SharedBytes = 0)
{
    /// <summary>A row of blocks.</summary>
    public LaunchShape(long blocks, int threads, int sharedBytes = 0)
        : this((blocks, 1, 1), threads, sharedBytes)
    {
    }

    /// <summary>Whether there is nothing to launch.</summary>
    public bool IsEmpty => Grid.X == 0 || Grid.Y == 0 || Grid.Z == 0;

    /// <summary>Blocks that cover a number of elements.</summary>
    public static long Cover(long elements, long perBlock) => (elements + perBlock - 1) / perBlock;

    /// <inheritdoc/>
    public override string ToString() => $"{Grid.X} x {Grid.Y} x {Grid.Z} blocks of {Block} threads, {SharedBytes} bytes of dynamic shared memory";
}

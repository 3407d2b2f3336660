// Working memory of the attention kernels: one block for each thread of the team and one that all share. Blocks only grow, so
// that a step after the first at given shapes asks the system for nothing. Their contents are whatever the last use left.
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Attention;

/// <summary>Grow-only scratch memory.</summary>
internal sealed unsafe class Scratch(int workers)
{
    // Rows of scratch matrices are an odd number of cache lines long: with an even number, the rows of a tile would compete for
    // the same few sets of the first-level cache. 32 is the widest column step of a product.
    private const int Line = 16, WidestStep = 32;

    private readonly Tensor[] perWorker = new Tensor[workers];
    private Tensor shared;

    /// <summary>Row length of a scratch matrix that products may write in whole column steps.</summary>
    public static int RowLength(int columns) => RoundUp(columns, WidestStep) + Line;

    /// <summary>The next multiple.</summary>
    public static int RoundUp(int value, int multiple) => (value + multiple - 1) / multiple * multiple;

    /// <summary>Makes room for so many floats a worker and in the shared block.</summary>
    public void Reserve(long floatsPerWorker, long sharedFloats)
    {
        if (perWorker[0].IsEmpty || perWorker[0].Elements < floatsPerWorker)
        {
            for (int i = 0; i < perWorker.Length; i++) perWorker[i] = HostMemory.Allocate(new Shape(floatsPerWorker), DType.F32);
        }

        if (sharedFloats > 0 && (shared.IsEmpty || shared.Elements < sharedFloats)) shared = HostMemory.Allocate(new Shape(sharedFloats), DType.F32);
    }

    /// <summary>A worker's own block.</summary>
    public float* Worker(int worker) => perWorker[worker].Pointer<float>();

    /// <summary>The block that all share; null where none was asked for.</summary>
    public float* Shared => shared.Pointer<float>();
}

/// <summary>Cuts a block into aligned parts. Started at null it only counts.</summary>
internal unsafe ref struct Layout(float* start)
{
    private readonly float* first = start;
    private long taken;

    /// <summary>The next part.</summary>
    public float* Take(long floats)
    {
        float* part = first + taken;
        taken += (floats + 15) / 16 * 16;
        return part;
    }

    /// <summary>Floats taken so far.</summary>
    public readonly long Floats => taken;
}

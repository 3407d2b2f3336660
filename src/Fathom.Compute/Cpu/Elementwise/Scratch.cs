// Memory that a kernel needs only while it runs. It belongs to the thread, not to the operator family: an operator may be called
// from several threads at once, and from within a tile of another. It only grows, so a step after the first allocates nothing.
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>One growing block a thread. Contents are whatever was there before.</summary>
internal sealed class Scratch
{
    [ThreadStatic]
    private static Scratch? ofJob;

    [ThreadStatic]
    private static Scratch? ofTile;

    private Tensor memory;

    private Scratch()
    {
    }

    /// <summary>For the thread that launches a job, to be shared by the job's tiles; valid until it launches the next one.</summary>
    public static Scratch OfJob => ofJob ??= new Scratch();

    /// <summary>For the tile that the thread is running; valid until the tile ends.</summary>
    public static Scratch OfTile => ofTile ??= new Scratch();

    /// <summary>The block, at least this many bytes long. A second call gives the same memory.</summary>
    public unsafe byte* Take(long bytes)
    {
        if (memory.IsEmpty || memory.Bytes < bytes) memory = HostMemory.Allocate(new Shape(Math.Max(4096, bytes * 5 / 4)), DType.U8);
        return memory.Pointer<byte>();
    }
}

// Small uploads (tables of a pass, positions, ids) come many times a step, and waiting for each would stop the processor until the GPU
// has caught up. They are copied into page-locked memory first, from where the GPU fetches them in its own time.
using Fathom.Compute.Cuda.Interop;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>Page-locked memory that small uploads pass through, one behind the other; waits only where it is full.</summary>
internal sealed unsafe class UploadRing(CudaContext context)
{
    /// <summary>What counts as small.</summary>
    internal const long MostBytes = 64 << 10;

    private const long Capacity = 16 * MostBytes, Alignment = 64;
    private readonly PinnedMemory memory = new(context, Capacity);
    private long used;

    /// <summary>Copies from memory that may be written again at once, if it is little.</summary>
    /// <returns>Whether it is.</returns>
    public bool TryCopy(nint from, nint to, long bytes)
    {
        if (bytes > MostBytes) return false;
        long room = (bytes + Alignment - 1) / Alignment * Alignment;
        if (used + room > Capacity)
        {
            context.Stream.Synchronize();
            used = 0;
        }

        nint place = memory.Address + (nint)used;
        Buffer.MemoryCopy((void*)from, (void*)place, room, bytes);
        CudaException.Check(Driver.CopyToDevice(to, place, (nuint)bytes, context.Stream.Handle), "cuMemcpyHtoDAsync");
        used += room;
        return true;
    }
}

// Bump allocation for a step: activations and workspace are taken in order and given back all at once, so that a step after
// the first one asks the system for nothing. Chunks only grow; a step that needs more than the last adds a chunk and keeps it.
using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>A stack of tensors on one device. Not thread-safe: one arena belongs to one micro-batch.</summary>
public sealed class Arena(Device device, MemoryKind kind, long chunkBytes = 16 << 20)
{
    private const long Alignment = 64;
    private readonly List<Tensor> chunks = [];
    private int chunk;
    private long used;

    /// <summary>A point to go back to.</summary>
    /// <param name="Chunk">Index of the chunk in use.</param>
    /// <param name="Used">Bytes used of it.</param>
    public readonly record struct Mark(int Chunk, long Used);

    /// <summary>The most bytes that were in use at one time.</summary>
    public long PeakBytes { get; private set; }

    /// <summary>Bytes in use.</summary>
    public long UsedBytes
    {
        get
        {
            long total = used;
            for (int i = 0; i < chunk; i++) total += chunks[i].Bytes;
            return total;
        }
    }

    /// <summary>Takes a tensor; its contents are whatever the memory held.</summary>
    public Tensor Take(Shape shape, DType dtype = DType.F32)
    {
        long bytes = (shape.Elements * dtype.SizeInBytes() + Alignment - 1) / Alignment * Alignment;
        while (chunk < chunks.Count && used + bytes > chunks[chunk].Bytes)
        {
            chunk++;
            used = 0;
        }

        if (chunk == chunks.Count) chunks.Add(device.Allocate(new Shape(Math.Max(bytes, chunkBytes)), DType.U8, kind));
        var tensor = new Tensor(chunks[chunk].Address + (nint)used, dtype, shape, chunks[chunk].Owner);
        used += bytes;
        PeakBytes = Math.Max(PeakBytes, UsedBytes);
        return tensor;
    }

    /// <summary>Whether a tensor's memory is of this arena.</summary>
    public bool Holds(in Tensor tensor)
    {
        for (int i = 0; i <= chunk && i < chunks.Count; i++)
        {
            if (tensor.Address >= chunks[i].Address && tensor.Address - chunks[i].Address < chunks[i].Bytes) return true;
        }

        return false;
    }

    /// <summary>Where the stack stands.</summary>
    public Mark Position => new(chunk, used);

    /// <summary>Gives back everything taken since <paramref name="mark"/>.</summary>
    public void Release(Mark mark) => (chunk, used) = (mark.Chunk, mark.Used);

    /// <summary>Gives back everything.</summary>
    public void Reset() => Release(default);
}

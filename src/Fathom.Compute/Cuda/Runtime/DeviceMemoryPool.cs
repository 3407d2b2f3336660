// A caching allocator over plain device allocations. Blocks that tensors give up wait here for the next tensor of about their
// size; cuMemAlloc and cuMemFree wait for the GPU and are called only while a run warms up. Everything runs in one stream, so a
// block can be handed on while the GPU still works on what its last owner asked for.
using Fathom.Compute.Cuda.Interop;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Runtime;

/// <summary>Device memory of one context.</summary>
internal sealed class DeviceMemoryPool(CudaContext context)
{
    private readonly Lock gate = new();
    private readonly SortedDictionary<long, Stack<nint>> waiting = [];
    private bool closed;

    /// <summary>Bytes that tensors hold.</summary>
    public long HeldBytes { get; private set; }

    /// <summary>Bytes that wait for a tensor.</summary>
    public long CachedBytes { get; private set; }

    /// <summary>What a request is rounded up to: 512 bytes, from one megabyte on two megabytes.</summary>
    internal static long BlockSize(long bytes)
    {
        long unit = bytes < 1 << 20 ? 512 : 2 << 20;
        return Math.Max(unit, (bytes + unit - 1) / unit * unit);
    }

    /// <summary>Whether a waiting block serves a request: not more than an eighth of it is wasted.</summary>
    internal static bool Fits(long block, long wanted) => block >= wanted && block - wanted <= wanted / 8;

    /// <summary>A block of at least this many bytes; contents are whatever it held.</summary>
    /// <exception cref="FathomException">The memory is not to be had, even after everything cached was given back.</exception>
    public DeviceMemory Take(long bytes)
    {
        long size = BlockSize(bytes);
        if (TakeWaiting(size) is { } reused) return reused;
        context.MakeCurrent();
        CudaResult result = Driver.Allocate(out nint address, (nuint)size);
        if (result == CudaResult.OutOfMemory)
        {
            // Tensors that nothing refers to any more still hold their memory until the collector has seen them.
            GC.Collect();
            GC.WaitForPendingFinalizers();
            if (TakeWaiting(size) is { } returned) return returned;
            Trim();
            result = Driver.Allocate(out address, (nuint)size);
        }

        if (result == CudaResult.OutOfMemory) throw new FathomException($"out of GPU memory: {context.DescribeMemory(size)}");
        CudaException.Check(result, "cuMemAlloc");
        lock (gate) HeldBytes += size;
        return new DeviceMemory(this, address, size);
    }

    /// <summary>Takes a block back, from any thread.</summary>
    public void Return(nint address, long size)
    {
        lock (gate)
        {
            if (closed) return;
            HeldBytes -= size;
            CachedBytes += size;
            if (!waiting.TryGetValue(size, out Stack<nint>? blocks)) waiting[size] = blocks = new Stack<nint>();
            blocks.Push(address);
        }
    }

    /// <summary>Gives everything that waits back to the driver.</summary>
    public void Trim()
    {
        context.MakeCurrent();
        lock (gate)
        {
            foreach (Stack<nint> blocks in waiting.Values)
            {
                foreach (nint address in blocks) _ = Driver.Free(address);
            }

            waiting.Clear();
            CachedBytes = 0;
        }
    }

    /// <summary>Frees what waits; what tensors still hold goes with the context.</summary>
    public void Close()
    {
        Trim();
        lock (gate) closed = true;
    }

    private DeviceMemory? TakeWaiting(long size)
    {
        lock (gate)
        {
            foreach ((long block, Stack<nint> blocks) in waiting)
            {
                if (blocks.Count == 0 || block < size) continue;
                if (!Fits(block, size)) return null;
                CachedBytes -= block;
                HeldBytes += block;
                return new DeviceMemory(this, blocks.Pop(), block);
            }

            return null;
        }
    }
}

/// <summary>A block of device memory that goes back to its pool when nothing refers to it any more.</summary>
internal sealed class DeviceMemory(DeviceMemoryPool pool, nint address, long bytes) : IDeviceMemory
{
    /// <summary>Gives the block back.</summary>
    ~DeviceMemory() => pool.Return(address, bytes);

    /// <summary>First byte, in the GPU's memory.</summary>
    public nint Address => address;

    /// <summary>Size of the block.</summary>
    public long Bytes => bytes;
}

// 64-byte aligned memory outside the managed heap: 64-bit sizes, no zeroing by the collector, never moved. Large blocks ask
// for huge pages, which saves most of the TLB misses of a GEMM over a big weight matrix.
using System.Runtime.InteropServices;
using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>One block of zeroed host memory, freed when nothing refers to it any more.</summary>
public sealed unsafe partial class HostMemory
{
    private const long HugePage = 2 << 20;
    private const int AdviseHugePages = 14;
    private readonly long bytes;

    private HostMemory(long bytes)
    {
        this.bytes = Math.Max(64, bytes);
        long alignment = this.bytes >= 2 * HugePage ? HugePage : 64;
        try
        {
            Address = (nint)NativeMemory.AlignedAlloc((nuint)((this.bytes + alignment - 1) / alignment * alignment), (nuint)alignment);
        }
        catch (OutOfMemoryException e)
        {
            throw new FathomException($"out of memory: {bytes / 1e9:F2} GB of host memory are not to be had", e);
        }

        if (alignment == HugePage && OperatingSystem.IsLinux()) _ = AdviseMemory(Address, (nuint)this.bytes, AdviseHugePages);
        NativeMemory.Clear((void*)Address, (nuint)this.bytes);
        GC.AddMemoryPressure(this.bytes);
    }

    /// <summary>Frees the block.</summary>
    ~HostMemory()
    {
        if (Address == 0) return;
        NativeMemory.AlignedFree((void*)Address);
        GC.RemoveMemoryPressure(bytes);
    }

    /// <summary>First byte.</summary>
    public nint Address { get; }

    /// <summary>A zeroed tensor in host memory.</summary>
    /// <exception cref="FathomException">The memory is not to be had.</exception>
    public static Tensor Allocate(Shape shape, DType dtype)
    {
        var memory = new HostMemory(checked(shape.Elements * dtype.SizeInBytes()));
        return new Tensor(memory.Address, dtype, shape, memory);
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int AdviseMemory(nint address, nuint length, int advice);
}

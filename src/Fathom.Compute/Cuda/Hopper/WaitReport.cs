using System.Globalization;
using Fathom.Compute.Cuda.Interop;
using Fathom.Compute.Cuda.Runtime;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>Where bounded waits inside of kernels (hopper_tiles.cuh) say that they gave up, so that a hang is a message; for tests.</summary>
/// <param name="context">The GPU.</param>
internal sealed unsafe class WaitReport(CudaContext context)
{
    private const int Words = 8;
    private readonly DeviceMemory memory = context.Memory.Take(Words * sizeof(uint));

    /// <summary>Clears the report; its address is the kernel's to write to.</summary>
    public nint Clear()
    {
        CudaException.Check(Driver.Fill(memory.Address, 0, Words * sizeof(uint), context.Stream.Handle), "cuMemsetD8Async");
        return memory.Address;
    }

    /// <summary>Waits for a kernel.</summary>
    /// <exception cref="CudaException">One of its waits gave up.</exception>
    public void Check(Kernel kernel)
    {
        uint* words = stackalloc uint[Words];
        CudaException.Check(Driver.CopyToHost((nint)words, memory.Address, Words * sizeof(uint), context.Stream.Handle), "cuMemcpyDtoHAsync");
        context.Stream.Synchronize();
        if (words[0] == 0) return;
        string barrier = words[0] switch { 1 => "filled", 2 => "emptied", 3 => "written", _ => "its turn" };
        throw new CudaException(string.Create(CultureInfo.InvariantCulture,
            $"{kernel.Instance} hangs: block {words[1]}, thread {words[2]} waited two seconds for stage {words[3]} to be {barrier} (step {words[4]}, parity {words[5]})"));
    }
}

using System.Runtime.InteropServices;

namespace Fathom.Compute.Cuda;

/// <summary>A matrix as a kernel takes it: Rows in attention.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct RowsArgument(in Tensor tensor)
{
    private readonly nint first = tensor.Address;
    private readonly long stride = tensor.RowStride;
}

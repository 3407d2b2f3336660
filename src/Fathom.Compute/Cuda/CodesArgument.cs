using System.Runtime.InteropServices;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cuda;

/// <summary>Codes of formats.cuh, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct CodesArgument(in CodesTarget target)
{
    public readonly nint Codes = target.Codes.Elements.Address;
    public readonly long Stride = target.Codes.Elements.RowStride;
    public readonly nint Scales = target.Codes.Scales.Address;
    public readonly long ScaleStride = target.Codes.Scales.RowStride;
    public readonly nint Fault = target.Fault.Address;
}

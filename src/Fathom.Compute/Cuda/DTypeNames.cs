using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>Names of element types in device code (common.cuh).</summary>
internal static class DTypeNames
{
    /// <summary>The C++ type of an element.</summary>
    /// <exception cref="ArgumentException">Kernels know no such type.</exception>
    public static string Of(DType dtype) => dtype switch
    {
        DType.F32 => "float",
        DType.BF16 => "bf16",
        DType.F8E4M3 => "e4m3",
        DType.F8E5M2 => "e5m2",
        DType.HiF8 => "hif8",
        DType.F8E8M0 => "e8m0",
        DType.U8 => "uint8_t",
        DType.I32 => "int32_t",
        DType.I64 => "int64_t",
        _ => throw new ArgumentException($"kernels know no elements of {dtype}", nameof(dtype)),
    };
}

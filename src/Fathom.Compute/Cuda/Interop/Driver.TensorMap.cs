using System.Runtime.InteropServices;

namespace Fathom.Compute.Cuda.Interop;

internal static unsafe partial class Driver
{
    /// <summary>cuTensorMapEncodeTiled: describes a matrix for the copy engine (capability 9.0). The map is written at a multiple of 64 bytes.</summary>
    [LibraryImport(Library, EntryPoint = "cuTensorMapEncodeTiled")]
    public static partial CudaResult EncodeTensorMap(
        void* map, TensorMapType type, uint rank, nint address, ulong* sizes, ulong* strides, uint* box, uint* elementStrides,
        int interleave, TensorMapSwizzle swizzle, int promotion, int outside);
}

/// <summary>CUtensorMapDataType.</summary>
internal enum TensorMapType
{
    UInt8 = 0,
    Float32 = 7,
    BFloat16 = 9,
}

/// <summary>CUtensorMapSwizzle.</summary>
internal enum TensorMapSwizzle
{
    None = 0,

    /// <summary>16-byte pieces change places within 128 bytes.</summary>
    Bytes128 = 3,
}

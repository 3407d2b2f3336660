using System.Runtime.CompilerServices;
using Fathom.Compute.Cuda.Interop;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>CUtensorMap: what the copy engine must know of matrices in device memory. The host fills it, a kernel takes it by value.</summary>
[InlineArray(Words)]
internal unsafe struct TensorMap
{
    private const int Words = 16, Alignment = 64, MostBytesOfRow = 128;

    /// <summary>Second-level cache lines are fetched 256 bytes at a time.</summary>
    private const int Promote256 = 3;

    private ulong first;

    /// <summary>Matrices of one size, of which boxes are loaded; outside of a matrix a box holds zeros.</summary>
    /// <param name="type">Elements.</param>
    /// <param name="address">First element of the first matrix; a multiple of 16.</param>
    /// <param name="size">Columns (contiguous), rows and matrices.</param>
    /// <param name="strideBytes">Bytes from row to row and from matrix to matrix; multiples of 16.</param>
    /// <param name="box">Columns and rows of a box.</param>
    /// <param name="swizzle">How rows of a box lie in shared memory.</param>
    /// <param name="rank">2 where the kernel gives two coordinates, 3 where it names the matrix too.</param>
    /// <exception cref="CudaException">The driver refuses the map.</exception>
    public static TensorMap Encode(
        TensorMapType type, nint address, (long Columns, long Rows, long Matrices) size, (long Row, long Matrix) strideBytes, (int Columns, int Rows) box,
        TensorMapSwizzle swizzle, int rank)
    {
        ulong* sizes = stackalloc ulong[3] { (ulong)size.Columns, (ulong)size.Rows, (ulong)size.Matrices };
        ulong* strides = stackalloc ulong[2] { (ulong)strideBytes.Row, (ulong)strideBytes.Matrix };
        uint* boxes = stackalloc uint[3] { (uint)box.Columns, (uint)box.Rows, 1 };
        uint* ones = stackalloc uint[3] { 1, 1, 1 };
        byte* memory = stackalloc byte[Words * sizeof(ulong) + Alignment];
        var map = (TensorMap*)(((nint)memory + Alignment - 1) / Alignment * Alignment);
        CudaResult result = Driver.EncodeTensorMap(map, type, (uint)rank, address, sizes, strides, boxes, ones, 0, swizzle, Promote256, 0);
        if (result != CudaResult.Success)
            throw new CudaException($"cuTensorMapEncodeTiled of {size} {type} with strides {strideBytes} bytes, in boxes {box}, failed: {CudaException.Describe(result)}");
        return *map;
    }

    /// <summary>A matrix that kernels read in boxes of 128 bytes a row, swizzled.</summary>
    public static TensorMap OfOperand(in HopperMatrix matrix, int boxRows, int rank) => Encode(
        matrix.ElementBytes == 1 ? TensorMapType.UInt8 : TensorMapType.BFloat16, matrix.Address, (matrix.Columns, matrix.Rows, matrix.Count),
        (matrix.RowStride * matrix.ElementBytes, matrix.Count == 1 ? matrix.Rows * matrix.RowStride * matrix.ElementBytes : matrix.MatrixStride * matrix.ElementBytes),
        (MostBytesOfRow / matrix.ElementBytes, boxRows), TensorMapSwizzle.Bytes128, rank);

    /// <summary>A table of F32 scales, of which a kernel reads parts of one row.</summary>
    public static TensorMap OfScales(Tensor scales, int columns) => Encode(
        TensorMapType.Float32, scales.Address, (scales.Columns, scales.Rows, 1), (scales.RowStride * sizeof(float), scales.Rows * scales.RowStride * sizeof(float)),
        (columns, 1), TensorMapSwizzle.None, rank: 2);
}

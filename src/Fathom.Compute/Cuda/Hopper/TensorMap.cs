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
        ReadOnlySpan<long> sizes = [size.Columns, size.Rows, size.Matrices], strides = [strideBytes.Row, strideBytes.Matrix], boxes = [box.Columns, box.Rows, 1];
        return Encode(type, address, sizes[..rank], strides[..(rank - 1)], boxes[..rank], swizzle);
    }

    /// <summary>A matrix that kernels read in boxes of 128 bytes a row, swizzled.</summary>
    public static TensorMap OfOperand(in HopperMatrix matrix, int boxRows, int rank) => Encode(
        matrix.ElementBytes switch { 1 => TensorMapType.UInt8, 2 => TensorMapType.BFloat16, _ => TensorMapType.Float32 }, matrix.Address, (matrix.Columns, matrix.Rows, matrix.Count),
        (matrix.RowStride * matrix.ElementBytes, matrix.Count == 1 ? matrix.Rows * matrix.RowStride * matrix.ElementBytes : matrix.MatrixStride * matrix.ElementBytes),
        (MostBytesOfRow / matrix.ElementBytes, boxRows), TensorMapSwizzle.Bytes128, rank);

    /// <summary>
    /// BF16 rows [sequences, tokens, heads, columns] in boxes of 64 columns and some tokens of one head, 128 bytes a token, swizzled.
    /// Behind the end of a sequence a box holds zeros, not the next sequence.
    /// </summary>
    /// <param name="rows">Row i is of head i % heads; rows at multiples of 16 bytes.</param>
    /// <param name="sequences">Sequences, of equal length.</param>
    /// <param name="heads">Heads of a token.</param>
    /// <param name="boxTokens">Tokens of a box.</param>
    public static TensorMap OfHeads(Tensor rows, int sequences, int heads, int boxTokens)
    {
        long tokens = rows.Rows / ((long)sequences * heads), rowBytes = rows.RowStride * sizeof(ushort);
        return Encode(
            TensorMapType.BFloat16, rows.Address, [rows.Columns, heads, tokens, sequences], [rowBytes, heads * rowBytes, tokens * heads * rowBytes],
            [MostBytesOfRow / sizeof(ushort), 1, boxTokens, 1], TensorMapSwizzle.Bytes128);
    }

    /// <summary>Rows of F32, which kernels read one at a time.</summary>
    /// <param name="address">First of them.</param>
    /// <param name="columns">Elements of a row, 4 to 256.</param>
    /// <param name="rows">How many, one behind the other.</param>
    public static TensorMap OfRows(nint address, int columns, long rows) =>
        Encode(TensorMapType.Float32, address, [columns, rows], [columns * sizeof(float)], [columns, 1], TensorMapSwizzle.None);

    /// <summary>A table of F32 scales, of which a kernel reads parts of one row.</summary>
    public static TensorMap OfScales(Tensor scales, int columns) => Encode(
        TensorMapType.Float32, scales.Address, (scales.Columns, scales.Rows, 1), (scales.RowStride * sizeof(float), scales.Rows * scales.RowStride * sizeof(float)),
        (columns, 1), TensorMapSwizzle.None, rank: 2);

    /// <summary>cuTensorMapEncodeTiled. Dimensions from the contiguous one on; strides in bytes from the second one on.</summary>
    private static TensorMap Encode(
        TensorMapType type, nint address, ReadOnlySpan<long> sizes, ReadOnlySpan<long> strides, ReadOnlySpan<long> box, TensorMapSwizzle swizzle)
    {
        const int mostDimensions = 5;
        ulong* size = stackalloc ulong[mostDimensions], stride = stackalloc ulong[mostDimensions];
        uint* boxes = stackalloc uint[mostDimensions], ones = stackalloc uint[mostDimensions];
        for (int i = 0; i < sizes.Length; i++)
        {
            (size[i], boxes[i], ones[i]) = ((ulong)sizes[i], (uint)box[i], 1);
            if (i > 0) stride[i - 1] = (ulong)strides[i - 1];
        }

        byte* memory = stackalloc byte[Words * sizeof(ulong) + Alignment];
        var map = (TensorMap*)(((nint)memory + Alignment - 1) / Alignment * Alignment);
        CudaResult result = Driver.EncodeTensorMap(map, type, (uint)sizes.Length, address, size, stride, boxes, ones, 0, swizzle, Promote256, 0);
        if (result == CudaResult.Success) return *map;
        throw new CudaException(
            $"cuTensorMapEncodeTiled of {Text(sizes)} {type} with strides {Text(strides)} bytes, in boxes {Text(box)}, failed: {CudaException.Describe(result)}");

        static string Text(ReadOnlySpan<long> numbers) => string.Join(" x ", numbers.ToArray());
    }
}

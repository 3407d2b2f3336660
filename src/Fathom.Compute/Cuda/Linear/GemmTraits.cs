// What of a product decides how it is computed: types, orientations, sizes, alignment. A value, so that it can be tested without a GPU
// and be a key.
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Linear;

/// <summary>An operand, as far as kernels are chosen by it.</summary>
/// <param name="DType">Element type.</param>
/// <param name="Transposed">Whether it lies [depth, rows] instead of [rows, depth].</param>
/// <param name="Layout">What a scale covers.</param>
/// <param name="WholeChunks">Whether rows begin at 16 bytes and hold whole 16 bytes.</param>
/// <param name="WholeFours">The same for four elements.</param>
internal readonly record struct GemmSide(DType DType, bool Transposed, ScaleLayout Layout, bool WholeChunks, bool WholeFours)
{
    /// <summary>An operand's.</summary>
    public static GemmSide Of(in ScaledTensor matrix, bool transposed) => new(
        matrix.DType, transposed, matrix.Layout, IsWhole(matrix.Elements, 16 / matrix.DType.SizeInBytes()), IsWhole(matrix.Elements, 4));

    /// <summary>Whether there are scales.</summary>
    public bool IsScaled => Layout != ScaleLayout.None;

    /// <summary>Whether tensor cores take the elements as they are, or as BF16 without error.</summary>
    public bool FitsTensorCores => DType is DType.BF16 or DType.F8E4M3 or DType.F8E5M2 or DType.HiF8;

    private static bool IsWhole(in Tensor tensor, int elements)
    {
        long size = tensor.DType.SizeInBytes(), unit = elements * size;
        return tensor.Address % unit == 0 && tensor.RowStride % elements == 0 && tensor.Columns % elements == 0;
    }
}

/// <summary>A product, as far as kernels are chosen by it.</summary>
/// <param name="A">Left operand.</param>
/// <param name="B">Right operand.</param>
/// <param name="C">Type of the result.</param>
/// <param name="Grouping">What is grouped.</param>
/// <param name="Groups">Number of groups; 1 where nothing is grouped.</param>
/// <param name="Rows">Rows of the result; of all groups together where rows are grouped.</param>
/// <param name="Columns">Columns of the result.</param>
/// <param name="Depth">Length of the sums; of all groups together where the depth is grouped.</param>
internal readonly record struct GemmTraits(
    GemmSide A, GemmSide B, DType C, GemmGrouping Grouping, int Groups, long Rows, long Columns, long Depth);

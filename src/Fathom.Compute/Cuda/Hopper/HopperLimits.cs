using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>Which operands Hopper's kernels take; pure, about types, layouts, alignment and strides only.</summary>
internal static class HopperLimits
{
    /// <summary>E4M3 rows in 1x128 tiles (of either kind of scales: dispatched rows have powers of two) by E4M3 weights in 128x128 blocks of F32 scales.</summary>
    /// <param name="x">Rows of the left operand.</param>
    /// <param name="w">A weight; its codes' place in memory is checked apart.</param>
    /// <param name="y">Result.</param>
    public static bool IsFp8Rows(in ScaledTensor x, in ScaledTensor w, Tensor y) =>
        x.DType == DType.F8E4M3 && w.DType == DType.F8E4M3 && x.Layout == ScaleLayout.RowTile && w.Layout == ScaleLayout.Block &&
        w.Scales.DType == DType.F32 && x.Shape.Rows > 0 && x.Shape.Columns > 0 && IsResult(y);

    /// <summary>
    /// Whether they compute a product of <see cref="IsFp8Rows"/> in less time than cuBLASLt, as measured on an H200 at DeepSeek-V3's sizes: 5 to 24 % less
    /// for 4,096 rows of narrow results, whose tiles leave the library's last round nearly empty, and 6 to 70 % for few rows.
    /// </summary>
    public static bool IsFasterThanLibrary(long rows, long columns, long depth) => rows >= 2048 ? columns <= 2112 : rows <= 128 && depth <= 7168;

    /// <summary>E4M3 operands of a weight gradient, both in transposed 128x1 tiles of F32 scales.</summary>
    public static bool IsFp8Weights(in ScaledTensor dy, in ScaledTensor x, Tensor dw) =>
        IsTokens(dy) && IsTokens(x) && dw.DType == DType.F32 && IsResult(dw);

    /// <summary>BF16 operands without scales; where they lie in memory is checked apart.</summary>
    public static bool IsBFloat16(in ScaledTensor left, in ScaledTensor right, Tensor result) =>
        left.DType == DType.BF16 && right.DType == DType.BF16 && left.Layout == ScaleLayout.None && right.Layout == ScaleLayout.None &&
        left.Shape.Rows > 0 && left.Shape.Columns > 0 && IsResult(result);

    /// <summary>Results, and what is added to them: BF16 or F32 in rows at multiples of 16 bytes.</summary>
    public static bool IsResult(Tensor y) =>
        y.DType is DType.F32 or DType.BF16 && y.Rows is > 0 and <= int.MaxValue && y.Columns is > 0 and <= int.MaxValue &&
        y.Columns % 8 == 0 && y.RowStride % 8 == 0 && y.Address % 16 == 0;

    private static bool IsTokens(in ScaledTensor x) =>
        x.DType == DType.F8E4M3 && x.Layout == ScaleLayout.TransposedColumnTile && x.Scales.DType == DType.F32 && x.Shape.Rows > 0 && x.Shape.Columns > 0 &&
        x.Shape.Columns % 8 == 0 && HopperMatrix.Of(x.Elements).CanBeLoaded &&
        x.Scales.RowStride % 4 == 0 && x.Scales.Address % 16 == 0;
}

// Which products cuBLASLt computes, and in what form: pure, from shapes and types alone. It counts matrices by columns, so what is
// c[m, n] here is C[n, m] there, and its left operand A is our b:
//   C (n x m, leading dimension = row stride of c) = op(A) (n x depth) op(B) (depth x m)
//   b [n, depth] is A (depth x n) transposed; b [depth, n] is A (n x depth) as it is
//   a [m, depth] is B (depth x m) as it is; a [depth, m] is B (m x depth) transposed
// E4M3 is multiplied only with both operands along the depth: a weight that lies across it is transposed first, what a weight gradient
// takes was quantised so. Scales of
// 1x128 tiles lie [depth / 128, rows] there, scales of blocks [rows / 128, depth / 128] with the depth padded to a
// multiple of four (documentation of cuBLAS, 128-element 1D and 128x128 2D block scaling; from 12.9 on, Hopper only).
using Fathom.Compute.Cuda.Interop;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Linear;

/// <summary>One operand as cuBLASLt takes it.</summary>
/// <param name="Type">Element type.</param>
/// <param name="Along">Whether it lies along the depth.</param>
/// <param name="Stride">Elements between its rows.</param>
/// <param name="ScaleMode">What its scales cover.</param>
internal readonly record struct CublasOperand(CudaDataType Type, bool Along, long Stride, MatmulScaleMode ScaleMode);

/// <summary>A product as cuBLASLt takes it; the key of its cached plan.</summary>
/// <param name="A">Our left operand, which is its right one.</param>
/// <param name="B">Our right operand.</param>
/// <param name="C">Type of the result.</param>
/// <param name="StrideC">Elements between rows of the result.</param>
/// <param name="Rows">Rows of the result.</param>
/// <param name="Columns">Columns of the result.</param>
/// <param name="Depth">Length of the sums.</param>
internal readonly record struct CublasPlan(CublasOperand A, CublasOperand B, CudaDataType C, long StrideC, long Rows, long Columns, long Depth)
{
    /// <summary>The first version with scales for tiles and blocks.</summary>
    public const long VersionWithTileScales = 120900;

    /// <summary>The chip that has them.</summary>
    public const int CapabilityWithTileScales = 90;

    /// <summary>Rows, columns and depth from which transposing an operand first costs little beside the product.</summary>
    public const long LeastTransposed = 256;

    /// <summary>Bytes that addresses and rows begin at.</summary>
    public const int Alignment = 16;

    /// <summary>The form of a product, or null where cuBLASLt does not have it.</summary>
    /// <param name="p">The product.</param>
    /// <param name="strideA">Elements between rows of a.</param>
    /// <param name="strideB">Elements between rows of b.</param>
    /// <param name="strideC">Elements between rows of the result.</param>
    /// <param name="alignedC">Whether the result begins at 16 bytes.</param>
    /// <param name="version">Of cuBLASLt.</param>
    /// <param name="capability">Of the GPU.</param>
    public static CublasPlan? Choose(in GemmTraits p, long strideA, long strideB, long strideC, bool alignedC, long version, int capability)
    {
        long unitC = Alignment / p.C.SizeInBytes();
        if (p.Depth == 0 || !p.A.WholeChunks || !p.B.WholeChunks || !alignedC || strideC % unitC != 0 || p.Columns % unitC != 0) return null;
        CudaDataType c = p.C == DType.F32 ? CudaDataType.F32 : CudaDataType.BF16;
        if (p.A.DType != p.B.DType) return null;
        if (p.A.DType is DType.F32 or DType.BF16)
        {
            if (p.A.IsScaled || p.B.IsScaled || p.A.DType == DType.F32 && p.C != DType.F32) return null;
            CudaDataType type = p.A.DType == DType.F32 ? CudaDataType.F32 : CudaDataType.BF16;
            var a = new CublasOperand(type, !p.A.Transposed, strideA, MatmulScaleMode.Scalar);
            return new CublasPlan(a, new CublasOperand(type, !p.B.Transposed, strideB, MatmulScaleMode.Scalar), c, strideC, p.Rows, p.Columns, p.Depth);
        }

        if (p.A.DType != DType.F8E4M3 || version < VersionWithTileScales || capability != CapabilityWithTileScales) return null;
        if (Mode(p.A) is not { } modeA || Mode(p.B) is not { } modeB || modeA == MatmulScaleMode.Block128 && modeB == MatmulScaleMode.Block128) return null;
        if (p.Rows % 4 != 0 || p.Columns % 16 != 0) return null;
        if (p.A.Transposed || p.B.Transposed && Math.Min(Math.Min(p.Rows, p.Columns), p.Depth) < LeastTransposed) return null;
        if (p.Depth % Alignment != 0) return null;
        return new CublasPlan(
            new CublasOperand(CudaDataType.E4M3, true, strideA, modeA),
            new CublasOperand(CudaDataType.E4M3, true, p.B.Transposed ? p.Depth : strideB, modeB), c, strideC, p.Rows, p.Columns, p.Depth);
    }

    /// <summary>A number rounded up to a multiple.</summary>
    public static long Padded(long number, long multiple) => (number + multiple - 1) / multiple * multiple;

    private static MatmulScaleMode? Mode(in GemmSide side) => side.Layout switch
    {
        ScaleLayout.Block => MatmulScaleMode.Block128,
        ScaleLayout.RowTile when !side.Transposed => MatmulScaleMode.Vector128,
        ScaleLayout.TransposedColumnTile when !side.Transposed => MatmulScaleMode.Vector128,
        _ => null,
    };
}

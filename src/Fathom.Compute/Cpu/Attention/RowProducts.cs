// C [rows, columns] = A Bᵀ, where both operands lie by rows: queries with cached tokens, latents with rows of weights. These are the products
// of a few rows of Gemm/, whose sums are a row's own, however many rows there are.
using System.Runtime.Intrinsics;
using Fathom.Compute.Cpu.Gemm;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Attention;

/// <summary>Products of rows with rows, on the calling thread.</summary>
internal static unsafe class RowProducts
{
    /// <summary>Computes C. Strides are in elements.</summary>
    /// <typeparam name="TElement">Element type of B.</typeparam>
    /// <param name="rows">Rows of A and C.</param>
    /// <param name="columns">Rows of B.</param>
    /// <param name="depth">Columns of A and B.</param>
    /// <param name="a">[rows, depth].</param>
    /// <param name="aRow">From one row of A to the next.</param>
    /// <param name="b">[columns, depth].</param>
    /// <param name="bRow">From one row of B to the next.</param>
    /// <param name="c">[rows, columns].</param>
    /// <param name="cRow">From one row of C to the next.</param>
    public static void Run<TElement>(int rows, int columns, int depth, float* a, nint aRow, byte* b, nint bRow, float* c, nint cRow)
        where TElement : struct, IElementFormat
    {
        var product = new Product { A = (byte*)a, B = b, C = c, Rows = rows, Depth = depth };
        if (TElement.Size == sizeof(float)) OfWidth<SingleFormat>(product, aRow, new ProductLayout(columns, aRow, bRow, cRow, true, true, DType.F32, false));
        else OfWidth<BFloat16Format>(product, aRow, new ProductLayout(columns, aRow, bRow, cRow, true, true, DType.BF16, false));
    }

    private static void OfWidth<TFormat>(in Product product, nint stride, in ProductLayout layout) where TFormat : struct, IWeightFormat
    {
        float* a = (float*)product.A;
        if (CpuFeatures.Avx512) Dots<FewRowsKernels<TFormat, Vector512<float>, Width512>, float>.Run(product, a, stride, 0, layout.Columns, layout);
        else if (CpuFeatures.Avx2) Dots<FewRowsKernels<TFormat, Vector256<float>, Width256>, float>.Run(product, a, stride, 0, layout.Columns, layout);
        else Dots<FewRowsKernels<TFormat, Vector128<float>, Width128>, float>.Run(product, a, stride, 0, layout.Columns, layout);
    }
}

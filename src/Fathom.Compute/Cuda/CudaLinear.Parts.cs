// Products of BF16 with F32, as a router has them: the F32 operand is the sum of three BF16 matrices, exactly (24 bits of significand
// in three times eight), so three products on tensor cores, summed in F32, are the product.
using Fathom.Compute.Cuda.Linear;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

internal sealed partial class CudaLinear
{
    private const int Parts = 3, SplitThreads = 256;

    /// <summary>c (+)= a b, where one operand is F32, the other BF16, the result F32, and cuBLASLt has the product of BF16.</summary>
    private bool TryParts(in ScaledTensor a, bool transposedA, in ScaledTensor b, bool transposedB, Tensor c, in GemmTraits p, bool accumulate)
    {
        if (library is null || split is null || c.DType != DType.F32 || a.Layout != ScaleLayout.None || b.Layout != ScaleLayout.None) return false;
        if ((a.DType, b.DType) is not ((DType.F32, DType.BF16) or (DType.BF16, DType.F32))) return false;
        bool isA = a.DType == DType.F32;
        Tensor whole = isA ? a.Elements : b.Elements;
        long elements = whole.Rows * whole.Columns, columns = whole.Columns;
        if (columns % (CublasPlan.Alignment / sizeof(short)) != 0) return false;
        nint parts = context.Workspace(Parts * elements * sizeof(short));
        split.Launch(new LaunchShape(LaunchShape.Cover(elements, SplitThreads), SplitThreads), whole, whole.RowStride, columns, elements, parts);
        for (int i = 0; i < Parts; i++)
        {
            var part = new Tensor(parts + (nint)(i * elements * sizeof(short)), DType.BF16, new Shape(whole.Rows, columns), context.CurrentWorkspace);
            GemmSide side = GemmSide.Of(part, isA ? transposedA : transposedB);
            if (!library.TryMultiply(isA ? part : a, isA ? b : part, c, isA ? p with { A = side } : p with { B = side }, accumulate || i > 0)) return false;
        }

        return true;
    }
}

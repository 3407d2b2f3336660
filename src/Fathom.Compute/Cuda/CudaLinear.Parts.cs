// Products of F32 on tensor cores, as a router has them: an F32 matrix is the sum of three of BF16, exactly (24 bits of significand in three
// times eight). With BF16, three products summed in F32 are the product. Of F32 with F32 there are nine, of which three are below the last bit
// of F32; the six others are one product with six times the depth, which is rounded once where its result is BF16.
using Fathom.Compute.Cuda.Linear;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

internal sealed partial class CudaLinear
{
    private const int Parts = 3, Terms = 6, SplitThreads = 256, StackedAlignment = 256;
    private const long MostStackedBytes = 256 << 20;
    private const string StackSingles = "stack_singles";
    private Kernel? stack;

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

    /// <summary>c (+)= a b of F32 operands, the second across the sum, where the result is BF16: the gradient of a router's input.</summary>
    private bool TryStacked(in ScaledTensor a, bool transposedA, in ScaledTensor b, bool transposedB, Tensor c, bool accumulate)
    {
        if (hopper is null || transposedA || !transposedB || c.DType != DType.BF16 || !IsPlain(a) || !IsPlain(b)) return false;
        long rows = a.Elements.Rows, depth = a.Elements.Columns, columns = b.Elements.Columns;
        long leftBytes = LaunchShape.Cover(Terms * rows * depth * sizeof(short), StackedAlignment) * StackedAlignment, bytes = leftBytes + Terms * depth * columns * sizeof(short);
        if (bytes > MostStackedBytes) return false;
        nint left = context.Workspace(bytes), right = left + (nint)leftBytes;
        stack ??= context.Module("gemm_prepare.cu", StackSingles).Kernel(StackSingles);
        Stack(a.Elements, left, Terms * depth, depth, isRight: false);
        Stack(b.Elements, right, columns, depth * columns, isRight: true);
        return hopper.InputGradient(
            new Tensor(left, DType.BF16, new Shape(rows, Terms * depth), context.CurrentWorkspace), new Tensor(right, DType.BF16, new Shape(Terms * depth, columns), context.CurrentWorkspace),
            default, c, accumulate);

        static bool IsPlain(in ScaledTensor x) => x.Layout == ScaleLayout.None && x.DType == DType.F32;
        void Stack(Tensor from, nint to, long toStride, long apart, bool isRight) =>
            stack.Launch(
                new LaunchShape(LaunchShape.Cover(from.Rows * from.Columns, SplitThreads), SplitThreads),
                from, from.RowStride, from.Columns, from.Rows * from.Columns, to, toStride, apart, isRight);
    }
}

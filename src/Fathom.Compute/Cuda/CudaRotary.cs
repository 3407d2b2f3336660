// The turn moves each element in and out once; the tables stay in the caches.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="IRotaryOperators"/> on a GPU. x is F32 or BF16.</summary>
internal sealed class CudaRotary : IRotaryOperators
{
    private readonly CudaContext context;
    private readonly ElementKernels rotate;

    public CudaRotary(CudaContext context)
    {
        this.context = context;
        rotate = new ElementKernels(context.Module("rotary.cu", [.. ElementKernels.Instances("rotate", 1)]), "rotate", 1);
    }

    public void Rotate(Tensor x, int offset, Tensor cos, Tensor sin, Tensor positions, bool inverse)
    {
        const string Op = "rotary";
        long tokens = positions.Elements, pairs = cos.Columns;
        DType type = Elementwise.ActivationType(x);
        Require.Vector(Op, "positions", positions, tokens, DType.I32);
        Require.Matrix(Op, "x", x, x.Rows, x.Columns, type);
        Require.Writable(Op, "x", x);
        Require.Matrix(Op, "sin", sin, cos.Rows, pairs);
        Require.Matrix(Op, "cos", cos, cos.Rows, pairs);
        if (tokens == 0 || x.Rows == 0) return;
        if (x.Rows % tokens != 0) Require.That(false, Op, $"x is {x}, expected the same number of heads for each of {tokens} positions");
        if (offset < 0 || offset + 2 * pairs > x.Columns)
            Require.That(false, Op, $"columns {offset} to {offset + 2 * pairs - 1} are turned, x is {x}");
        Tensor turned = x.ColumnRange(offset, 2 * pairs);
        int width = Elementwise.Width(turned.Columns, turned);
        if (width > 1 && !Elementwise.Aligned(width / 2, pairs, cos, sin)) width = 1;
        rotate.For(type, width).Launch(
            Elementwise.Shape(turned.Rows, turned.Columns, Math.Max(2, width)),
            turned, turned.RowStride, turned.Rows, checked((int)(x.Rows / tokens)), cos, cos.RowStride, sin, sin.RowStride, positions, cos.Rows,
            turned.Columns, inverse ? -1f : 1f, context.Faults.Address);
    }
}

// cuBLASLt by itself, whatever the operator would choose: the yardstick of benchmarks.
using Fathom.Compute.Cuda.Linear;

namespace Fathom.Compute.Cuda;

/// <summary>Dense products by cuBLASLt alone. A call returns false, and does nothing, where the library is missing or has no such product.</summary>
public sealed class CublasLinear
{
    private readonly CublasProducts? products;

    internal CublasLinear(CublasProducts? products) => this.products = products;

    /// <summary>y = x wᵀ: x [M, K], w [N, K], y [M, N].</summary>
    public bool TryForward(in ScaledTensor x, in ScaledTensor w, Tensor y) =>
        TryMultiply(x, false, w, false, y, x.Elements.Rows, w.Elements.Rows, x.Elements.Columns, accumulate: false);

    /// <summary>dx = dy w: dy [M, N], w [N, K], dx [M, K].</summary>
    public bool TryInputGradient(in ScaledTensor dy, in ScaledTensor w, Tensor dx) =>
        TryMultiply(dy, false, w, true, dx, dy.Elements.Rows, w.Elements.Columns, dy.Elements.Columns, accumulate: false);

    /// <summary>dw += dyᵀ x: dy [M, N], x [M, K], dw [N, K]; operands in tiles lie as <see cref="DeviceTraits.TokenLayout"/> says.</summary>
    public bool TryWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor dw)
    {
        bool across = dy.Layout != ScaleLayout.TransposedColumnTile;
        return TryMultiply(dy, across, x, across, dw, dy.Shape.Columns, x.Shape.Columns, dy.Shape.Rows, accumulate: true);
    }

    private bool TryMultiply(in ScaledTensor a, bool transposedA, in ScaledTensor b, bool transposedB, Tensor c, long rows, long columns, long depth, bool accumulate) =>
        products is not null && products.TryMultiply(
            a, b, c, new GemmTraits(GemmSide.Of(a, transposedA), GemmSide.Of(b, transposedB), c.DType, GemmGrouping.None, 1, rows, columns, depth), accumulate);
}

// The kernels for Hopper by themselves, whatever the operator would choose: what benchmarks compare with cuBLASLt.
using Fathom.Compute.Cuda.Hopper;

namespace Fathom.Compute.Cuda;

/// <summary>Dense products by Fathom's kernels for Hopper alone. A call returns false, and does nothing, on another GPU or where they have no such product.</summary>
public sealed class OwnLinear
{
    private readonly HopperLinear? products;

    internal OwnLinear(HopperLinear? products) => this.products = products;

    /// <summary>dw += dyᵀ x: dy [M, N], x [M, K], dw [N, K] in F32; operands in tiles lie as <see cref="DeviceTraits.TokenLayout"/> says.</summary>
    public bool TryWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor dw) => products is not null && products.WeightGradient(dy, x, dw, accumulate: true);
}

// Which products run in an emulated accumulator: those of two quantised operands, as on the chip. Router and head, whose operands
// stay in higher precision, are summed as always.
using Fathom.Compute.Cpu.Gemm;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cpu;

/// <summary>Sends products of quantised operands to one implementation and all others to another.</summary>
internal sealed class EmulatedLinear(EmulatedGemm emulated, ILinearOperators plain) : ILinearOperators
{
    public void Forward(in ScaledTensor x, in ScaledTensor w, Tensor y, bool accumulate) => For(x, w).Forward(x, w, y, accumulate);

    public void InputGradient(in ScaledTensor dy, in ScaledTensor w, Tensor dx, bool accumulate) => For(dy, w).InputGradient(dy, w, dx, accumulate);

    public void WeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor dw, bool accumulate) => For(dy, x).WeightGradient(dy, x, dw, accumulate);

    public void GroupedForward(in ScaledTensor x, Tensor rowOffsets, ExpertWeights w, Tensor y) => For(x, w[0]).GroupedForward(x, rowOffsets, w, y);

    public void GroupedInputGradient(in ScaledTensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx, bool accumulate) =>
        For(dy, w[0]).GroupedInputGradient(dy, rowOffsets, w, dx, accumulate);

    public void GroupedWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw, bool accumulate) =>
        For(dy, x).GroupedWeightGradient(dy, x, rowOffsets, dw, accumulate);

    private ILinearOperators For(in ScaledTensor left, in ScaledTensor right) =>
        left.Layout != ScaleLayout.None && right.Layout != ScaleLayout.None ? emulated : plain;
}

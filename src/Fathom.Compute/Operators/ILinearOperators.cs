// Products with weight matrices, alone and grouped by expert. Weights are [out, in], as in the checkpoint, so the forward
// product is x wᵀ; the backward pass is two products that can run at different times (input gradient, weight gradient).

namespace Fathom.Compute.Operators;

/// <summary>
/// Linear layers without bias. M rows (tokens), N outputs, K inputs. Every tensor may have a row stride. Operands are F32, BF16 or
/// quantised, each on its own: a router multiplies activations in BF16 with its weight in F32, and takes gradients in F32 back. Sums are
/// F32, and so are results; on a device that holds BF16, results other than dw may be BF16 too, whatever the operands are.
/// </summary>
public interface ILinearOperators
{
    /// <summary>y = x wᵀ, or y += x wᵀ.</summary>
    /// <param name="x">[M, K].</param>
    /// <param name="w">[N, K].</param>
    /// <param name="y">[M, N].</param>
    /// <param name="accumulate">Whether to add to what y holds.</param>
    /// <exception cref="ArgumentException">Shapes or types that do not fit.</exception>
    void Forward(in ScaledTensor x, in ScaledTensor w, Tensor y, bool accumulate = false);

    /// <summary>Whether <see cref="ForwardAdded"/> takes operands like these: no device needs to have it.</summary>
    /// <param name="x">[M, K].</param>
    /// <param name="w">[N, K].</param>
    /// <param name="added">[M, N].</param>
    /// <param name="y">[M, N].</param>
    bool AddsToAnother(in ScaledTensor x, in ScaledTensor w, Tensor added, Tensor y) => false;

    /// <summary>y = added + x wᵀ, rounded once: as <see cref="Forward"/> gives it that adds to a copy, which is never made.</summary>
    /// <param name="x">[M, K].</param>
    /// <param name="w">[N, K].</param>
    /// <param name="added">[M, N], of y's type; another matrix than y.</param>
    /// <param name="y">[M, N].</param>
    /// <exception cref="NotSupportedException"><see cref="AddsToAnother"/> says no.</exception>
    void ForwardAdded(in ScaledTensor x, in ScaledTensor w, Tensor added, Tensor y) =>
        throw new NotSupportedException($"this device adds x wᵀ to y alone: x is {x}, w {w}, added {added}, y {y}");

    /// <summary>dx = dy w, or dx += dy w.</summary>
    /// <param name="dy">[M, N].</param>
    /// <param name="w">[N, K].</param>
    /// <param name="dx">[M, K].</param>
    /// <param name="accumulate">Whether to add to what dx holds.</param>
    void InputGradient(in ScaledTensor dy, in ScaledTensor w, Tensor dx, bool accumulate = false);

    /// <summary>dw = dyᵀ x, or dw += dyᵀ x. <see cref="DeviceTraits.TokenLayout"/> says how operands in 128x1 tiles lie.</summary>
    /// <param name="dy">[M, N].</param>
    /// <param name="x">[M, K].</param>
    /// <param name="dw">[N, K], F32.</param>
    /// <param name="accumulate">Whether to add to what dw holds.</param>
    void WeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor dw, bool accumulate = true);

    /// <summary>
    /// y[s] = x[s] w[e]ᵀ for the rows s of each expert e; rows are sorted by expert and expert e has rows
    /// rowOffsets[e] to rowOffsets[e+1] - 1, possibly none. Rows from rowOffsets[E] on are left alone.
    /// </summary>
    /// <param name="x">[S, K].</param>
    /// <param name="rowOffsets">[E + 1], I32, ascending.</param>
    /// <param name="w">One [N, K] an expert.</param>
    /// <param name="y">[S, N].</param>
    void GroupedForward(in ScaledTensor x, Tensor rowOffsets, ExpertWeights w, Tensor y);

    /// <summary>dx[s] = dy[s] w[e], or += , for the rows of each expert.</summary>
    /// <param name="dy">[S, N].</param>
    /// <param name="rowOffsets">[E + 1], I32.</param>
    /// <param name="w">One [N, K] an expert.</param>
    /// <param name="dx">[S, K].</param>
    /// <param name="accumulate">Whether to add to what dx holds.</param>
    void GroupedInputGradient(in ScaledTensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx, bool accumulate = false);

    /// <summary>dw[e] = dy[rows of e]ᵀ x[rows of e], or +=. An expert without rows is given zeros, or left alone.</summary>
    /// <param name="dy">[S, N].</param>
    /// <param name="x">[S, K].</param>
    /// <param name="rowOffsets">[E + 1], I32.</param>
    /// <param name="dw">[E, N, K], F32, contiguous.</param>
    /// <param name="accumulate">Whether to add to what dw holds.</param>
    void GroupedWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw, bool accumulate = true);
}

// SwiGLU, with the gate of a routed expert multiplied in before the down projection: (g·h) W = g·(h W), so the expert's output
// need not be kept to get the gate's gradient.

namespace Fathom.Compute.Operators;

/// <summary>y = silu(gate) · up [· rowScale], where silu(a) = a / (1 + exp(-a)). M rows of I columns, F32.</summary>
public interface IActivationOperators
{
    /// <summary>The forward pass.</summary>
    /// <param name="gate">[M, I].</param>
    /// <param name="up">[M, I].</param>
    /// <param name="rowScale">[M], or empty for one.</param>
    /// <param name="y">[M, I]; may be gate or up itself.</param>
    void SwiGlu(Tensor gate, Tensor up, Tensor rowScale, Tensor y);

    /// <summary>The backward pass.</summary>
    /// <param name="dy">[M, I].</param>
    /// <param name="gate">[M, I].</param>
    /// <param name="up">[M, I].</param>
    /// <param name="rowScale">[M], or empty.</param>
    /// <param name="dgate">[M, I]; may be dy or gate itself.</param>
    /// <param name="dup">[M, I]; may be up itself.</param>
    /// <param name="drowScale">[M]: Σ dy · silu(gate) · up; empty where rowScale is.</param>
    void SwiGluGradient(Tensor dy, Tensor gate, Tensor up, Tensor rowScale, Tensor dgate, Tensor dup, Tensor drowScale);

    /// <summary>
    /// The forward pass with its result quantised, and both inputs as they are kept: to the bit what <see cref="SwiGlu"/> into the type of
    /// the inputs and three times <see cref="IQuantizationOperators.Quantize"/> give.
    /// </summary>
    /// <param name="gate">[M, I].</param>
    /// <param name="up">[M, I].</param>
    /// <param name="rowScale">[M], or empty.</param>
    /// <param name="y">[M, I], the result.</param>
    /// <param name="gateCodes">[M, I], of gate.</param>
    /// <param name="upCodes">[M, I], of up.</param>
    /// <exception cref="NotSupportedException">Where <see cref="DeviceTraits.FusesSwiGluQuantization"/> says no.</exception>
    void SwiGluQuantized(Tensor gate, Tensor up, Tensor rowScale, in CodesTarget y, in CodesTarget gateCodes, in CodesTarget upCodes) =>
        throw new NotSupportedException("swiglu with quantisation: this device does not have it");

    /// <summary>
    /// The backward pass from kept codes, which computes the forward pass's result again: to the bit what
    /// <see cref="IQuantizationOperators.Dequantize"/>, <see cref="SwiGlu"/> and <see cref="SwiGluGradient"/> give.
    /// </summary>
    /// <param name="dy">[M, I].</param>
    /// <param name="gate">[M, I], codes.</param>
    /// <param name="up">[M, I], codes.</param>
    /// <param name="rowScale">[M], or empty.</param>
    /// <param name="dgate">[M, I]; may be dy itself.</param>
    /// <param name="dup">[M, I].</param>
    /// <param name="drowScale">[M]; empty where rowScale is.</param>
    /// <param name="y">[M, I].</param>
    /// <exception cref="NotSupportedException">Where <see cref="DeviceTraits.FusesSwiGluQuantization"/> says no.</exception>
    void SwiGluGradientQuantized(Tensor dy, in ScaledTensor gate, in ScaledTensor up, Tensor rowScale, Tensor dgate, Tensor dup, Tensor drowScale, Tensor y) =>
        throw new NotSupportedException("swiglu gradient from codes: this device does not have it");

    /// <summary>
    /// The backward pass from kept codes to what the products behind it take, without a row scale: to the bit what
    /// <see cref="SwiGluGradientQuantized"/> and then <see cref="IQuantizationOperators.QuantizeBothWays"/> of both gradients and
    /// <see cref="IQuantizationOperators.QuantizeTransposed"/> of the result give ([P] §3.3.3).
    /// </summary>
    /// <param name="dy">[M, I].</param>
    /// <param name="gate">[M, I], codes.</param>
    /// <param name="up">[M, I], codes.</param>
    /// <param name="dgate">[M, I].</param>
    /// <param name="dup">[M, I].</param>
    /// <param name="y">[M, I] over rows: F8E4M3 [I, 128 T], F32 scales [T, I].</param>
    /// <param name="leastGradientAmax">What the largest magnitude of a gradient's tile is taken for at least.</param>
    /// <exception cref="NotSupportedException">Where <see cref="DeviceTraits.FusesSwiGluQuantization"/> says no.</exception>
    void SwiGluGradientOperands(
        Tensor dy, in ScaledTensor gate, in ScaledTensor up, in GradientTarget dgate, in GradientTarget dup, in CodesTarget y, float leastGradientAmax) =>
        throw new NotSupportedException("swiglu gradient to operands: this device does not have it");
}

// RMSNorm: y = x / sqrt(mean(x²) + eps) · weight, in F32. The forward pass hands out the reciprocal root of every row, so the
// backward pass needs no second reduction over x.

namespace Fathom.Compute.Operators;

/// <summary>Root mean square normalisation over the last dimension. M rows of D columns, rows may be strided.</summary>
public interface INormOperators
{
    /// <summary>y = x · rstd · weight with rstd = 1 / sqrt(mean(x²) + epsilon).</summary>
    /// <param name="x">[M, D].</param>
    /// <param name="weight">[D], F32 or BF16.</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <param name="y">[M, D]; may be x itself.</param>
    /// <param name="rstd">[M], or empty where no backward pass follows.</param>
    void RmsNorm(Tensor x, Tensor weight, float epsilon, Tensor y, Tensor rstd);

    /// <summary>
    /// The forward pass with its result quantised: to the bit what <see cref="RmsNorm"/> into the type of x and
    /// <see cref="IQuantizationOperators.Quantize"/> of that give.
    /// </summary>
    /// <param name="x">[M, D].</param>
    /// <param name="weight">[D], F32 or BF16.</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <param name="y">[M, D], F8E4M3 in 1x128 tiles of F32 scales.</param>
    /// <param name="rstd">[M], or empty where no backward pass follows.</param>
    /// <exception cref="NotSupportedException">Where <see cref="DeviceTraits.FusesNormQuantization"/> says no.</exception>
    void RmsNormQuantized(Tensor x, Tensor weight, float epsilon, in CodesTarget y, Tensor rstd) =>
        throw new NotSupportedException("rms norm with quantisation: this device does not have it");

    /// <summary>dx = rstd · (dy·weight − x · rstd² · mean(dy·weight·x)), or added + that.</summary>
    /// <param name="dy">[M, D].</param>
    /// <param name="x">[M, D], the input of the forward pass.</param>
    /// <param name="weight">[D].</param>
    /// <param name="rstd">[M].</param>
    /// <param name="dx">[M, D]; may be dy itself unless something is added.</param>
    /// <param name="added">[M, D], what the gradient is added to: dx itself, or the gradient that came past the layer. Empty: nothing.</param>
    void RmsNormInputGradient(Tensor dy, Tensor x, Tensor weight, Tensor rstd, Tensor dx, Tensor added = default);

    /// <summary>dweight = Σ over rows of dy · x · rstd, or +=. The order of the sum does not depend on the number of threads.</summary>
    /// <param name="dy">[M, D].</param>
    /// <param name="x">[M, D].</param>
    /// <param name="rstd">[M].</param>
    /// <param name="dweight">[D], F32.</param>
    /// <param name="accumulate">Whether to add to what dweight holds.</param>
    void RmsNormWeightGradient(Tensor dy, Tensor x, Tensor rstd, Tensor dweight, bool accumulate = true);
}

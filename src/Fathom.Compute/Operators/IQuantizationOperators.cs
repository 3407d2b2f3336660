// Between F32 and the narrow formats of a precision recipe ([P] §3.3): per tile with a scale of its own, or plainly to BF16.

namespace Fathom.Compute.Operators;

/// <summary>
/// Quantisation. Where rows are grouped by expert (128x1 tiles only), rowOffsets [G + 1] I32 says where groups begin, and rows past
/// the last group are left alone.
/// </summary>
public interface IQuantizationOperators
{
    /// <summary>
    /// Elements and scales of a matrix. A tile's scale is max(largest |x|, least) over the format's scale target, rounded up to a
    /// power of two where scales are F8E8M0; an element is x / scale, to nearest and saturating. A tile with a value that is not
    /// finite gets a scale that is not a number.
    /// </summary>
    /// <param name="x">[M, N], F32; any row stride.</param>
    /// <param name="quantized">[M, N] in F8E4M3, F8E5M2, HiF8 or E5M6 (not in 128x1 tiles) with scales, or BF16 without.</param>
    /// <param name="fault">[1], I64, -1 before: set to the place among the scales of the first tile with a value that is not finite. Empty: not asked for.</param>
    /// <param name="rowOffsets">Groups of rows, or empty for one.</param>
    /// <param name="leastAmax">What the largest magnitude of a tile is taken for at least: 1e-4 as in the published model, for activations and weights.</param>
    /// <exception cref="ArgumentException">Shapes or types that do not fit.</exception>
    void Quantize(Tensor x, in ScaledTensor quantized, Tensor fault = default, Tensor rowOffsets = default, float leastAmax = 1e-4f);

    /// <summary>The same matrix in two formats: to the bit what <see cref="Quantize"/> into each gives, on a GPU in one read where it can be.</summary>
    /// <param name="x">[M, N], as for <see cref="Quantize"/>.</param>
    /// <param name="first">[M, N], as for <see cref="Quantize"/>.</param>
    /// <param name="second">The same in another format.</param>
    /// <exception cref="ArgumentException">Shapes or types that do not fit.</exception>
    void QuantizeTwice(Tensor x, in CodesTarget first, in CodesTarget second)
    {
        Quantize(x, first.Codes, first.Fault);
        Quantize(x, second.Codes, second.Fault);
    }

    /// <summary>
    /// Codes in 128x1 tiles with the elements transposed, of values or of what is quantised in 1x128 tiles already: to the bit what
    /// <see cref="Dequantize"/> to F32, <see cref="Quantize"/> and a transposition give, in one pass.
    /// </summary>
    /// <param name="x">[M, N]: F32 or BF16, or F8E4M3 or E5M6 in 1x128 tiles; any row stride.</param>
    /// <param name="quantized">F8E4M3 [N, 128 T] with F32 scales [T, N], where T is as many tiles as M rows have, or the groups of them.</param>
    /// <param name="fault">As for <see cref="Quantize"/>.</param>
    /// <param name="rowOffsets">Groups of rows, or empty for one.</param>
    /// <param name="leastAmax">As for <see cref="Quantize"/>.</param>
    /// <exception cref="NotSupportedException">Sums over rows take operands as they lie on this device.</exception>
    void QuantizeTransposed(in ScaledTensor x, in ScaledTensor quantized, Tensor fault = default, Tensor rowOffsets = default, float leastAmax = 1e-4f) =>
        throw new NotSupportedException("quantise transposed: this device takes 128x1 tiles as they lie");

    /// <summary>
    /// Codes in 1x128 tiles, and in 128x1 tiles with the elements transposed, of the same values: to the bit what <see cref="Quantize"/> and
    /// <see cref="QuantizeTransposed"/> give, in one pass where a device has one.
    /// </summary>
    /// <param name="x">[M, N], F32 or BF16; any row stride.</param>
    /// <param name="quantized">Where both go.</param>
    /// <param name="rowOffsets">Groups of rows of the transposed codes, or empty for one; rows past the last may be left alone in both.</param>
    /// <param name="leastAmax">As for <see cref="Quantize"/>.</param>
    /// <exception cref="NotSupportedException">Sums over rows take operands as they lie on this device.</exception>
    void QuantizeBothWays(Tensor x, in GradientTarget quantized, Tensor rowOffsets = default, float leastAmax = 1e-4f)
    {
        Quantize(x, quantized.OfRows.Codes, quantized.OfRows.Fault, default, leastAmax);
        QuantizeTransposed(x, quantized.OverRows.Codes, quantized.OverRows.Fault, rowOffsets, leastAmax);
    }

    /// <summary>y = element · scale.</summary>
    /// <param name="x">[M, N].</param>
    /// <param name="y">[M, N], F32; any row stride.</param>
    /// <param name="rowOffsets">Groups of rows, or empty for one.</param>
    void Dequantize(in ScaledTensor x, Tensor y, Tensor rowOffsets = default);

    /// <summary>Rounds F32 values in place to those of BF16.</summary>
    /// <param name="x">[M, N], F32; any row stride.</param>
    void RoundToBFloat16(Tensor x);
}

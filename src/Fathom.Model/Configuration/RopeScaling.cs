// YaRN (arXiv 2309.00071) as DeepSeek uses it: frequencies are interpolated by parts, and attention is sharpened by mscale².
// The trap is the default of mscale_all_dim: 0, which switches the sharpening off and puts it on cosines and sines instead.
namespace Fathom.Model;

/// <summary>rope_scaling of type yarn.</summary>
/// <param name="Factor">factor, s: how many times longer the context becomes.</param>
/// <param name="OriginalMaxPositionEmbeddings">original_max_position_embeddings: the length of the training before extension.</param>
/// <param name="BetaFast">beta_fast: rotations over the original length above which a frequency is left alone.</param>
/// <param name="BetaSlow">beta_slow: rotations below which a frequency is divided by the factor.</param>
/// <param name="Mscale">mscale.</param>
/// <param name="MscaleAllDim">mscale_all_dim.</param>
public sealed record RopeScaling(
    double Factor,
    int OriginalMaxPositionEmbeddings,
    double BetaFast = 32,
    double BetaSlow = 1,
    double Mscale = 1,
    double MscaleAllDim = 0)
{
    /// <summary>What the softmax scale is multiplied with: get_mscale(mscale_all_dim)², or 1.</summary>
    public double SoftmaxMultiplier => MscaleAllDim == 0 ? 1 : GetMscale(MscaleAllDim) * GetMscale(MscaleAllDim);

    /// <summary>What cosines and sines are multiplied with: get_mscale(mscale) / get_mscale(mscale_all_dim).</summary>
    public double CosSinMultiplier => GetMscale(Mscale) / GetMscale(MscaleAllDim);

    /// <summary>0.1 · mscale · ln(factor) + 1, or 1 where the context is not longer.</summary>
    public double GetMscale(double mscale) => Factor <= 1 ? 1 : 0.1 * mscale * Math.Log(Factor) + 1;
}

using Fathom.Compute;
using Fathom.Compute.Operators;

namespace Fathom.Model;

/// <summary>RMSNorm with a learned weight [D].</summary>
public sealed class RmsNormLayer(Parameter weight, float epsilon)
{
    /// <summary>The weight, [D].</summary>
    public Parameter Weight => weight;

    /// <summary>y = x / sqrt(mean(x²) + ε) · weight, rounded; rstd [M] is kept for the backward pass (empty in inference).</summary>
    public void Forward(LayerContext context, Tensor x, Tensor y, Tensor rstd)
    {
        context.Device.Norm.RmsNorm(x, weight.Value, epsilon, y, rstd);
        context.Round(y);
    }

    /// <summary>The same with y quantised, where <see cref="FusedNorm.Fits(LayerContext, in Tensor)"/> says yes.</summary>
    internal void Forward(LayerContext context, Tensor x, in CodesTarget y, Tensor rstd) =>
        context.Device.Norm.RmsNormQuantized(x, weight.Value, epsilon, y, rstd);

    /// <summary>dx = gradient of the input, or added + it, rounded; added may be dx.</summary>
    public void BackwardInput(LayerContext context, Tensor dy, Tensor x, Tensor rstd, Tensor dx, Tensor added = default)
    {
        context.Device.Norm.RmsNormInputGradient(dy, x, weight.Value, rstd, dx, added);
        context.Round(dx);
    }

    /// <summary>Adds to the weight's gradient, or begins it.</summary>
    public void BackwardWeight(LayerContext context, Tensor dy, Tensor x, Tensor rstd) =>
        context.Device.Norm.RmsNormWeightGradient(dy, x, rstd, weight.Gradient, weight.BeginGradient());
}

using Fathom.Compute;

namespace Fathom.Model;

/// <summary>y = x wᵀ with a weight [out, in], and its two backward products.</summary>
public sealed class LinearLayer(Parameter weight)
{
    /// <summary>The weight, [out, in].</summary>
    public Parameter Weight => weight;

    /// <summary>Outputs of the layer.</summary>
    public long Outputs => weight.Value.Shape[0];

    /// <summary>Inputs of the layer.</summary>
    public long Inputs => weight.Value.Shape[1];

    /// <summary>y = x wᵀ, or y += x wᵀ.</summary>
    public void Forward(LayerContext context, Tensor x, Tensor y, bool accumulate = false) =>
        context.Device.Linear.Forward(x, weight.Value, y, accumulate);

    /// <summary>dx = dy w, or dx += dy w.</summary>
    public void BackwardInput(LayerContext context, Tensor dy, Tensor dx, bool accumulate = false) =>
        context.Device.Linear.InputGradient(dy, weight.Value, dx, accumulate);

    /// <summary>Adds dyᵀ x to the weight's gradient.</summary>
    public void BackwardWeight(LayerContext context, Tensor dy, Tensor x) =>
        context.Device.Linear.WeightGradient(dy, x, weight.Gradient);
}

// A norm in front of quantised products on a device that quantises on the way: where they alone take its result, and what is kept of it is
// what they take, it is never written out as values. Where device or recipe do not fit, layers do the same step by step.
using Fathom.Compute;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>RMSNorm and the quantisation of its result in one pass.</summary>
internal static class FusedNorm
{
    private static readonly OperandFormat Codes = OperandFormat.E4M3OfRows;

    /// <summary>Whether a norm is fused, where nobody needs its result as values.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, D], what is normalised.</param>
    public static bool Fits(LayerContext context, in Tensor x) =>
        context.Training && Fits(context.Recipe, context.Device.Traits, x.DType, x.Columns, x.RowStride);

    /// <summary>The same for training under a recipe.</summary>
    /// <param name="recipe">As the device runs it.</param>
    /// <param name="device">The device's.</param>
    /// <param name="flow">Type of what flows between layers.</param>
    /// <param name="columns">D.</param>
    /// <param name="stride">Elements from one row of what is normalised to the next.</param>
    public static bool Fits(Recipe recipe, DeviceTraits device, DType flow, long columns, long stride) =>
        recipe.Activation == Codes && recipe.SavedLinearInput.Elements == Codes.Elements && device.FusesNormQuantization(flow, columns, stride);

    /// <summary>The result as products take it, which is what is kept of it.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="norm">The norm.</param>
    /// <param name="x">[M, D].</param>
    /// <param name="rstd">[M].</param>
    /// <param name="name">Of the result, for messages.</param>
    public static LinearInput Forward(LayerContext context, RmsNormLayer norm, Tensor x, Tensor rstd, OperandName name)
    {
        ScaledTensor codes = context.TakeSaved(x.Rows, x.Columns, Codes);
        norm.Forward(context, x, new CodesTarget(codes, context.Faults.Next(name)), rstd);
        return new LinearInput(codes, codes);
    }
}

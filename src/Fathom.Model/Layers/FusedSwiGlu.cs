// SwiGLU of a quantised recipe on a device that quantises on the way: neither its result in the forward pass nor its recalled inputs in
// the backward pass are ever written out as values. Where device or recipe do not fit, layers do the same step by step.
using Fathom.Compute;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>The fused passes between the up and the down projection.</summary>
internal static class FusedSwiGlu
{
    /// <summary>Whether both passes of a layer of this inner width are fused.</summary>
    public static bool Fits(LayerContext context, long inner) => context.Training && Fits(context.Recipe, context.Device.Traits, context.Flow, inner);

    /// <summary>The same for training under a recipe.</summary>
    /// <param name="recipe">As the device runs it.</param>
    /// <param name="device">The device's.</param>
    /// <param name="flow">Type of what flows between layers.</param>
    /// <param name="inner">I.</param>
    public static bool Fits(Recipe recipe, DeviceTraits device, DType flow, long inner) =>
        recipe.RecomputeSwiGlu && recipe.Activation == OperandFormat.E4M3OfRows && recipe.SavedSwiGluInput == OperandFormat.E4M3OfRows && device.FusesSwiGluQuantization(flow, inner);

    /// <summary>
    /// Whether the backward pass of a layer that <see cref="Fits(Recipe,DeviceTraits,DType,long)"/> goes from codes to the operands of all
    /// products behind it.
    /// </summary>
    /// <param name="recipe">As the device runs it.</param>
    /// <param name="device">The device's.</param>
    /// <param name="hidden">D.</param>
    /// <param name="inner">I.</param>
    public static bool GivesOperands(Recipe recipe, DeviceTraits device, long hidden, long inner) =>
        OutputGradient.IsBothWays(recipe, device, inner, hidden) && OutputGradient.IsTransposed(recipe, device, hidden, inner);

    /// <summary>The operand of the down projection, in <see cref="LayerContext.Scratch"/>, and both inputs as they are kept.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="gated">[M, I].</param>
    /// <param name="upped">[M, I].</param>
    /// <param name="rowScale">[M], or empty.</param>
    /// <param name="names">Of the three weights, for messages.</param>
    public static (ScaledTensor Operand, ScaledTensor Gate, ScaledTensor Up) Forward(
        LayerContext context, Tensor gated, Tensor upped, Tensor rowScale, (Parameter Gate, Parameter Up, Parameter Down) names)
    {
        OperandFormat codes = OperandFormat.E4M3OfRows;
        ScaledTensor gate = context.TakeSaved(gated.Rows, gated.Columns, codes), up = context.TakeSaved(gated.Rows, gated.Columns, codes);
        ScaledTensor operand = codes.Take(new Shape(gated.Rows, gated.Columns), new ArenaSource(context.Scratch));
        FaultLog faults = context.Faults;
        context.Device.Activation.SwiGluQuantized(
            gated, upped, rowScale,
            new CodesTarget(operand, faults.Next(new("input", names.Down.Name))),
            new CodesTarget(gate, faults.Next(new("result", names.Gate.Name))),
            new CodesTarget(up, faults.Next(new("result", names.Up.Name))));
        return (operand, gate, up);
    }
}

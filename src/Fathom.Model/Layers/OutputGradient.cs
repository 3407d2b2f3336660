using Fathom.Compute;
using Fathom.Compute.Operators;

namespace Fathom.Model;

/// <summary>
/// The gradient of a linear layer's result, for both of its backward products. Where the input gradient takes it as codes of rows and the
/// weight gradient as codes over tokens that lie transposed, both are made of one read, and the second waits in memory of its own.
/// </summary>
/// <param name="Values">[M, out].</param>
/// <param name="ForWeight">The values themselves, or memory for what the weight gradient takes.</param>
public readonly record struct OutputGradient(Tensor Values, ScaledTensor ForWeight)
{
    /// <summary>One that is quantised for each product when that is its turn.</summary>
    public static implicit operator OutputGradient(Tensor values) => new(values, values);

    /// <summary>Whether both kinds of codes are made together.</summary>
    private bool BothWays => ForWeight.Layout == ScaleLayout.TransposedColumnTile;

    /// <summary>That of a quantised weight [N, K], with what the weight gradient waits for in <see cref="LayerContext.Scratch"/>.</summary>
    internal static OutputGradient Take(LayerContext context, Tensor values, long outputs, long inputs, Tensor rowOffsets = default) =>
        IsBothWays(context.Recipe, context.Device.Traits, outputs, inputs) ? new OutputGradient(values, context.TakeOverTokens(values.Rows, values.Columns, rowOffsets)) : values;

    /// <summary>What the input gradient takes, in <see cref="LayerContext.Scratch"/>; writes what the weight gradient waits for where both are made together.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="weight">Name of the weight.</param>
    /// <param name="rowOffsets">Where rows are grouped, [E + 1].</param>
    internal ScaledTensor Quantize(LayerContext context, string weight, Tensor rowOffsets = default)
    {
        OperandName name = OfRows(weight);
        if (!BothWays) return context.Operand(Values, context.Recipe.ActivationGradient, name);
        ScaledTensor operand = OperandFormat.E4M3OfRows.Take(Values.Shape, new ArenaSource(context.Scratch));
        context.Device.Quantization.QuantizeBothWays(Values, Target(context, weight, operand, ForWeight), rowOffsets, name.LeastAmax);
        return operand;
    }

    /// <summary>Where the codes go.</summary>
    internal static GradientTarget Target(LayerContext context, string weight, in ScaledTensor ofRows, in ScaledTensor overTokens) =>
        new(new CodesTarget(ofRows, context.Faults.Next(OfRows(weight))), new CodesTarget(overTokens, context.Faults.Next(OverTokens(weight))));

    /// <summary>What codes over tokens are called in messages.</summary>
    internal static OperandName OverTokens(string weight) => new("output gradient over tokens", weight, Gradient: true);

    /// <summary>Whether the gradient of a weight [N, K] takes codes that lie transposed.</summary>
    internal static bool IsTransposed(Recipe recipe, DeviceTraits device, long outputs, long inputs)
    {
        OperandFormat format = recipe.WeightGradient;
        return !format.IsPlain && device.TokenLayout(format.Elements, format.Scales, outputs, inputs) == ScaleLayout.TransposedColumnTile;
    }

    /// <summary>Whether the gradient in front of a weight [N, K] is quantised both ways at once.</summary>
    internal static bool IsBothWays(Recipe recipe, DeviceTraits device, long outputs, long inputs) =>
        recipe.ActivationGradient == OperandFormat.E4M3OfRows && IsTransposed(recipe, device, outputs, inputs);

    private static OperandName OfRows(string weight) => new("output gradient", weight, Gradient: true);
}

using Fathom.Compute;

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
    internal bool BothWays => ForWeight.Layout == ScaleLayout.TransposedColumnTile;

    /// <summary>Whether the gradient of a weight [N, K] takes codes that lie transposed.</summary>
    internal static bool IsTransposed(Recipe recipe, DeviceTraits device, long outputs, long inputs)
    {
        OperandFormat format = recipe.WeightGradient;
        return !format.IsPlain && device.TokenLayout(format.Elements, format.Scales, outputs, inputs) == ScaleLayout.TransposedColumnTile;
    }

    /// <summary>Whether the gradient in front of a weight [N, K] is quantised both ways at once.</summary>
    internal static bool IsBothWays(Recipe recipe, DeviceTraits device, long outputs, long inputs) =>
        recipe.ActivationGradient == OperandFormat.E4M3OfRows && IsTransposed(recipe, device, outputs, inputs);
}

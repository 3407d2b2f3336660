using Fathom.Compute;
using Fathom.Compute.Operators;

namespace Fathom.Model;

/// <summary>
/// y = x wᵀ with a weight [out, in], and its two backward products, each with its operands in the recipe's formats
/// ([P] §3.3, figure 6). A layer whose weight is never quantised takes plain operands.
/// </summary>
/// <param name="weight">[out, in].</param>
/// <param name="rounds">Whether the result is rounded to what the recipe computes in; logits of router and head stay in F32.</param>
public sealed class LinearLayer(Parameter weight, bool rounds = true)
{
    /// <summary>The weight, [out, in].</summary>
    public Parameter Weight => weight;

    /// <summary>Outputs of the layer.</summary>
    public long Outputs => weight.Operand.Shape[0];

    /// <summary>Inputs of the layer.</summary>
    public long Inputs => weight.Operand.Shape[1];

    /// <summary>For messages.</summary>
    internal OperandName NameOfInputOverTokens => new("input over tokens", weight.Name);

    private bool Quantized => weight.Role == ParameterRole.Linear;

    /// <summary>In which format the forward product takes its input.</summary>
    public OperandFormat InputFormat(Recipe recipe) => Quantized ? recipe.Activation : recipe.Plain;

    /// <summary>y = x wᵀ, or y += x wᵀ.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, in], in the format of <see cref="InputFormat"/>.</param>
    /// <param name="y">[M, out].</param>
    /// <param name="accumulate">Whether to add to what y holds.</param>
    public void Forward(LayerContext context, in ScaledTensor x, Tensor y, bool accumulate = false)
    {
        ILinearOperators products = weight.Role == ParameterRole.Router ? context.ExactLinear : context.Linear;
        products.Forward(x, weight.Operand, y, accumulate);
        if (rounds) context.Round(y);
    }

    /// <summary>y = added + x wᵀ.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, in], in the format of <see cref="InputFormat"/>.</param>
    /// <param name="added">[M, out]; y itself, or another matrix.</param>
    /// <param name="y">[M, out].</param>
    public void ForwardAdded(LayerContext context, in ScaledTensor x, Tensor added, Tensor y)
    {
        if (added.Address == y.Address)
        {
            Forward(context, x, y, accumulate: true);
        }
        else if (context.Linear.AddsToAnother(x, weight.Operand, added, y))
        {
            context.Linear.ForwardAdded(x, weight.Operand, added, y);
        }
        else
        {
            context.Device.Reduction.Copy(added, y);
            Forward(context, x, y, accumulate: true);
        }
    }

    /// <summary>The gradient of the result for both backward products, with what the weight's waits for in <see cref="LayerContext.Scratch"/>.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="dy">[M, out].</param>
    public OutputGradient Gradient(LayerContext context, Tensor dy) => Quantized ? OutputGradient.Take(context, dy, Outputs, Inputs) : dy;

    /// <summary>dx = dy w, or dx += dy w, rounded.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="dy">[M, out].</param>
    /// <param name="dx">[M, in].</param>
    /// <param name="accumulate">Whether to add to what dx holds.</param>
    public void BackwardInput(LayerContext context, in OutputGradient dy, Tensor dx, bool accumulate = false)
    {
        Arena.Mark mark = context.Scratch.Position;
        ScaledTensor operand = Quantized ? dy.Quantize(context, weight.Name) : dy.Values;
        InputGradient(context, operand, dx, accumulate);
        context.Scratch.Release(mark);
    }

    /// <summary>dx = dy w, or dx += dy w, rounded, of dy as the product takes it.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="dy">[M, out].</param>
    /// <param name="dx">[M, in].</param>
    /// <param name="accumulate">Whether to add to what dx holds.</param>
    internal void InputGradient(LayerContext context, in ScaledTensor dy, Tensor dx, bool accumulate)
    {
        context.Linear.InputGradient(dy, weight.Operand, dx, accumulate);
        context.Round(dx);
    }

    /// <summary>An input as the weight gradient takes it, in <see cref="LayerContext.Scratch"/> where that is not how it was kept.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, in], as it was kept.</param>
    internal ScaledTensor InputOverTokens(LayerContext context, in ScaledTensor x) => Quantized ? context.OverTokens(x, NameOfInputOverTokens, Outputs, Inputs) : x;

    /// <summary>Whether another layer's weight gradient takes the same input in the same way.</summary>
    internal bool SharesInputOverTokens(LayerContext context, LinearLayer other)
    {
        OperandFormat format = context.Recipe.WeightGradient;
        return Quantized == other.Quantized &&
            context.Device.Traits.TokenLayout(format.Elements, format.Scales, Outputs, Inputs) == context.Device.Traits.TokenLayout(format.Elements, format.Scales, other.Outputs, other.Inputs);
    }

    /// <summary>Adds dyᵀ x to the weight's F32 gradient, or begins it.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="dy">[M, out].</param>
    /// <param name="x">[M, in], as it was kept or from <see cref="InputOverTokens"/>.</param>
    public void BackwardWeight(LayerContext context, in OutputGradient dy, in ScaledTensor x)
    {
        Arena.Mark mark = context.Scratch.Position;
        ScaledTensor left = dy.ForWeight;
        if (Quantized) left = context.OverTokens(left, OutputGradient.OverTokens(weight.Name), Outputs, Inputs);
        ScaledTensor right = InputOverTokens(context, x);
        context.Linear.WeightGradient(left, right, weight.Gradient, weight.BeginGradient());
        context.Scratch.Release(mark);
    }
}

// The dense feed-forward layer, and the shared experts (n_shared_experts of them side by side are one of that many times the
// width): down(silu(gate(x)) · up(x)). SwiGLU's inputs are kept; its output may be computed again ([P] §3.3.3).
using Fathom.Compute;
using Fathom.Compute.Operators;

namespace Fathom.Model;

/// <summary>What a dense feed-forward layer keeps of one micro-batch.</summary>
public sealed class SwiGluActivations
{
    internal ScaledTensor Input;    // [M, D]; where it was not kept, the block computes it again before the backward pass
    internal ScaledTensor Gate;     // [M, I]
    internal ScaledTensor Up;       // [M, I]
    internal ScaledTensor Hidden;   // [M, I], for the weight gradient
    internal OutputGradient DOutput; // [M, D]
    internal OutputGradient DGate;  // [M, I]
    internal OutputGradient DUp;    // [M, I]
}

/// <summary>A SwiGLU feed-forward layer of inner width I.</summary>
public sealed class SwiGluMlp
{
    private readonly LinearLayer gate;
    private readonly LinearLayer up;
    private readonly LinearLayer down;

    /// <summary>Builds the layer from {prefix}.gate_proj, up_proj and down_proj.</summary>
    public SwiGluMlp(IParameterSource source, string prefix, long hidden, long inner)
    {
        gate = new LinearLayer(source.Get($"{prefix}.gate_proj.weight", new Shape(inner, hidden), ParameterRole.Linear));
        up = new LinearLayer(source.Get($"{prefix}.up_proj.weight", new Shape(inner, hidden), ParameterRole.Linear));
        down = new LinearLayer(source.Get($"{prefix}.down_proj.weight", new Shape(hidden, inner), ParameterRole.Linear));
    }

    /// <summary>The format in which the layer takes its input.</summary>
    public OperandFormat InputFormat(Recipe recipe) => gate.InputFormat(recipe);

    /// <summary>output = added + the layer's result.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, D].</param>
    /// <param name="a">What is kept.</param>
    /// <param name="added">[M, D]; output itself, or another matrix.</param>
    /// <param name="output">[M, D].</param>
    public void Forward(LayerContext context, in LinearInput x, SwiGluActivations a, Tensor added, Tensor output)
    {
        Recipe recipe = context.Recipe;
        long rows = output.Rows, inner = gate.Outputs;
        Tensor gated = context.Result(rows, inner, recipe.SavedSwiGluInput), upped = context.Result(rows, inner, recipe.SavedSwiGluInput);
        gate.Forward(context, x.Operand, gated);
        up.Forward(context, x.Operand, upped);
        a.Input = x.Kept;
        if (FusedSwiGlu.Fits(context, inner))
        {
            (ScaledTensor operand, a.Gate, a.Up) = FusedSwiGlu.Forward(context, gated, upped, default, (gate.Weight, up.Weight, down.Weight));
            a.Hidden = default;
            down.ForwardAdded(context, operand, added, output);
            return;
        }

        a.Gate = context.Keep(gated, recipe.SavedSwiGluInput, new("result", gate.Weight.Name));
        a.Up = context.Keep(upped, recipe.SavedSwiGluInput, new("result", up.Weight.Name));
        Tensor hidden = context.Result(rows, inner, recipe.RecomputeSwiGlu ? null : recipe.Plain);
        Multiply(context, gated, upped, hidden);
        OperandFormat format = down.InputFormat(recipe);
        OperandName name = new("input", down.Weight.Name);
        if (recipe.RecomputeSwiGlu)
        {
            a.Hidden = default;
            down.ForwardAdded(context, context.Operand(hidden, format, name), added, output);
        }
        else
        {
            LinearInput input = context.Input(hidden, format, format.IsPlain ? context.Keep(hidden, recipe.Plain, name) : default, name);
            a.Hidden = input.Kept;
            down.ForwardAdded(context, input.Operand, added, output);
        }
    }

    /// <summary>dx = gradient of the input, or dx += it.</summary>
    public void BackwardInput(LayerContext context, Tensor dy, SwiGluActivations a, Tensor dx, bool accumulate)
    {
        a.DOutput = down.Gradient(context, dy);
        bool recompute = a.Hidden.IsEmpty, fused = recompute && FusedSwiGlu.Fits(context, gate.Outputs);
        if (fused && GivesOperands(context))
        {
            BackwardThroughOperands(context, a, dx, accumulate);
            return;
        }

        Tensor dgate = context.Temporary(dy.Rows, gate.Outputs), dup = context.Temporary(dy.Rows, gate.Outputs);
        a.DGate = gate.Gradient(context, dgate);
        a.DUp = up.Gradient(context, dup);
        if (recompute) a.Hidden = context.Temporary(dy.Rows, gate.Outputs);
        down.BackwardInput(context, a.DOutput, dgate);
        if (fused)
        {
            context.Device.Activation.SwiGluGradientQuantized(dgate, a.Gate, a.Up, default, dgate, dup, default, a.Hidden.Elements);
        }
        else
        {
            Arena.Mark mark = context.Scratch.Position;
            Tensor gated = context.Recall(a.Gate), upped = context.Recall(a.Up);
            if (recompute) Multiply(context, gated, upped, a.Hidden.Elements);
            context.Device.Activation.SwiGluGradient(dgate, gated, upped, default, dgate, dup, default);
            context.Scratch.Release(mark);
        }

        context.Round(dgate);
        context.Round(dup);
        gate.BackwardInput(context, a.DGate, dx, accumulate);
        up.BackwardInput(context, a.DUp, dx, accumulate: true);
    }

    /// <summary>Adds to the gradients of the three weights.</summary>
    public void BackwardWeights(LayerContext context, SwiGluActivations a)
    {
        down.BackwardWeight(context, a.DOutput, a.Hidden);
        Arena.Mark mark = context.Scratch.Position;
        ScaledTensor input = gate.InputOverTokens(context, a.Input);
        gate.BackwardWeight(context, a.DGate, input);
        up.BackwardWeight(context, a.DUp, input);
        context.Scratch.Release(mark);
    }

    private bool GivesOperands(LayerContext context) => FusedSwiGlu.GivesOperands(context.Recipe, context.Device.Traits, gate.Inputs, gate.Outputs);

    /// <summary>The same where neither the gradients nor the result are ever written out as values.</summary>
    private void BackwardThroughOperands(LayerContext context, SwiGluActivations a, Tensor dx, bool accumulate)
    {
        long rows = dx.Rows, inner = gate.Outputs;
        a.DGate = new(default, context.TakeOverTokens(rows, inner));
        a.DUp = new(default, context.TakeOverTokens(rows, inner));
        a.Hidden = context.TakeOverTokens(rows, inner);
        Arena.Mark mark = context.Scratch.Position;
        Tensor dhidden = context.Temporary(rows, inner);
        down.BackwardInput(context, a.DOutput, dhidden);
        ArenaSource scratch = new(context.Scratch);
        ScaledTensor dgate = OperandFormat.E4M3OfRows.Take(dhidden.Shape, scratch), dup = OperandFormat.E4M3OfRows.Take(dhidden.Shape, scratch);
        context.Device.Activation.SwiGluGradientOperands(
            dhidden, a.Gate, a.Up, OutputGradient.Target(context, gate.Weight.Name, dgate, a.DGate.ForWeight), OutputGradient.Target(context, up.Weight.Name, dup, a.DUp.ForWeight),
            new CodesTarget(a.Hidden, context.Faults.Next(down.NameOfInputOverTokens)), OperandName.LeastOfGradients);
        gate.InputGradient(context, dgate, dx, accumulate);
        up.InputGradient(context, dup, dx, accumulate: true);
        context.Scratch.Release(mark);
    }

    private static void Multiply(LayerContext context, Tensor gated, Tensor upped, Tensor hidden)
    {
        context.Device.Activation.SwiGlu(gated, upped, default, hidden);
        context.Round(hidden);
    }
}

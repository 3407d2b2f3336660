// The dense feed-forward layer, and the shared experts (n_shared_experts of them side by side are one of that many times the
// width): down(silu(gate(x)) · up(x)). SwiGLU's inputs are kept; its output may be computed again ([P] §3.3.3).
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>What a dense feed-forward layer keeps of one micro-batch.</summary>
public sealed class SwiGluActivations
{
    internal ScaledTensor Input;    // [M, D]; where it was not kept, the block computes it again before the backward pass
    internal ScaledTensor Gate;     // [M, I]
    internal ScaledTensor Up;       // [M, I]
    internal ScaledTensor Hidden;   // [M, I], for the weight gradient
    internal Tensor DOutput;        // [M, D]
    internal Tensor DGate;          // [M, I]
    internal Tensor DUp;            // [M, I]
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
        a.DOutput = dy;
        a.DGate = context.Temporary(dy.Rows, gate.Outputs);
        a.DUp = context.Temporary(dy.Rows, gate.Outputs);
        bool recompute = a.Hidden.IsEmpty;
        if (recompute) a.Hidden = context.Temporary(dy.Rows, gate.Outputs);
        down.BackwardInput(context, dy, a.DGate);
        if (recompute && FusedSwiGlu.Fits(context, gate.Outputs))
        {
            context.Device.Activation.SwiGluGradientQuantized(a.DGate, a.Gate, a.Up, default, a.DGate, a.DUp, default, a.Hidden.Elements);
        }
        else
        {
            Arena.Mark mark = context.Scratch.Position;
            Tensor gated = context.Recall(a.Gate), upped = context.Recall(a.Up);
            if (recompute) Multiply(context, gated, upped, a.Hidden.Elements);
            context.Device.Activation.SwiGluGradient(a.DGate, gated, upped, default, a.DGate, a.DUp, default);
            context.Scratch.Release(mark);
        }

        context.Round(a.DGate);
        context.Round(a.DUp);
        gate.BackwardInput(context, a.DGate, dx, accumulate);
        up.BackwardInput(context, a.DUp, dx, accumulate: true);
    }

    /// <summary>Adds to the gradients of the three weights.</summary>
    public void BackwardWeights(LayerContext context, SwiGluActivations a)
    {
        down.BackwardWeight(context, a.DOutput, a.Hidden);
        gate.BackwardWeight(context, a.DGate, a.Input);
        up.BackwardWeight(context, a.DUp, a.Input);
    }

    private static void Multiply(LayerContext context, Tensor gated, Tensor upped, Tensor hidden)
    {
        context.Device.Activation.SwiGlu(gated, upped, default, hidden);
        context.Round(hidden);
    }
}

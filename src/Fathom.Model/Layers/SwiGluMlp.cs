// The dense feed-forward layer, and the shared experts (n_shared_experts of them side by side are one of that many times the
// width): down(silu(gate(x)) · up(x)).
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>What a dense feed-forward layer keeps of one micro-batch.</summary>
public sealed class SwiGluActivations
{
    internal Tensor Input;      // [M, D]
    internal Tensor Gate;       // [M, I]
    internal Tensor Up;         // [M, I]
    internal Tensor Hidden;     // [M, I]
    internal Tensor DOutput;    // [M, D]
    internal Tensor DGate;      // [M, I]
    internal Tensor DUp;        // [M, I]
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
        gate = new LinearLayer(source.Get($"{prefix}.gate_proj.weight", new Shape(inner, hidden), ParameterRole.Matrix));
        up = new LinearLayer(source.Get($"{prefix}.up_proj.weight", new Shape(inner, hidden), ParameterRole.Matrix));
        down = new LinearLayer(source.Get($"{prefix}.down_proj.weight", new Shape(hidden, inner), ParameterRole.Matrix));
    }

    /// <summary>Adds the layer's result to output.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, D], kept by the caller until the backward pass.</param>
    /// <param name="activations">What is kept.</param>
    /// <param name="output">[M, D], added to.</param>
    public void Forward(LayerContext context, Tensor x, SwiGluActivations activations, Tensor output)
    {
        long rows = x.Rows;
        activations.Input = x;
        activations.Gate = context.Save(rows, gate.Outputs);
        activations.Up = context.Save(rows, gate.Outputs);
        activations.Hidden = context.Save(rows, gate.Outputs);
        gate.Forward(context, x, activations.Gate);
        up.Forward(context, x, activations.Up);
        context.Device.Activation.SwiGlu(activations.Gate, activations.Up, default, activations.Hidden);
        down.Forward(context, activations.Hidden, output, accumulate: true);
    }

    /// <summary>dx = gradient of the input, or dx += it.</summary>
    public void BackwardInput(LayerContext context, Tensor dy, SwiGluActivations activations, Tensor dx, bool accumulate)
    {
        activations.DOutput = dy;
        activations.DGate = context.Temporary(dy.Rows, gate.Outputs);
        activations.DUp = context.Temporary(dy.Rows, gate.Outputs);
        down.BackwardInput(context, dy, activations.DGate);
        context.Device.Activation.SwiGluGradient(
            activations.DGate, activations.Gate, activations.Up, default, activations.DGate, activations.DUp, default);
        gate.BackwardInput(context, activations.DGate, dx, accumulate);
        up.BackwardInput(context, activations.DUp, dx, accumulate: true);
    }

    /// <summary>Adds to the gradients of the three weights.</summary>
    public void BackwardWeights(LayerContext context, SwiGluActivations activations)
    {
        down.BackwardWeight(context, activations.DOutput, activations.Hidden);
        gate.BackwardWeight(context, activations.DGate, activations.Input);
        up.BackwardWeight(context, activations.DUp, activations.Input);
    }
}

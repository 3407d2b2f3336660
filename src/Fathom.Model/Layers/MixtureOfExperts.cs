// DeepSeekMoE ([P] §2.1.2): shared experts that every token visits, and routed ones of which it visits K. The router runs in F32.
// The gate is multiplied in before the down projection, so the experts' outputs need not be kept. Dispatched inputs are not kept
// either: the backward pass gathers them again from the layer's input, K times smaller.
using Fathom.Compute;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>What an expert layer keeps of one micro-batch. S = M·K sorted rows.</summary>
public sealed class MixtureOfExpertsActivations
{
    internal readonly SwiGluActivations Shared = new();
    internal Tensor Input;              // [M, D]
    internal Tensor Scores;             // [M, E]
    internal Tensor Experts;            // [M, K] I32
    internal Tensor Gates;              // [M, K]
    internal Tensor RowOffsets;         // [E + 1] I32
    internal Tensor SlotOfRow;          // [S] I32
    internal Tensor RowOfSlot;          // [M, K] I32
    internal Tensor RowGates;           // [S]
    internal Tensor Gate;               // [S, I]
    internal Tensor Up;                 // [S, I]
    internal Tensor Hidden;             // [S, I]
    internal Tensor Frequencies;        // [B, E]
    internal Tensor DExpertOutput;      // [S, D]
    internal Tensor DGate;              // [S, I]
    internal Tensor DUp;                // [S, I]
    internal Tensor DLogits;            // [M, E]

    /// <summary>Balance loss of each sequence, [B], without alpha; empty where none was computed.</summary>
    public Tensor BalanceLosses { get; internal set; }
}

/// <summary>A mixture-of-experts feed-forward layer.</summary>
public sealed class MixtureOfExperts
{
    private readonly LinearLayer router;
    private readonly Parameter? bias;
    private readonly Parameter gate;
    private readonly Parameter up;
    private readonly Parameter down;
    private readonly SwiGluMlp? shared;
    private readonly RoutingOptions options;

    /// <summary>Builds the layer from {prefix}.gate, .experts.* and .shared_experts.</summary>
    public MixtureOfExperts(Device device, IParameterSource source, string prefix, ModelConfig config)
    {
        long hidden = config.HiddenSize, inner = config.MoeIntermediateSize;
        options = config.Routing;
        router = new LinearLayer(source.Get($"{prefix}.gate.weight", new Shape(options.Experts, hidden), ParameterRole.Matrix));
        if (options.Method == TopKMethod.NoAuxTc)
            bias = source.Get($"{prefix}.gate.e_score_correction_bias", new Shape(options.Experts), ParameterRole.RoutingBias);
        gate = source.GetExperts(prefix + ".experts.{0}.gate_proj.weight", options.Experts, new Shape(inner, hidden));
        up = source.GetExperts(prefix + ".experts.{0}.up_proj.weight", options.Experts, new Shape(inner, hidden));
        down = source.GetExperts(prefix + ".experts.{0}.down_proj.weight", options.Experts, new Shape(hidden, inner));
        if (config.NSharedExperts > 0) shared = new SwiGluMlp(source, prefix + ".shared_experts", hidden, inner * config.NSharedExperts);
        Load = device.Allocate(new Shape(options.Experts), DType.I64, MemoryKind.Inputs);
    }

    /// <summary>Tokens that chose each expert since the load was last cleared, [E], I64.</summary>
    public Tensor Load { get; }

    /// <summary>The routing bias, or null where the choice has none.</summary>
    public Parameter? Bias => bias;

    /// <summary>Adds the layer's result to output.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, D], kept by the caller until the backward pass.</param>
    /// <param name="activations">What is kept.</param>
    /// <param name="output">[M, D], added to.</param>
    public void Forward(LayerContext context, Tensor x, MixtureOfExpertsActivations activations, Tensor output)
    {
        Route(context, x, activations);
        Device device = context.Device;
        long rows = activations.SlotOfRow.Elements, inner = gate.Experts!.Outputs;
        activations.Gate = context.Save(rows, inner);
        activations.Up = context.Save(rows, inner);
        activations.Hidden = context.Save(rows, inner);

        Arena.Mark mark = context.Scratch.Position;
        Tensor dispatched = context.Temporary(rows, x.Columns);
        device.Routing.Dispatch(x, activations.SlotOfRow, options.TopK, dispatched);
        device.Linear.GroupedForward(dispatched, activations.RowOffsets, gate.Experts, activations.Gate);
        device.Linear.GroupedForward(dispatched, activations.RowOffsets, up.Experts!, activations.Up);
        device.Activation.SwiGlu(activations.Gate, activations.Up, activations.RowGates, activations.Hidden);
        Tensor expertOutput = dispatched; // The dispatched inputs are not needed again.
        device.Linear.GroupedForward(activations.Hidden, activations.RowOffsets, down.Experts!, expertOutput);
        device.Routing.Combine(expertOutput, activations.RowOfSlot, output, accumulate: true);
        context.Scratch.Release(mark);
        shared?.Forward(context, x, activations.Shared, output);
    }

    /// <summary>dx = gradient of the input (overwritten).</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="dy">[M, D].</param>
    /// <param name="activations">Of the forward pass.</param>
    /// <param name="balanceScale">Derivative of the total loss by one sequence's balance loss; zero for none.</param>
    /// <param name="dx">[M, D].</param>
    public void BackwardInput(LayerContext context, Tensor dy, MixtureOfExpertsActivations activations, float balanceScale, Tensor dx)
    {
        Device device = context.Device;
        long rows = activations.SlotOfRow.Elements, inner = gate.Experts!.Outputs, tokens = dy.Rows;
        activations.DExpertOutput = context.Temporary(rows, dy.Columns);
        activations.DGate = context.Temporary(rows, inner);
        activations.DUp = context.Temporary(rows, inner);
        activations.DLogits = context.Temporary(tokens, options.Experts);
        Arena.Mark mark = context.Scratch.Position;
        Tensor drowGates = context.Scratch.Take(new Shape(rows)), dgates = context.Temporary(tokens, options.TopK);
        Tensor ddispatched = context.Temporary(rows, dy.Columns);

        device.Routing.Dispatch(dy, activations.SlotOfRow, options.TopK, activations.DExpertOutput);
        device.Linear.GroupedInputGradient(activations.DExpertOutput, activations.RowOffsets, down.Experts!, activations.DGate);
        device.Activation.SwiGluGradient(
            activations.DGate, activations.Gate, activations.Up, activations.RowGates, activations.DGate, activations.DUp, drowGates);
        device.Linear.GroupedInputGradient(activations.DGate, activations.RowOffsets, gate.Experts, ddispatched);
        device.Linear.GroupedInputGradient(activations.DUp, activations.RowOffsets, up.Experts!, ddispatched, accumulate: true);
        device.Routing.Combine(ddispatched, activations.RowOfSlot, dx);

        device.Routing.RowsToSlots(drowGates, activations.SlotOfRow, dgates);
        device.Routing.ChooseGradient(
            dgates, activations.Scores, activations.Experts, activations.Gates, options,
            balanceScale == 0 ? default : activations.Frequencies, balanceScale, activations.DLogits);
        router.BackwardInput(context, activations.DLogits, dx, accumulate: true);
        context.Scratch.Release(mark);
        shared?.BackwardInput(context, dy, activations.Shared, dx, accumulate: true);
    }

    /// <summary>Adds to the gradients of router, experts and shared experts.</summary>
    public void BackwardWeights(LayerContext context, MixtureOfExpertsActivations activations)
    {
        Device device = context.Device;
        Arena.Mark mark = context.Scratch.Position;
        Tensor dispatched = context.Temporary(activations.SlotOfRow.Elements, activations.Input.Columns);
        device.Routing.Dispatch(activations.Input, activations.SlotOfRow, options.TopK, dispatched);
        device.Linear.GroupedWeightGradient(activations.DExpertOutput, activations.Hidden, activations.RowOffsets, down.Gradient);
        device.Linear.GroupedWeightGradient(activations.DGate, dispatched, activations.RowOffsets, gate.Gradient);
        device.Linear.GroupedWeightGradient(activations.DUp, dispatched, activations.RowOffsets, up.Gradient);
        context.Scratch.Release(mark);
        router.BackwardWeight(context, activations.DLogits, activations.Input);
        shared?.BackwardWeights(context, activations.Shared);
    }

    private void Route(LayerContext context, Tensor x, MixtureOfExpertsActivations activations)
    {
        Device device = context.Device;
        long tokens = x.Rows, slots = tokens * options.TopK;
        Arena saved = context.Saved;
        activations.Input = x;
        activations.Scores = context.Save(tokens, options.Experts);
        activations.Experts = saved.Take(new Shape(tokens, options.TopK), DType.I32);
        activations.Gates = context.Save(tokens, options.TopK);
        activations.RowOffsets = saved.Take(new Shape(options.Experts + 1), DType.I32);
        activations.SlotOfRow = saved.Take(new Shape(slots), DType.I32);
        activations.RowOfSlot = saved.Take(new Shape(tokens, options.TopK), DType.I32);
        activations.RowGates = saved.Take(new Shape(slots));

        Arena.Mark mark = context.Scratch.Position;
        Tensor logits = context.Temporary(tokens, options.Experts);
        router.Forward(context, x, logits);
        device.Routing.Choose(
            logits, bias?.Value ?? default, options, activations.Scores, activations.Experts, activations.Gates, Load);
        context.Scratch.Release(mark);
        device.Routing.Sort(activations.Experts, activations.RowOffsets, activations.SlotOfRow, activations.RowOfSlot);
        device.Routing.SlotsToRows(activations.Gates, activations.SlotOfRow, activations.RowGates);

        if (!context.Training) return;
        activations.Frequencies = context.Save(context.Batch, options.Experts);
        activations.BalanceLosses = saved.Take(new Shape(context.Batch));
        device.Routing.BalanceLoss(activations.Scores, options.TopK, context.Batch, activations.Frequencies, activations.BalanceLosses);
    }
}

// DeepSeekMoE ([P] §2.1.2): shared experts that every token visits, and routed ones of which it visits K. The router runs in F32.
// The gate is multiplied in before the down projection, so the experts' outputs need not be kept. Dispatched inputs are not kept
// either: they are quantised once a token before they are dispatched ([P] §3.3.3), and the backward pass gathers them again from
// that, K times smaller. Outputs come back in the type that the recipe computes in.
using Fathom.Compute;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>What an expert layer keeps of one micro-batch. S = M·K sorted rows.</summary>
public sealed class MixtureOfExpertsActivations
{
    internal readonly SwiGluActivations Shared = new();
    internal ScaledTensor Input;        // [M, D], plain; where it was not kept, the block computes it again before the backward pass
    internal ScaledTensor Dispatched;   // [M, D], as dispatched; empty where that is the plain input
    internal Tensor Scores;             // [M, E]
    internal Tensor Experts;            // [M, K] I32
    internal Tensor Gates;              // [M, K]
    internal Tensor RowOffsets;         // [E + 1] I32
    internal Tensor SlotOfRow;          // [S] I32
    internal Tensor RowOfSlot;          // [M, K] I32
    internal Tensor RowGates;           // [S]
    internal ScaledTensor Gate;         // [S, I]
    internal ScaledTensor Up;           // [S, I]
    internal ScaledTensor Hidden;       // [S, I], for the weight gradient
    internal Tensor Frequencies;        // [B, E]
    internal ScaledTensor DExpertOutput; // [S, D]
    internal OutputGradient DGate;      // [S, I]
    internal OutputGradient DUp;        // [S, I]
    internal Tensor DLogits;            // [M, E]

    /// <summary>Balance loss of each sequence, [B], without alpha: among the micro-batch's results; empty in inference.</summary>
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
    public MixtureOfExperts(IParameterSource source, string prefix, ModelConfig config)
    {
        long hidden = config.HiddenSize, inner = config.MoeIntermediateSize;
        options = config.Routing;
        router = new LinearLayer(source.Get($"{prefix}.gate.weight", new Shape(options.Experts, hidden), ParameterRole.Router), rounds: false);
        if (options.Method == TopKMethod.NoAuxTc)
            bias = source.Get($"{prefix}.gate.e_score_correction_bias", new Shape(options.Experts), ParameterRole.RoutingBias);
        gate = source.GetExperts(prefix + ".experts.{0}.gate_proj.weight", options.Experts, new Shape(inner, hidden));
        up = source.GetExperts(prefix + ".experts.{0}.up_proj.weight", options.Experts, new Shape(inner, hidden));
        down = source.GetExperts(prefix + ".experts.{0}.down_proj.weight", options.Experts, new Shape(hidden, inner));
        if (config.NSharedExperts > 0) shared = new SwiGluMlp(source, prefix + ".shared_experts", hidden, inner * config.NSharedExperts);
    }

    /// <summary>Tokens that chose each expert since the load was last cleared, [E], I64: a row of the model's table of loads.</summary>
    public Tensor Load { get; internal set; }

    /// <summary>The routing bias, or null where the choice has none.</summary>
    public Parameter? Bias => bias;

    /// <summary>The format in which the shared experts take their input.</summary>
    public OperandFormat InputFormat(Recipe recipe) => shared?.InputFormat(recipe) ?? recipe.Plain;

    /// <summary>Adds the layer's result to output.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="plain">[M, D]: the input for the router, which is never quantised.</param>
    /// <param name="x">The same for the shared experts.</param>
    /// <param name="kept">The same as it waits for the router's weight gradient; empty where the block computes it again.</param>
    /// <param name="a">What is kept.</param>
    /// <param name="output">[M, D], added to.</param>
    public void Forward(LayerContext context, Tensor plain, in LinearInput x, in ScaledTensor kept, MixtureOfExpertsActivations a, Tensor output)
    {
        a.Input = kept;
        Route(context, plain, a);
        Device device = context.Device;
        Recipe recipe = context.Recipe;
        long rows = a.SlotOfRow.Elements, inner = gate.Experts!.Outputs;
        a.Dispatched = recipe.Dispatch.IsPlain ? default : Quantize(context, plain, recipe.Dispatch, context.Training, new("dispatched input", gate.Name));
        Tensor gated = context.Result(rows, inner, recipe.SavedSwiGluInput), upped = context.Result(rows, inner, recipe.SavedSwiGluInput);
        bool fused = FusedSwiGlu.Fits(context, inner);
        Tensor hidden = fused ? default : context.Result(rows, inner, recipe.RecomputeSwiGlu ? null : recipe.Plain);

        Arena.Mark mark = context.Scratch.Position;
        ScaledTensor dispatched = Dispatch(context, a.Dispatched.IsEmpty ? plain : a.Dispatched, a);
        dispatched = context.Operand(dispatched, recipe.Activation, new("input", gate.Name));
        context.Linear.GroupedForward(dispatched, a.RowOffsets, gate.Experts, gated);
        context.Linear.GroupedForward(dispatched, a.RowOffsets, up.Experts!, upped);
        context.Round(gated);
        context.Round(upped);
        ScaledTensor operand = default;
        if (fused) (operand, a.Gate, a.Up) = FusedSwiGlu.Forward(context, gated, upped, a.RowGates, (gate, up, down));
        else Multiply(context, gated, upped, a, hidden);
        Tensor expertOutput = context.Temporary(rows, plain.Columns);
        if (!fused) operand = context.Operand(hidden, recipe.Activation, new("input", down.Name));
        context.Linear.GroupedForward(operand, a.RowOffsets, down.Experts!, expertOutput);
        context.Round(expertOutput);
        device.Routing.Combine(expertOutput, a.RowOfSlot, output, accumulate: true);
        context.Round(output);
        context.Scratch.Release(mark);

        if (!fused)
        {
            a.Gate = context.Keep(gated, recipe.SavedSwiGluInput, new("result", gate.Name));
            a.Up = context.Keep(upped, recipe.SavedSwiGluInput, new("result", up.Name));
        }

        a.Hidden = recipe.RecomputeSwiGlu ? default : context.Keep(hidden, recipe.SavedLinearInput, new("input", down.Name));
        shared?.Forward(context, x, a.Shared, output, output);
    }

    /// <summary>dx = gradient of the input (overwritten).</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="dy">[M, D].</param>
    /// <param name="a">Of the forward pass.</param>
    /// <param name="balanceScale">Derivative of the total loss by one sequence's balance loss; zero for none.</param>
    /// <param name="dx">[M, D].</param>
    public void BackwardInput(LayerContext context, Tensor dy, MixtureOfExpertsActivations a, float balanceScale, Tensor dx)
    {
        Device device = context.Device;
        Recipe recipe = context.Recipe;
        long rows = a.SlotOfRow.Elements, inner = gate.Experts!.Outputs, tokens = dy.Rows;
        Tensor dgate = context.Temporary(rows, inner), dup = context.Temporary(rows, inner);
        a.DGate = Gradient(context, a, dgate, gate);
        a.DUp = Gradient(context, a, dup, up);
        a.DLogits = context.Scratch.Take(new Shape(tokens, options.Experts));
        bool recompute = a.Hidden.IsEmpty;
        if (recompute) a.Hidden = context.Temporary(rows, inner);
        ScaledTensor doutput = recipe.DispatchGradient.IsPlain ? dy : Quantize(context, dy, recipe.DispatchGradient, false, new("dispatched output gradient", down.Name, Gradient: true));
        a.DExpertOutput = Dispatch(context, doutput, a);

        Arena.Mark mark = context.Scratch.Position;
        ScaledTensor operand = context.Operand(a.DExpertOutput, recipe.ActivationGradient, new("output gradient", down.Name, Gradient: true));
        context.Linear.GroupedInputGradient(operand, a.RowOffsets, down.Experts!, dgate);
        context.Round(dgate);
        Tensor drowGates = context.Scratch.Take(new Shape(rows)), dgates = context.Scratch.Take(new Shape(tokens, options.TopK));
        if (recompute && FusedSwiGlu.Fits(context, inner))
        {
            device.Activation.SwiGluGradientQuantized(dgate, a.Gate, a.Up, a.RowGates, dgate, dup, drowGates, a.Hidden.Elements);
        }
        else
        {
            Tensor gated = context.Recall(a.Gate), upped = context.Recall(a.Up);
            if (recompute) Multiply(context, gated, upped, a, a.Hidden.Elements);
            device.Activation.SwiGluGradient(dgate, gated, upped, a.RowGates, dgate, dup, drowGates);
        }

        context.Round(dgate);
        context.Round(dup);

        Tensor ddispatched = context.Temporary(rows, dy.Columns);
        operand = a.DGate.Quantize(context, gate.Name, a.RowOffsets);
        context.Linear.GroupedInputGradient(operand, a.RowOffsets, gate.Experts, ddispatched);
        operand = a.DUp.Quantize(context, up.Name, a.RowOffsets);
        context.Linear.GroupedInputGradient(operand, a.RowOffsets, up.Experts!, ddispatched, accumulate: true);
        context.Round(ddispatched);
        device.Routing.Combine(ddispatched, a.RowOfSlot, dx);

        device.Routing.RowsToSlots(drowGates, a.SlotOfRow, dgates);
        device.Routing.ChooseGradient(
            dgates, a.Scores, a.Experts, a.Gates, options, balanceScale == 0 ? default : a.Frequencies, balanceScale, a.DLogits);
        router.BackwardInput(context, a.DLogits, dx, accumulate: true);
        context.Scratch.Release(mark);
        shared?.BackwardInput(context, dy, a.Shared, dx, accumulate: true);
    }

    /// <summary>Adds to the gradients of router, experts and shared experts.</summary>
    public void BackwardWeights(LayerContext context, MixtureOfExpertsActivations a)
    {
        Arena.Mark mark = context.Scratch.Position;
        WeightGradient(context, a, a.DExpertOutput, Operand(a.Hidden, "input over tokens", down), down);
        ScaledTensor dispatched = Operand(Dispatch(context, a.Dispatched.IsEmpty ? context.Recall(a.Input) : a.Dispatched, a), "input over tokens", gate);
        WeightGradient(context, a, a.DGate.ForWeight, dispatched, gate);
        WeightGradient(context, a, a.DUp.ForWeight, dispatched, up);
        router.BackwardWeight(context, a.DLogits, context.Recall(a.Input));
        context.Scratch.Release(mark);
        shared?.BackwardWeights(context, a.Shared);

        ScaledTensor Operand(in ScaledTensor x, string role, Parameter weight) =>
            context.OverTokens(x, new(role, weight.Name), weight.Experts!.Outputs, weight.Experts.Inputs, a.RowOffsets);
    }

    /// <summary>The gradient of the experts' results for both products behind it.</summary>
    private static OutputGradient Gradient(LayerContext context, MixtureOfExpertsActivations a, Tensor values, Parameter weight) =>
        OutputGradient.Take(context, values, weight.Experts!.Outputs, weight.Experts.Inputs, a.RowOffsets);

    private static void WeightGradient(LayerContext context, MixtureOfExpertsActivations a, in ScaledTensor dy, in ScaledTensor x, Parameter weight)
    {
        Arena.Mark mark = context.Scratch.Position;
        ScaledTensor operand = context.OverTokens(
            dy, OutputGradient.OverTokens(weight.Name), weight.Experts!.Outputs, weight.Experts.Inputs, a.RowOffsets);
        context.Linear.GroupedWeightGradient(operand, x, a.RowOffsets, weight.Gradient, weight.BeginGradient());
        context.Scratch.Release(mark);
    }

    private static void Multiply(LayerContext context, Tensor gated, Tensor upped, MixtureOfExpertsActivations a, Tensor hidden)
    {
        context.Device.Activation.SwiGlu(gated, upped, a.RowGates, hidden);
        context.Round(hidden);
    }

    /// <summary>A token's row as it travels: quantised once, whichever experts it goes to.</summary>
    private static ScaledTensor Quantize(LayerContext context, Tensor x, OperandFormat format, bool keep, OperandName name) =>
        keep ? context.Keep(x, format, name) : context.Operand(x, format, name);

    /// <summary>Rows in the order of the experts, elements and scales alike.</summary>
    private ScaledTensor Dispatch(LayerContext context, in ScaledTensor x, MixtureOfExpertsActivations a)
    {
        Tensor elements = Move(x.Elements);
        return x.Layout == ScaleLayout.None ? elements : new ScaledTensor(elements, Move(x.Scales), x.Layout);

        Tensor Move(Tensor from)
        {
            Tensor to = context.Scratch.Take(new Shape(a.SlotOfRow.Elements, from.Columns), from.DType);
            context.Device.Routing.Dispatch(from, a.SlotOfRow, options.TopK, to);
            return to;
        }
    }

    private void Route(LayerContext context, Tensor x, MixtureOfExpertsActivations a)
    {
        Device device = context.Device;
        long tokens = x.Rows, slots = tokens * options.TopK;
        a.Scores = context.Save(new Shape(tokens, options.Experts));
        a.Experts = context.Save(new Shape(tokens, options.TopK), DType.I32);
        a.Gates = context.Save(new Shape(tokens, options.TopK));
        a.RowOffsets = context.Save(new Shape(options.Experts + 1), DType.I32);
        a.SlotOfRow = context.Save(new Shape(slots), DType.I32);
        a.RowOfSlot = context.Save(new Shape(tokens, options.TopK), DType.I32);
        a.RowGates = context.Save(new Shape(slots));

        Arena.Mark mark = context.Scratch.Position;
        Tensor logits = context.Scratch.Take(new Shape(tokens, options.Experts));
        router.Forward(context, x, logits);
        device.Routing.Choose(
            logits, bias?.Value ?? default, options, a.Scores, a.Experts, a.Gates, Load);
        context.Scratch.Release(mark);
        device.Routing.Sort(a.Experts, a.RowOffsets, a.SlotOfRow, a.RowOfSlot);
        device.Routing.SlotsToRows(a.Gates, a.SlotOfRow, a.RowGates);

        if (!context.Training) return;
        a.Frequencies = context.Save(new Shape(context.Batch, options.Experts));
        device.Routing.BalanceLoss(a.Scores, options.TopK, context.Batch, a.Frequencies, a.BalanceLosses);
    }
}

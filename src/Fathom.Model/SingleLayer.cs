// One transformer layer by itself, as a step of training runs it: operands of the weights as the recipe has them, made once, and F32
// gradients, but neither main weights nor moments. So a layer of DeepSeek-V3's width fits on one GPU: 11.5 billion weights are 46 GB of
// gradients, 11.5 GB of E4M3 codes and as much again transposed. Weights are normal numbers that repeat, since drawing so many would
// take longer than what is measured.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>A layer with random weights, for measurements.</summary>
public sealed class SingleLayer
{
    private readonly TransformerBlock block;
    private readonly RotaryTable rotary;
    private readonly RandomParameters parameters;
    private readonly ModelConfig config;
    private readonly Recipe recipe;
    private readonly Tensor load; // [E], I64

    /// <summary>Builds the layer, and operands and gradients of its weights.</summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="config">The model that it is of.</param>
    /// <param name="layer">Its number there, which says whether it has experts.</param>
    /// <param name="recipe">How numbers are stored and multiplied.</param>
    public SingleLayer(Device device, ModelConfig config, int layer, Recipe recipe)
    {
        (Device, this.config, this.recipe) = (device, config, recipe);
        parameters = new RandomParameters(device, recipe, (float)config.InitializerRange);
        rotary = new RotaryTable(device, config);
        block = new TransformerBlock(parameters, config, layer, rotary);
        if (block.Experts is not { } experts) return;
        load = experts.Load = device.Allocate(new Shape(config.NRoutedExperts), DType.I64, MemoryKind.Workspace);
    }

    /// <summary>Where the layer runs.</summary>
    public Device Device { get; }

    /// <summary>Its weights, each with a gradient.</summary>
    public IReadOnlyList<Parameter> Parameters => parameters.All;

    /// <summary>A micro-batch of the layer.</summary>
    /// <param name="operators">The layer's device, or another that computes in the same memory.</param>
    /// <param name="batch">Sequences, B.</param>
    /// <param name="tokens">Tokens of a sequence, T.</param>
    public LayerPass Pass(Device operators, int batch, int tokens)
    {
        rotary.Reserve(tokens);
        return new LayerPass(operators, block, parameters, load, recipe, config.HiddenSize, batch, tokens);
    }

    /// <summary>Writes a few codes of every weight again, as they are, after which everything that was derived from them has to be made anew.</summary>
    public void MarkWeightsChanged() => parameters.WriteAgain();
}

/// <summary>What one micro-batch of a <see cref="SingleLayer"/> takes and keeps.</summary>
public sealed class LayerPass
{
    private readonly LayerContext context;
    private readonly TransformerBlock block;
    private readonly RandomParameters parameters;
    private readonly BlockActivations activations = new();
    private readonly Tensor load;
    private readonly Tensor dy, dmiddle; // [M, D]

    internal LayerPass(Device device, TransformerBlock block, RandomParameters parameters, Tensor load, Recipe recipe, long width, int batch, int tokens)
    {
        (this.block, this.parameters, this.load) = (block, parameters, load);
        context = new LayerContext(device, training: true, recipe) { Batch = batch };
        long rows = (long)batch * tokens;
        var positions = new Mirror(device, new Shape(rows), DType.I32);
        for (int i = 0; i < rows; i++) positions.Host.AsSpan<int>()[i] = i % tokens;
        positions.Push();
        context.Positions = positions.Tensor;
        Input = context.SaveResult(rows, width);
        Output = Flowing();
        dy = Flowing();
        dmiddle = Flowing();
        InputGradient = Flowing();
        parameters.Fill(Input, 1);
        parameters.Fill(dy, 1e-3f);
        if (block.Experts is not null) activations.Experts.BalanceLosses = device.Allocate(new Shape(batch), DType.F32, MemoryKind.Workspace);

        Tensor Flowing() => device.Allocate(new Shape(rows, width), context.Flow, MemoryKind.Activations);
    }

    /// <summary>[M, D], normal numbers.</summary>
    public Tensor Input { get; }

    /// <summary>[M, D], of the last <see cref="Forward"/>.</summary>
    public Tensor Output { get; }

    /// <summary>[M, D], of the last <see cref="Backward"/>.</summary>
    public Tensor InputGradient { get; }

    /// <summary>The forward pass, which keeps what a backward pass needs.</summary>
    public void Forward()
    {
        context.Reset();
        context.SaveResult(Input.Rows, Input.Columns); // the input's own place, where a block before this one would have left it
        if (!load.IsEmpty) context.Device.Reduction.Zero(load);
        block.Forward(context, Input, activations, Output);
    }

    /// <summary>The backward pass after <see cref="Forward"/>, of a step's first micro-batch: gradients of the weights are stored.</summary>
    public void Backward()
    {
        const float BalanceScale = 1e-4f;
        foreach (Parameter parameter in parameters.All) parameter.ForgetGradient();
        context.Scratch.Reset();
        block.BackwardInput(context, dy, activations, BalanceScale, dmiddle, InputGradient);
        block.BackwardWeights(context, activations);
    }
}

// A pre-norm transformer layer: x + attention(norm(x)), then that + feed-forward(norm(that)).
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>What a block keeps of one micro-batch.</summary>
public sealed class BlockActivations
{
    internal readonly LatentAttentionActivations Attention = new();
    internal readonly SwiGluActivations Dense = new();
    internal Tensor Input;              // [M, D]
    internal Tensor InputRstd;          // [M]
    internal Tensor InputNormed;        // [M, D]
    internal Tensor Middle;             // [M, D], after attention
    internal Tensor MiddleRstd;         // [M]
    internal Tensor MiddleNormed;       // [M, D]
    internal Tensor DInputNormed;       // [M, D]
    internal Tensor DMiddleNormed;      // [M, D]

    /// <summary>Of the expert layer, where the block has one.</summary>
    public MixtureOfExpertsActivations Experts { get; } = new();
}

/// <summary>One transformer layer of the model or of an MTP module.</summary>
public sealed class TransformerBlock
{
    private readonly RmsNormLayer inputNorm;
    private readonly LatentAttention attention;
    private readonly RmsNormLayer middleNorm;
    private readonly SwiGluMlp? dense;

    /// <summary>Builds layer <paramref name="layer"/> from model.layers.{layer}; the configuration says whether it has experts.</summary>
    public TransformerBlock(Device device, IParameterSource source, ModelConfig config, int layer, RotaryTable rotary)
    {
        string prefix = $"model.layers.{layer}";
        Shape width = new(config.HiddenSize);
        inputNorm = new RmsNormLayer(source.Get($"{prefix}.input_layernorm.weight", width, ParameterRole.NormWeight), (float)config.RmsNormEps);
        attention = new LatentAttention(source, $"{prefix}.self_attn", config, rotary);
        middleNorm = new RmsNormLayer(source.Get($"{prefix}.post_attention_layernorm.weight", width, ParameterRole.NormWeight), (float)config.RmsNormEps);
        if (config.IsMoeLayer(layer)) Experts = new MixtureOfExperts(device, source, $"{prefix}.mlp", config);
        else dense = new SwiGluMlp(source, $"{prefix}.mlp", config.HiddenSize, config.IntermediateSize);
        Layer = layer;
    }

    /// <summary>The layer's number in the checkpoint.</summary>
    public int Layer { get; }

    /// <summary>The expert layer, or null where the block has a dense one.</summary>
    public MixtureOfExperts? Experts { get; }

    /// <summary>The training pass.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, D], kept by the caller until the backward pass.</param>
    /// <param name="activations">What is kept.</param>
    /// <param name="output">[M, D].</param>
    public void Forward(LayerContext context, Tensor x, BlockActivations activations, Tensor output)
    {
        BeforeAttention(context, x, activations);
        attention.Forward(context, activations.InputNormed, activations.Attention, activations.Middle);
        AfterAttention(context, activations, output);
    }

    /// <summary>The inference pass over the cache.</summary>
    public void Infer(LayerContext context, Tensor x, InferencePass pass, Tensor cache, Tensor output)
    {
        BlockActivations activations = pass.Block;
        BeforeAttention(context, x, activations);
        attention.Infer(context, activations.InputNormed, pass, cache, activations.Middle);
        AfterAttention(context, activations, output);
    }

    /// <summary>dx = gradient of the input, given that of the output.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="dy">[M, D].</param>
    /// <param name="activations">Of the forward pass.</param>
    /// <param name="balanceScale">Derivative of the total loss by one sequence's balance loss in this layer.</param>
    /// <param name="dmiddle">[M, D], scratch that must live until <see cref="BackwardWeights"/>.</param>
    /// <param name="dx">[M, D].</param>
    public void BackwardInput(LayerContext context, Tensor dy, BlockActivations activations, float balanceScale, Tensor dmiddle, Tensor dx)
    {
        Device device = context.Device;
        activations.DMiddleNormed = context.Temporary(dy.Rows, dy.Columns);
        activations.DInputNormed = context.Temporary(dy.Rows, dy.Columns);
        if (Experts is not null) Experts.BackwardInput(context, dy, activations.Experts, balanceScale, activations.DMiddleNormed);
        else dense!.BackwardInput(context, dy, activations.Dense, activations.DMiddleNormed, accumulate: false);
        device.Reduction.Copy(dy, dmiddle);
        middleNorm.BackwardInput(context, activations.DMiddleNormed, activations.Middle, activations.MiddleRstd, dmiddle, accumulate: true);

        attention.BackwardInput(context, dmiddle, activations.Attention, activations.DInputNormed);
        device.Reduction.Copy(dmiddle, dx);
        inputNorm.BackwardInput(context, activations.DInputNormed, activations.Input, activations.InputRstd, dx, accumulate: true);
    }

    /// <summary>Adds to the gradients of all weights of the block.</summary>
    public void BackwardWeights(LayerContext context, BlockActivations activations)
    {
        if (Experts is not null) Experts.BackwardWeights(context, activations.Experts);
        else dense!.BackwardWeights(context, activations.Dense);
        middleNorm.BackwardWeight(context, activations.DMiddleNormed, activations.Middle, activations.MiddleRstd);
        attention.BackwardWeights(context, activations.Attention);
        inputNorm.BackwardWeight(context, activations.DInputNormed, activations.Input, activations.InputRstd);
    }

    private void BeforeAttention(LayerContext context, Tensor x, BlockActivations a)
    {
        a.Input = x;
        a.InputRstd = context.SaveForBackward(x.Rows);
        a.InputNormed = context.Save(x.Rows, x.Columns);
        inputNorm.Forward(context, x, a.InputNormed, a.InputRstd);
        a.Middle = context.Save(x.Rows, x.Columns);
        context.Device.Reduction.Copy(x, a.Middle);
    }

    private void AfterAttention(LayerContext context, BlockActivations a, Tensor output)
    {
        a.MiddleRstd = context.SaveForBackward(a.Middle.Rows);
        a.MiddleNormed = context.Save(a.Middle.Rows, a.Middle.Columns);
        middleNorm.Forward(context, a.Middle, a.MiddleNormed, a.MiddleRstd);
        context.Device.Reduction.Copy(a.Middle, output);
        if (Experts is not null) Experts.Forward(context, a.MiddleNormed, a.Experts, output);
        else dense!.Forward(context, a.MiddleNormed, a.Dense, output);
    }
}

// A pre-norm transformer layer: x + attention(norm(x)), then that + feed-forward(norm(that)).
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>What a block keeps of one micro-batch.</summary>
public sealed class BlockActivations
{
    internal readonly LatentAttentionActivations Attention = new();
    internal readonly SwiGluActivations Dense = new();
    internal ScaledTensor Input;        // [M, D]
    internal Tensor InputRstd;          // [M]
    internal ScaledTensor Middle;       // [M, D], after attention
    internal Tensor MiddleRstd;         // [M]
    internal Tensor RecalledInput;      // [M, D], between the two halves of the backward pass
    internal Tensor RecalledMiddle;     // [M, D], between the two halves of the backward pass
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
    public TransformerBlock(IParameterSource source, ModelConfig config, int layer, RotaryTable rotary)
    {
        string prefix = $"model.layers.{layer}";
        Shape width = new(config.HiddenSize);
        inputNorm = new RmsNormLayer(source.Get($"{prefix}.input_layernorm.weight", width, ParameterRole.NormWeight), (float)config.RmsNormEps);
        attention = new LatentAttention(source, $"{prefix}.self_attn", config, rotary);
        middleNorm = new RmsNormLayer(source.Get($"{prefix}.post_attention_layernorm.weight", width, ParameterRole.NormWeight), (float)config.RmsNormEps);
        if (config.IsMoeLayer(layer)) Experts = new MixtureOfExperts(source, $"{prefix}.mlp", config);
        else dense = new SwiGluMlp(source, $"{prefix}.mlp", config.HiddenSize, config.IntermediateSize);
        Layer = layer;
    }

    /// <summary>The layer's number in the checkpoint.</summary>
    public int Layer { get; }

    /// <summary>The expert layer, or null where the block has a dense one.</summary>
    public MixtureOfExperts? Experts { get; }

    /// <summary>The training pass.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, D].</param>
    /// <param name="a">What is kept.</param>
    /// <param name="output">[M, D].</param>
    public void Forward(LayerContext context, Tensor x, BlockActivations a, Tensor output)
    {
        Arena.Mark mark = context.Scratch.Position;
        Tensor middle = context.Result(x.Rows, x.Columns, context.Recipe.Plain);
        LinearInput input = BeforeAttention(context, x, a);
        attention.Forward(context, input, a.Attention, x, middle);
        AfterAttention(context, middle, a, output);
        context.Scratch.Release(mark);
    }

    /// <summary>The inference pass over the cache.</summary>
    public void Infer(LayerContext context, Tensor x, InferencePass pass, Tensor cache, Tensor output)
    {
        Arena.Mark mark = context.Scratch.Position;
        Tensor middle = context.SaveResult(x.Rows, x.Columns);
        LinearInput input = BeforeAttention(context, x, pass.Block);
        attention.Infer(context, input, pass, cache, x, middle);
        AfterAttention(context, middle, pass.Block, output);
        context.Scratch.Release(mark);
    }

    /// <summary>dx = gradient of the input, given that of the output.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="dy">[M, D].</param>
    /// <param name="a">Of the forward pass.</param>
    /// <param name="balanceScale">Derivative of the total loss by one sequence's balance loss in this layer.</param>
    /// <param name="dmiddle">[M, D], scratch that must live until <see cref="BackwardWeights"/>.</param>
    /// <param name="dx">[M, D].</param>
    public void BackwardInput(LayerContext context, Tensor dy, BlockActivations a, float balanceScale, Tensor dmiddle, Tensor dx)
    {
        a.DMiddleNormed = context.Temporary(dy.Rows, dy.Columns);
        a.DInputNormed = context.Temporary(dy.Rows, dy.Columns);
        Tensor middle = a.RecalledMiddle = context.Recall(a.Middle), input = a.RecalledInput = context.Recall(a.Input);
        RecallMiddleNormed(context, a, middle);
        if (Experts is not null) Experts.BackwardInput(context, dy, a.Experts, balanceScale, a.DMiddleNormed);
        else dense!.BackwardInput(context, dy, a.Dense, a.DMiddleNormed, accumulate: false);
        middleNorm.BackwardInput(context, a.DMiddleNormed, middle, a.MiddleRstd, dmiddle, added: dy);

        if (a.Attention.Input.IsEmpty) a.Attention.Input = Normed(context, inputNorm, input, a.InputRstd);
        attention.BackwardInput(context, dmiddle, a.Attention, a.DInputNormed);
        inputNorm.BackwardInput(context, a.DInputNormed, input, a.InputRstd, dx, added: dmiddle);
    }

    /// <summary>Adds to the gradients of all weights of the block.</summary>
    public void BackwardWeights(LayerContext context, BlockActivations a)
    {
        if (Experts is not null) Experts.BackwardWeights(context, a.Experts);
        else dense!.BackwardWeights(context, a.Dense);
        middleNorm.BackwardWeight(context, a.DMiddleNormed, a.RecalledMiddle, a.MiddleRstd);
        attention.BackwardWeights(context, a.Attention);
        inputNorm.BackwardWeight(context, a.DInputNormed, a.RecalledInput, a.InputRstd);
    }

    private static Tensor Normed(LayerContext context, RmsNormLayer norm, Tensor x, Tensor rstd)
    {
        Tensor y = context.Temporary(x.Rows, x.Columns);
        norm.Forward(context, x, y, rstd);
        return y;
    }

    private LinearInput BeforeAttention(LayerContext context, Tensor x, BlockActivations a)
    {
        a.Input = context.Keep(x, context.Recipe.Plain, default);
        a.InputRstd = context.SaveForBackward(x.Rows);
        OperandFormat format = attention.InputFormat(context.Recipe);
        return Norm(context, inputNorm, x, a.InputRstd, format, keepsPlain: format.IsPlain).Input;
    }

    private void AfterAttention(LayerContext context, Tensor middle, BlockActivations a, Tensor output)
    {
        a.Middle = context.Keep(middle, context.Recipe.Plain, default);
        a.MiddleRstd = context.SaveForBackward(middle.Rows);
        OperandFormat format = Experts is null ? dense!.InputFormat(context.Recipe) : Experts.InputFormat(context.Recipe);
        NormedInput input = Norm(context, middleNorm, middle, a.MiddleRstd, format, keepsPlain: format.IsPlain || Experts is not null);
        if (Experts is null)
        {
            dense!.Forward(context, input.Input, a.Dense, middle, output);
            return;
        }

        context.Device.Reduction.Copy(middle, output);
        Experts.Forward(context, input.Plain, input.Input, input.Kept, a.Experts, output);
    }

    /// <summary>A normalised input: plain for this call, as an operand, and as it is kept.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="norm">The norm.</param>
    /// <param name="x">[M, D].</param>
    /// <param name="rstd">[M], or empty in inference.</param>
    /// <param name="format">What the linear layers take.</param>
    /// <param name="keepsPlain">Whether it is needed as values: by products, or by the router.</param>
    private static NormedInput Norm(LayerContext context, RmsNormLayer norm, Tensor x, Tensor rstd, OperandFormat format, bool keepsPlain)
    {
        Recipe recipe = context.Recipe;
        OperandName name = new("output", norm.Weight.Name);
        if (!keepsPlain && FusedNorm.Fits(context, x)) return new NormedInput(default, default, FusedNorm.Forward(context, norm, x, rstd, name));
        bool keep = keepsPlain && !recipe.RecomputeNorms;
        Tensor normed = context.Result(x.Rows, x.Columns, keep ? recipe.Plain : null);
        norm.Forward(context, x, normed, rstd);
        ScaledTensor plain = keep ? context.Keep(normed, recipe.Plain, default) : default;
        return new NormedInput(normed, plain, context.Input(normed, format, plain, name));
    }

    /// <summary>The second norm's output, where a part of the feed-forward layer needs it and it was not kept.</summary>
    private void RecallMiddleNormed(LayerContext context, BlockActivations a, Tensor middle)
    {
        bool missing = Experts is null ? a.Dense.Input.IsEmpty : a.Experts.Input.IsEmpty;
        if (!missing) return;
        Tensor normed = Normed(context, middleNorm, middle, a.MiddleRstd);
        if (Experts is null) a.Dense.Input = normed;
        else
        {
            a.Experts.Input = normed;
            if (a.Experts.Shared.Input.IsEmpty) a.Experts.Shared.Input = normed;
        }
    }

    /// <summary>What a norm in front of linear layers gives.</summary>
    /// <param name="Plain">[M, D], for the call; empty where only quantised products take it.</param>
    /// <param name="Kept">The same without scales as it is kept; empty where it is computed again.</param>
    /// <param name="Input">The same for the linear layers.</param>
    private readonly record struct NormedInput(Tensor Plain, ScaledTensor Kept, LinearInput Input);
}

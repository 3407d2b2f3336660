// A multi-token prediction module ([P] §2.2): depth k predicts token i + k + 1 from the hidden state of depth k - 1 at i and the
// embedding of token i + k. The released weights take them as [embedding ; hidden], not in the order that the paper prints.
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>What an MTP module keeps of one micro-batch. Mk = B·(T - k) tokens.</summary>
public sealed class MtpActivations
{
    internal readonly BlockActivations Block = new();
    internal Tensor Embedded;           // [Mk, D]
    internal Tensor EmbeddedRstd;       // [Mk]
    internal Tensor Previous;           // [Mk, D]
    internal Tensor PreviousRstd;       // [Mk]
    internal Tensor Joined;             // [Mk, 2D]: both, normalised
    internal Tensor Output;             // [Mk, D], of the block
    internal Tensor OutputRstd;         // [Mk]
    internal Tensor OutputNormed;       // [Mk, D]
}

/// <summary>One MTP module; it shares embedding and head with the main model.</summary>
public sealed class MtpModule
{
    private readonly RmsNormLayer embeddingNorm;
    private readonly RmsNormLayer hiddenNorm;
    private readonly LinearLayer join;
    private readonly RmsNormLayer outputNorm;

    /// <summary>Builds the module from model.layers.{layer}.</summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="source">Where weights come from.</param>
    /// <param name="config">The model.</param>
    /// <param name="depth">k, from 1.</param>
    /// <param name="rotary">The model's rotary tables.</param>
    public MtpModule(Device device, IParameterSource source, ModelConfig config, int depth, RotaryTable rotary)
    {
        int layer = config.NumHiddenLayers + depth - 1;
        string prefix = $"model.layers.{layer}";
        embeddingNorm = Norm("enorm");
        hiddenNorm = Norm("hnorm");
        join = new LinearLayer(source.Get($"{prefix}.eh_proj.weight", new Shape(config.HiddenSize, 2L * config.HiddenSize), ParameterRole.Matrix));
        Block = new TransformerBlock(device, source, config, layer, rotary);
        outputNorm = Norm("shared_head.norm");
        Depth = depth;

        RmsNormLayer Norm(string name) =>
            new(source.Get($"{prefix}.{name}.weight", new Shape(config.HiddenSize), ParameterRole.NormWeight), (float)config.RmsNormEps);
    }

    /// <summary>k: how many tokens further than the main model it predicts.</summary>
    public int Depth { get; }

    /// <summary>The module's transformer layer.</summary>
    public TransformerBlock Block { get; }

    /// <summary>The pass up to the normalised hidden state that the head takes.</summary>
    /// <param name="context">The micro-batch, at this module's positions.</param>
    /// <param name="previous">Hidden states of the depth before, one row a token of its own.</param>
    /// <param name="rows">[Mk], I32: the row of <paramref name="previous"/> for each token of the module.</param>
    /// <param name="ids">[Mk], I32: the token k places further.</param>
    /// <param name="embedding">[V, D].</param>
    /// <param name="a">What is kept.</param>
    public void Forward(LayerContext context, Tensor previous, Tensor rows, Tensor ids, Tensor embedding, MtpActivations a)
    {
        long tokens = ids.Elements, width = previous.Columns;
        Device device = context.Device;
        a.Embedded = context.Save(tokens, width);
        a.EmbeddedRstd = context.SaveForBackward(tokens);
        a.Previous = context.Save(tokens, width);
        a.PreviousRstd = context.SaveForBackward(tokens);
        a.Joined = context.Save(tokens, 2 * width);
        device.Embedding.Forward(ids, embedding, a.Embedded);
        device.Embedding.Forward(rows, previous, a.Previous);
        embeddingNorm.Forward(context, a.Embedded, a.Joined.ColumnRange(0, width), a.EmbeddedRstd);
        hiddenNorm.Forward(context, a.Previous, a.Joined.ColumnRange(width, width), a.PreviousRstd);

        Tensor input = context.Save(tokens, width);
        join.Forward(context, a.Joined, input);
        a.Output = context.Save(tokens, width);
        Block.Forward(context, input, a.Block, a.Output);
        a.OutputRstd = context.SaveForBackward(tokens);
        a.OutputNormed = context.Save(tokens, width);
        outputNorm.Forward(context, a.Output, a.OutputNormed, a.OutputRstd);
    }

    /// <summary>The whole backward pass of the module.</summary>
    /// <param name="context">The micro-batch, at this module's positions.</param>
    /// <param name="dnormed">[Mk, D]: gradient of what the head took.</param>
    /// <param name="doutput">[Mk, D]: gradient that the next depth left for this one's block output, or empty; overwritten.</param>
    /// <param name="rows">As in the forward pass.</param>
    /// <param name="ids">As in the forward pass.</param>
    /// <param name="embedding">The shared embedding, whose gradient is added to.</param>
    /// <param name="balanceScale">Derivative of the total loss by one sequence's balance loss.</param>
    /// <param name="a">Of the forward pass.</param>
    /// <param name="dprevious">Gradient of the hidden states of the depth before, added to.</param>
    public void Backward(
        LayerContext context, Tensor dnormed, Tensor doutput, Tensor rows, Tensor ids, Parameter embedding, float balanceScale,
        MtpActivations a, Tensor dprevious)
    {
        long tokens = ids.Elements, width = dnormed.Columns;
        Arena.Mark mark = context.Scratch.Position;
        Tensor dblock = doutput.IsEmpty ? context.Temporary(tokens, width) : doutput;
        Tensor dmiddle = context.Temporary(tokens, width), dinput = context.Temporary(tokens, width);
        outputNorm.BackwardInput(context, dnormed, a.Output, a.OutputRstd, dblock, accumulate: !doutput.IsEmpty);
        outputNorm.BackwardWeight(context, dnormed, a.Output, a.OutputRstd);
        Block.BackwardInput(context, dblock, a.Block, balanceScale, dmiddle, dinput);
        Block.BackwardWeights(context, a.Block);

        Tensor djoined = context.Temporary(tokens, 2 * width);
        join.BackwardInput(context, dinput, djoined);
        join.BackwardWeight(context, dinput, a.Joined);
        Tensor dembedded = context.Temporary(tokens, width), dgathered = context.Temporary(tokens, width);
        Tensor dfirst = djoined.ColumnRange(0, width), dsecond = djoined.ColumnRange(width, width);
        embeddingNorm.BackwardInput(context, dfirst, a.Embedded, a.EmbeddedRstd, dembedded);
        embeddingNorm.BackwardWeight(context, dfirst, a.Embedded, a.EmbeddedRstd);
        hiddenNorm.BackwardInput(context, dsecond, a.Previous, a.PreviousRstd, dgathered);
        hiddenNorm.BackwardWeight(context, dsecond, a.Previous, a.PreviousRstd);
        context.Device.Embedding.WeightGradient(ids, dembedded, embedding.Gradient);
        context.Device.Embedding.WeightGradient(rows, dgathered, dprevious);
        context.Scratch.Release(mark);
    }
}

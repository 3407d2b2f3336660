// A multi-token prediction module ([P] §2.2): depth k predicts token i + k + 1 from the hidden state of depth k - 1 at i and the
// embedding of token i + k. The released weights take them as [embedding ; hidden], not in the order that the paper prints.
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>What an MTP module keeps of one micro-batch. Mk = B·(T - k) tokens.</summary>
public sealed class MtpActivations
{
    internal readonly BlockActivations Block = new();
    internal ScaledTensor Embedded;     // [Mk, D]
    internal Tensor EmbeddedRstd;       // [Mk]
    internal ScaledTensor Previous;     // [Mk, D]
    internal Tensor PreviousRstd;       // [Mk]
    internal ScaledTensor Joined;       // [Mk, 2D]: both, normalised; empty where computed again
    internal Tensor Hidden;             // [Mk, D], of the block, until the head has taken it
    internal ScaledTensor Output;       // [Mk, D], of the block, for the backward pass
    internal Tensor OutputRstd;         // [Mk]
    internal Tensor OutputNormed;       // [Mk, D], until the head has taken it
}

/// <summary>One MTP module; it shares embedding and head with the main model.</summary>
public sealed class MtpModule
{
    private readonly RmsNormLayer embeddingNorm;
    private readonly RmsNormLayer hiddenNorm;
    private readonly LinearLayer join;
    private readonly RmsNormLayer outputNorm;

    /// <summary>Builds the module from model.layers.{layer}.</summary>
    /// <param name="source">Where weights come from.</param>
    /// <param name="config">The model.</param>
    /// <param name="depth">k, from 1.</param>
    /// <param name="rotary">The model's rotary tables.</param>
    public MtpModule(IParameterSource source, ModelConfig config, int depth, RotaryTable rotary)
    {
        int layer = config.NumHiddenLayers + depth - 1;
        string prefix = $"model.layers.{layer}";
        embeddingNorm = Norm("enorm");
        hiddenNorm = Norm("hnorm");
        join = new LinearLayer(source.Get($"{prefix}.eh_proj.weight", new Shape(config.HiddenSize, 2L * config.HiddenSize), ParameterRole.Matrix));
        Block = new TransformerBlock(source, config, layer, rotary);
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
    /// <param name="previous">Hidden states of the depth before, [B·(Mk / B + 1), D]: a token more a sequence than the module has.</param>
    /// <param name="ids">[Mk], I32: the token k places further.</param>
    /// <param name="embedding">[V, D].</param>
    /// <param name="a">What is kept.</param>
    public void Forward(LayerContext context, Tensor previous, Tensor ids, Tensor embedding, MtpActivations a)
    {
        long tokens = ids.Elements, width = previous.Columns;
        OperandFormat plain = context.Recipe.Plain;
        a.EmbeddedRstd = context.SaveForBackward(tokens);
        a.PreviousRstd = context.SaveForBackward(tokens);
        a.OutputRstd = context.SaveForBackward(tokens);
        a.Hidden = context.Result(tokens, width, plain);
        a.OutputNormed = context.KeepsResults ? context.SaveResult(tokens, width) : context.Temporary(tokens, width);

        Arena.Mark mark = context.Scratch.Position;
        Tensor embedded = context.Result(tokens, width, plain), gathered = context.Result(tokens, width, plain);
        context.Device.Embedding.Forward(ids, embedding, embedded);
        context.Round(embedded);
        context.Device.Reduction.Copy(WithoutLast(context, previous, tokens), Sequences(context, gathered));
        a.Embedded = context.Keep(embedded, plain, default);
        a.Previous = context.Keep(gathered, plain, default);
        Tensor joined = context.Result(tokens, 2 * width, context.Recipe.RecomputeNorms ? null : plain);
        Join(context, embedded, gathered, a, joined);
        a.Joined = context.Recipe.RecomputeNorms ? default : context.Keep(joined, plain, default);
        Tensor input = context.Result(tokens, width, plain);
        join.Forward(context, joined, input);
        Block.Forward(context, input, a.Block, a.Hidden);
        context.Scratch.Release(mark);
        a.Output = context.Keep(a.Hidden, plain, default);
        outputNorm.Forward(context, a.Hidden, a.OutputNormed, a.OutputRstd);
    }

    /// <summary>The inference pass over the cache, up to the hidden state of the block.</summary>
    /// <param name="context">The pass's memory.</param>
    /// <param name="hidden">[rows, D]: hidden states of the depth before.</param>
    /// <param name="pass">The tokens that follow, and which rows they follow.</param>
    /// <param name="embedding">[V, D].</param>
    /// <param name="cache">The module's cache, [blocks, block size, columns of a row].</param>
    /// <param name="output">[M, D].</param>
    public void Infer(LayerContext context, Tensor hidden, InferencePass pass, Tensor embedding, Tensor cache, Tensor output)
    {
        long tokens = pass.Count, width = hidden.Columns;
        Tensor embedded = context.SaveResult(tokens, width), gathered = context.SaveResult(tokens, width);
        Tensor joined = context.SaveResult(tokens, 2 * width), input = context.SaveResult(tokens, width);
        context.Device.Embedding.Forward(pass.Ids, embedding, embedded);
        context.Round(embedded);
        context.Device.Embedding.Forward(pass.Sources, hidden, gathered);
        embeddingNorm.Forward(context, embedded, joined.ColumnRange(0, width), default);
        hiddenNorm.Forward(context, gathered, joined.ColumnRange(width, width), default);
        join.Forward(context, joined, input);
        Block.Infer(context, input, pass, cache, output);
    }

    /// <summary>Hidden states of the block as the head takes them.</summary>
    /// <param name="context">The pass's memory.</param>
    /// <param name="hidden">[M, D].</param>
    /// <param name="normed">[M, D].</param>
    public void Norm(LayerContext context, Tensor hidden, Tensor normed) => outputNorm.Forward(context, hidden, normed, default);

    /// <summary>The whole backward pass of the module.</summary>
    /// <param name="context">The micro-batch, at this module's positions.</param>
    /// <param name="dnormed">[Mk, D]: gradient of what the head took.</param>
    /// <param name="doutput">[Mk, D]: gradient that the next depth left for this one's block output, or empty; overwritten.</param>
    /// <param name="ids">As in the forward pass.</param>
    /// <param name="embedding">The shared embedding, whose gradient is added to.</param>
    /// <param name="balanceScale">Derivative of the total loss by one sequence's balance loss.</param>
    /// <param name="a">Of the forward pass.</param>
    /// <param name="dprevious">Gradient of the hidden states of the depth before, added to.</param>
    public void Backward(
        LayerContext context, Tensor dnormed, Tensor doutput, Tensor ids, Parameter embedding, float balanceScale,
        MtpActivations a, Tensor dprevious)
    {
        long tokens = ids.Elements, width = dnormed.Columns;
        Arena.Mark mark = context.Scratch.Position;
        Tensor dblock = doutput.IsEmpty ? context.Temporary(tokens, width) : doutput;
        Tensor dmiddle = context.Temporary(tokens, width), dinput = context.Temporary(tokens, width), output = context.Recall(a.Output);
        outputNorm.BackwardInput(context, dnormed, output, a.OutputRstd, dblock, added: doutput);
        outputNorm.BackwardWeight(context, dnormed, output, a.OutputRstd);
        Arena.Mark ofBlock = context.Scratch.Position;
        Block.BackwardInput(context, dblock, a.Block, balanceScale, dmiddle, dinput);
        Block.BackwardWeights(context, a.Block);
        context.Scratch.Release(ofBlock);

        Tensor djoined = context.Temporary(tokens, 2 * width), embedded = context.Recall(a.Embedded), previous = context.Recall(a.Previous);
        join.BackwardInput(context, dinput, djoined);
        if (a.Joined.IsEmpty)
        {
            a.Joined = context.Temporary(tokens, 2 * width);
            Join(context, embedded, previous, a, a.Joined.Elements);
        }

        join.BackwardWeight(context, dinput, a.Joined);
        Tensor dembedded = context.Temporary(tokens, width), dgathered = context.Temporary(tokens, width);
        Tensor dfirst = djoined.ColumnRange(0, width), dsecond = djoined.ColumnRange(width, width);
        embeddingNorm.BackwardInput(context, dfirst, embedded, a.EmbeddedRstd, dembedded);
        embeddingNorm.BackwardWeight(context, dfirst, embedded, a.EmbeddedRstd);
        hiddenNorm.BackwardInput(context, dsecond, previous, a.PreviousRstd, dgathered);
        hiddenNorm.BackwardWeight(context, dsecond, previous, a.PreviousRstd);
        embedding.CompleteGradient(context.Device);
        context.Device.Embedding.WeightGradient(ids, dembedded, embedding.Gradient);
        Tensor dfrom = WithoutLast(context, dprevious, tokens);
        context.Device.Reduction.Add(dfrom, Sequences(context, dgathered), dfrom);
        context.Scratch.Release(mark);
    }

    /// <summary>Rows of whole sequences, [B, tokens·D].</summary>
    private static Tensor Sequences(LayerContext context, Tensor x) => x.Reshape(new Shape(context.Batch, x.Elements / context.Batch));

    /// <summary>The depth before has a token more a sequence: all but that, [B, tokens·D].</summary>
    private static Tensor WithoutLast(LayerContext context, Tensor previous, long tokens) =>
        Sequences(context, previous).ColumnRange(0, tokens / context.Batch * previous.Columns);

    private void Join(LayerContext context, Tensor embedded, Tensor previous, MtpActivations a, Tensor joined)
    {
        long width = embedded.Columns;
        embeddingNorm.Forward(context, embedded, joined.ColumnRange(0, width), a.EmbeddedRstd);
        hiddenNorm.Forward(context, previous, joined.ColumnRange(width, width), a.PreviousRstd);
    }
}

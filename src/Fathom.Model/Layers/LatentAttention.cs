// Multi-head latent attention ([P] §2.1.1, eq. 1 to 11). Keys and values of all heads come from one latent of R numbers a token, and
// one rotary key that all heads share; queries from a latent of their own where q_lora_rank says so. Training and prefill expand
// the latent per head; decode stays absorbed in the latent space over the cache.
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>What an attention layer keeps of one micro-batch. M tokens, H heads, dqk = dn + dr.</summary>
public sealed class LatentAttentionActivations
{
    internal Tensor Input;              // [M, D]
    internal Tensor QueryDown;          // [M, Rq]
    internal Tensor QueryLatent;        // [M, Rq], normalised
    internal Tensor QueryRstd;          // [M]
    internal Tensor Query;              // [M, H·dqk], turned
    internal Tensor KeyValueDown;       // [M, R + dr], the rotary part turned
    internal Tensor Latent;             // [M, R], normalised
    internal Tensor LatentRstd;         // [M]
    internal Tensor KeyValue;           // [M, H·(dn + dv)]
    internal Tensor Output;             // [M, H·dv]
    internal Tensor LogSumExp;          // [B, H, T]
    internal Tensor DOutput;            // [M, D]
    internal Tensor DQuery;             // [M, H·dqk]
    internal Tensor DQueryLatent;       // [M, Rq]
    internal Tensor DQueryDown;         // [M, Rq]
    internal Tensor DKeyValue;          // [M, H·(dn + dv)]
    internal Tensor DLatent;            // [M, R]
    internal Tensor DKeyValueDown;      // [M, R + dr]
}

/// <summary>An MLA layer.</summary>
public sealed class LatentAttention
{
    private readonly LinearLayer? queryDown;
    private readonly RmsNormLayer? queryNorm;
    private readonly LinearLayer queryUp;
    private readonly LinearLayer keyValueDown;
    private readonly RmsNormLayer latentNorm;
    private readonly LinearLayer keyValueUp;
    private readonly LinearLayer output;
    private readonly RotaryTable rotary;
    private readonly int heads;
    private readonly int nope;
    private readonly int rope;
    private readonly int value;
    private readonly int rank;

    /// <summary>Builds the layer from {prefix}.q_a_proj and so on.</summary>
    public LatentAttention(IParameterSource source, string prefix, ModelConfig config, RotaryTable rotary)
    {
        this.rotary = rotary;
        (heads, nope, rope) = (config.NumAttentionHeads, config.QkNopeHeadDim, config.QkRopeHeadDim);
        (value, rank) = (config.VHeadDim, config.KvLoraRank);
        long hidden = config.HiddenSize, queries = (long)heads * (nope + rope);
        float epsilon = (float)config.RmsNormEps;
        if (config.QLoraRank is > 0 and int queryRank)
        {
            queryDown = Linear("q_a_proj", queryRank, hidden);
            queryNorm = Norm("q_a_layernorm", queryRank);
            queryUp = Linear("q_b_proj", queries, queryRank);
        }
        else
        {
            queryUp = Linear("q_proj", queries, hidden);
        }

        keyValueDown = Linear("kv_a_proj_with_mqa", rank + rope, hidden);
        latentNorm = Norm("kv_a_layernorm", rank);
        keyValueUp = Linear("kv_b_proj", (long)heads * (nope + value), rank);
        output = Linear("o_proj", hidden, (long)heads * value);

        LinearLayer Linear(string name, long outputs, long inputs) =>
            new(source.Get($"{prefix}.{name}.weight", new Shape(outputs, inputs), ParameterRole.Matrix));
        RmsNormLayer Norm(string name, long size) =>
            new(source.Get($"{prefix}.{name}.weight", new Shape(size), ParameterRole.NormWeight), epsilon);
    }

    /// <summary>Adds the layer's result to <paramref name="sum"/>. The batch is B sequences of M / B tokens.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, D], kept by the caller until the backward pass.</param>
    /// <param name="activations">What is kept.</param>
    /// <param name="sum">[M, D], added to.</param>
    public void Forward(LayerContext context, Tensor x, LatentAttentionActivations activations, Tensor sum)
    {
        Project(context, x, activations);
        long tokens = x.Rows;
        activations.KeyValue = context.Save(tokens, keyValueUp.Outputs);
        keyValueUp.Forward(context, activations.Latent, activations.KeyValue);
        activations.Output = context.Save(tokens, (long)heads * value);
        activations.LogSumExp = context.Training ? context.Saved.Take(new Shape(context.Batch, heads, tokens / context.Batch)) : default;
        context.Device.Attention.CausalForward(
            Heads(activations.Query, nope + rope), Heads(activations.KeyValue, nope + value), RotaryKey(activations.KeyValueDown),
            rotary.SoftmaxScale, context.Batch, Heads(activations.Output, value), activations.LogSumExp);
        output.Forward(context, activations.Output, sum, accumulate: true);
    }

    /// <summary>Adds the layer's result to <paramref name="sum"/>, with the sequences' earlier tokens in the cache.</summary>
    /// <param name="context">The pass's memory.</param>
    /// <param name="x">[M, D].</param>
    /// <param name="pass">Which tokens belong to which sequence.</param>
    /// <param name="cache">This layer's cache, [blocks, block size, R + dr].</param>
    /// <param name="sum">[M, D], added to.</param>
    public void Infer(LayerContext context, Tensor x, InferencePass pass, Tensor cache, Tensor sum)
    {
        var activations = pass.Attention;
        Project(context, x, activations);
        Tensor attended = context.Save(x.Rows, (long)heads * value);
        context.Device.Cache.Store(activations.Latent, RotaryKey(activations.KeyValueDown), pass.Slots, cache);
        foreach (PrefillChunk chunk in pass.Prefills) InferPrefill(context, activations, chunk, cache, attended);
        if (pass.DecodeCount > 0)
        {
            Tensor query = activations.Query.Slice(pass.DecodeStart, pass.DecodeCount), result = attended.Slice(pass.DecodeStart, pass.DecodeCount);
            context.Device.Attention.LatentDecode(
                query.Reshape(new Shape(pass.DecodeCount, heads, nope + rope)), keyValueUp.Weight.Value, cache,
                pass.DecodeBlocks, pass.DecodeLengths, rotary.SoftmaxScale, result.Reshape(new Shape(pass.DecodeCount, heads, value)));
        }

        output.Forward(context, attended, sum, accumulate: true);
    }

    /// <summary>dx = gradient of the input (overwritten).</summary>
    public void BackwardInput(LayerContext context, Tensor dy, LatentAttentionActivations a, Tensor dx)
    {
        long tokens = dy.Rows;
        a.DOutput = dy;
        a.DQuery = context.Temporary(tokens, queryUp.Outputs);
        a.DKeyValue = context.Temporary(tokens, keyValueUp.Outputs);
        a.DKeyValueDown = context.Temporary(tokens, rank + rope);
        a.DLatent = context.Temporary(tokens, rank);
        if (queryDown is not null)
        {
            a.DQueryLatent = context.Temporary(tokens, queryDown.Outputs);
            a.DQueryDown = context.Temporary(tokens, queryDown.Outputs);
        }

        Arena.Mark mark = context.Scratch.Position;
        Tensor dattended = context.Temporary(tokens, (long)heads * value);
        output.BackwardInput(context, dy, dattended);
        context.Device.Attention.CausalBackward(
            Heads(a.Query, nope + rope), Heads(a.KeyValue, nope + value), RotaryKey(a.KeyValueDown), Heads(a.Output, value),
            a.LogSumExp, Heads(dattended, value), rotary.SoftmaxScale, context.Batch,
            Heads(a.DQuery, nope + rope), Heads(a.DKeyValue, nope + value), RotaryKey(a.DKeyValueDown));
        context.Scratch.Release(mark);
        Rotate(context, a.DQuery, a.DKeyValueDown, inverse: true);

        keyValueUp.BackwardInput(context, a.DKeyValue, a.DLatent);
        latentNorm.BackwardInput(context, a.DLatent, LatentPart(a.KeyValueDown), a.LatentRstd, LatentPart(a.DKeyValueDown));
        keyValueDown.BackwardInput(context, a.DKeyValueDown, dx);
        if (queryDown is null)
        {
            queryUp.BackwardInput(context, a.DQuery, dx, accumulate: true);
            return;
        }

        queryUp.BackwardInput(context, a.DQuery, a.DQueryLatent);
        queryNorm!.BackwardInput(context, a.DQueryLatent, a.QueryDown, a.QueryRstd, a.DQueryDown);
        queryDown.BackwardInput(context, a.DQueryDown, dx, accumulate: true);
    }

    /// <summary>Adds to the gradients of all weights of the layer.</summary>
    public void BackwardWeights(LayerContext context, LatentAttentionActivations a)
    {
        output.BackwardWeight(context, a.DOutput, a.Output);
        keyValueUp.BackwardWeight(context, a.DKeyValue, a.Latent);
        latentNorm.BackwardWeight(context, a.DLatent, LatentPart(a.KeyValueDown), a.LatentRstd);
        keyValueDown.BackwardWeight(context, a.DKeyValueDown, a.Input);
        if (queryDown is null)
        {
            queryUp.BackwardWeight(context, a.DQuery, a.Input);
            return;
        }

        queryUp.BackwardWeight(context, a.DQuery, a.QueryLatent);
        queryNorm!.BackwardWeight(context, a.DQueryLatent, a.QueryDown, a.QueryRstd);
        queryDown.BackwardWeight(context, a.DQueryDown, a.Input);
    }

    /// <summary>Queries and latents of the tokens, turned to their positions.</summary>
    private void Project(LayerContext context, Tensor x, LatentAttentionActivations a)
    {
        long tokens = x.Rows;
        a.Input = x;
        Tensor queryInput = x;
        if (queryDown is not null)
        {
            a.QueryDown = context.Save(tokens, queryDown.Outputs);
            a.QueryLatent = context.Save(tokens, queryDown.Outputs);
            a.QueryRstd = context.SaveForBackward(tokens);
            queryDown.Forward(context, x, a.QueryDown);
            queryNorm!.Forward(context, a.QueryDown, a.QueryLatent, a.QueryRstd);
            queryInput = a.QueryLatent;
        }

        a.Query = context.Save(tokens, queryUp.Outputs);
        queryUp.Forward(context, queryInput, a.Query);
        a.KeyValueDown = context.Save(tokens, rank + rope);
        keyValueDown.Forward(context, x, a.KeyValueDown);
        a.Latent = context.Save(tokens, rank);
        a.LatentRstd = context.SaveForBackward(tokens);
        latentNorm.Forward(context, LatentPart(a.KeyValueDown), a.Latent, a.LatentRstd);
        Rotate(context, a.Query, a.KeyValueDown, inverse: false);
    }

    /// <summary>A prompt's chunk: keys and values of everything up to its end are expanded, earlier latents read back from the cache.</summary>
    private void InferPrefill(LayerContext context, LatentAttentionActivations a, PrefillChunk chunk, Tensor cache, Tensor attended)
    {
        Arena.Mark mark = context.Scratch.Position;
        Tensor latent = a.Latent.Slice(chunk.Start, chunk.Count), rotaryKey = RotaryKey(a.KeyValueDown).Slice(chunk.Start, chunk.Count);
        if (chunk.Past > 0)
        {
            latent = context.Temporary(chunk.Past + chunk.Count, rank);
            rotaryKey = context.Temporary(chunk.Past + chunk.Count, rope);
            context.Device.Cache.Load(cache, chunk.AllSlots, latent, rotaryKey);
        }

        Tensor keyValue = context.Temporary(latent.Rows, keyValueUp.Outputs);
        keyValueUp.Forward(context, latent, keyValue);
        context.Device.Attention.CausalForward(
            Heads(a.Query.Slice(chunk.Start, chunk.Count), nope + rope), Heads(keyValue, nope + value), rotaryKey,
            rotary.SoftmaxScale, 1, Heads(attended.Slice(chunk.Start, chunk.Count), value), default);
        context.Scratch.Release(mark);
    }

    private void Rotate(LayerContext context, Tensor query, Tensor keyValueDown, bool inverse)
    {
        context.Device.Rotary.Rotate(Heads(query, nope + rope), nope, rotary.Cos, rotary.Sin, context.Positions, inverse);
        context.Device.Rotary.Rotate(RotaryKey(keyValueDown), 0, rotary.Cos, rotary.Sin, context.Positions, inverse);
    }

    private Tensor Heads(Tensor x, int size) => x.Reshape(new Shape(x.Rows, heads, size));

    private Tensor LatentPart(Tensor keyValueDown) => keyValueDown.ColumnRange(0, rank);

    private Tensor RotaryKey(Tensor keyValueDown) => keyValueDown.ColumnRange(rank, rope);
}

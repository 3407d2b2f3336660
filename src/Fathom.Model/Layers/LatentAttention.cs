// Multi-head latent attention ([P] §2.1.1, eq. 1 to 11). Keys and values of all heads come from one latent of R numbers a token, and
// one rotary key that all heads share; queries from a latent of their own where q_lora_rank says so. Training and prefill expand
// the latent per head; decode stays absorbed in the latent space over the cache.
using Fathom.Compute;
using Fathom.Compute.Operators;

namespace Fathom.Model;

/// <summary>What an attention layer keeps of one micro-batch. M tokens, H heads, dqk = dn + dr.</summary>
public sealed class LatentAttentionActivations
{
    internal ScaledTensor Input;        // [M, D], for the weight gradients; where it was not kept, the block computes it again before the backward pass
    internal ScaledTensor QueryDown;    // [M, Rq]
    internal ScaledTensor QueryLatent;  // [M, Rq], normalised; empty where computed again
    internal Tensor QueryRstd;          // [M]
    internal ScaledTensor Query;        // [M, H·dqk], turned; empty where computed again
    internal ScaledTensor KeyValueDown; // [M, R + dr], the rotary part turned
    internal ScaledTensor Latent;       // [M, R], normalised; empty where computed again
    internal Tensor LatentRstd;         // [M]
    internal ScaledTensor KeyValue;     // [M, H·(dn + dv)]; empty where computed again
    internal ScaledTensor Output;       // [M, H·dv]
    internal Tensor LogSumExp;          // [B, H, T]
    internal OutputGradient DOutput;    // [M, D]
    internal OutputGradient DQuery;     // [M, H·dqk]
    internal Tensor DQueryLatent;       // [M, Rq]
    internal OutputGradient DQueryDown; // [M, Rq]
    internal OutputGradient DKeyValue;  // [M, H·(dn + dv)]
    internal Tensor DLatent;            // [M, R]
    internal OutputGradient DKeyValueDown; // [M, R + dr]
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
            new(source.Get($"{prefix}.{name}.weight", new Shape(outputs, inputs), ParameterRole.Linear));
        RmsNormLayer Norm(string name, long size) =>
            new(source.Get($"{prefix}.{name}.weight", new Shape(size), ParameterRole.NormWeight), epsilon);
    }

    /// <summary>The format in which the layer's first projections take their input.</summary>
    public OperandFormat InputFormat(Recipe recipe) => keyValueDown.InputFormat(recipe);

    /// <summary>sum = added + the layer's result. The batch is B sequences of M / B tokens.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, D].</param>
    /// <param name="a">What is kept.</param>
    /// <param name="added">[M, D].</param>
    /// <param name="sum">[M, D].</param>
    public void Forward(LayerContext context, in LinearInput x, LatentAttentionActivations a, Tensor added, Tensor sum)
    {
        Recipe recipe = context.Recipe;
        OperandFormat? expanded = recipe.RecomputeUpProjections ? null : recipe.Plain;
        a.Input = x.Kept;
        Projections p = Project(context, x.Operand, a, expanded);
        long tokens = sum.Rows;
        Tensor keyValue = context.Result(tokens, keyValueUp.Outputs, expanded);
        keyValueUp.Forward(context, p.Latent, keyValue);
        a.KeyValue = expanded is { } format ? context.Keep(keyValue, format, Name("result", keyValueUp)) : default;
        Tensor attended = context.Result(tokens, output.Inputs, recipe.SavedAttentionOutput);
        a.LogSumExp = context.Training ? context.Save(new Shape(context.Batch, heads, tokens / context.Batch)) : default;
        context.Device.Attention.CausalForward(
            Heads(p.Query, nope + rope), Heads(keyValue, nope + value), RotaryKey(p.KeyValueDown),
            rotary.SoftmaxScale, context.Batch, Heads(attended, value), a.LogSumExp);
        context.Round(attended);
        LinearInput input = context.OperandAndKept(attended, output.InputFormat(recipe), recipe.SavedAttentionOutput, Name("input", output));
        a.Output = input.Kept;
        output.ForwardAdded(context, input.Operand, added, sum);
    }

    /// <summary>sum = added + the layer's result, with the sequences' earlier tokens in the cache.</summary>
    /// <param name="context">The pass's memory.</param>
    /// <param name="x">[M, D].</param>
    /// <param name="pass">Which tokens belong to which sequence.</param>
    /// <param name="cache">This layer's cache, [blocks, block size, columns of a row].</param>
    /// <param name="added">[M, D].</param>
    /// <param name="sum">[M, D].</param>
    public void Infer(LayerContext context, in LinearInput x, InferencePass pass, Tensor cache, Tensor added, Tensor sum)
    {
        Projections p = Project(context, x.Operand, pass.Attention, null);
        Tensor attended = context.SaveResult(sum.Rows, output.Inputs);
        context.Device.Cache.Store(p.PlainLatent, RotaryKey(p.KeyValueDown), pass.Slots, cache);
        foreach (PrefillChunk chunk in pass.Prefills) InferPrefill(context, p, pass, chunk, cache, attended);
        if (pass.DecodeCount > 0)
        {
            Tensor query = p.Query.Slice(pass.DecodeStart, pass.DecodeCount), result = attended.Slice(pass.DecodeStart, pass.DecodeCount);
            context.Device.Attention.LatentDecode(
                query.Reshape(new Shape(pass.DecodeCount, heads, nope + rope)), keyValueUp.Weight.Operand, cache,
                pass.DecodeBlocks, pass.DecodeLengths, rotary.SoftmaxScale, result.Reshape(new Shape(pass.DecodeCount, heads, value)));
        }

        output.ForwardAdded(context, context.Operand(attended, output.InputFormat(context.Recipe), Name("input", output)), added, sum);
    }

    /// <summary>dx = gradient of the input (overwritten).</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="dy">[M, D].</param>
    /// <param name="a">Of the forward pass.</param>
    /// <param name="dx">[M, D].</param>
    public void BackwardInput(LayerContext context, Tensor dy, LatentAttentionActivations a, Tensor dx)
    {
        long tokens = dy.Rows;
        Tensor dquery = context.Temporary(tokens, queryUp.Outputs), dkeyValue = context.Temporary(tokens, keyValueUp.Outputs);
        Tensor dkeyValueDown = context.Temporary(tokens, rank + rope);
        a.DOutput = output.Gradient(context, dy);
        a.DQuery = queryUp.Gradient(context, dquery);
        a.DKeyValue = keyValueUp.Gradient(context, dkeyValue);
        a.DKeyValueDown = keyValueDown.Gradient(context, dkeyValueDown);
        a.DLatent = context.Temporary(tokens, rank);
        Tensor keyValueDownResult = context.Recall(a.KeyValueDown), queryDownResult = default, dqueryDown = default;
        if (queryDown is not null)
        {
            a.DQueryLatent = context.Temporary(tokens, queryDown.Outputs);
            dqueryDown = context.Temporary(tokens, queryDown.Outputs);
            a.DQueryDown = queryDown.Gradient(context, dqueryDown);
            queryDownResult = context.Recall(a.QueryDown);
        }

        RecallLatents(context, a, queryDownResult, keyValueDownResult);
        Arena.Mark mark = context.Scratch.Position;
        Tensor dattended = context.Temporary(tokens, output.Inputs);
        output.BackwardInput(context, a.DOutput, dattended);
        (Tensor query, Tensor keyValue) = Expand(context, a, tokens);
        context.Device.Attention.CausalBackward(
            Heads(query, nope + rope), Heads(keyValue, nope + value), RotaryKey(keyValueDownResult), Attended(context, a.Output),
            a.LogSumExp, Heads(dattended, value), rotary.SoftmaxScale, context.Batch,
            Heads(dquery, nope + rope), Heads(dkeyValue, nope + value), RotaryKey(dkeyValueDown));
        context.Scratch.Release(mark);
        Rotate(context, dquery, dkeyValueDown, inverse: true);
        context.Round(dquery);
        context.Round(dkeyValue);

        keyValueUp.BackwardInput(context, a.DKeyValue, a.DLatent);
        latentNorm.BackwardInput(context, a.DLatent, LatentPart(keyValueDownResult), a.LatentRstd, LatentPart(dkeyValueDown));
        context.Round(dkeyValueDown);
        keyValueDown.BackwardInput(context, a.DKeyValueDown, dx);
        if (queryDown is null)
        {
            queryUp.BackwardInput(context, a.DQuery, dx, accumulate: true);
            return;
        }

        queryUp.BackwardInput(context, a.DQuery, a.DQueryLatent);
        queryNorm!.BackwardInput(context, a.DQueryLatent, queryDownResult, a.QueryRstd, dqueryDown);
        queryDown.BackwardInput(context, a.DQueryDown, dx, accumulate: true);
    }

    /// <summary>Adds to the gradients of all weights of the layer.</summary>
    public void BackwardWeights(LayerContext context, LatentAttentionActivations a)
    {
        Arena.Mark mark = context.Scratch.Position;
        output.BackwardWeight(context, a.DOutput, a.Output);
        keyValueUp.BackwardWeight(context, a.DKeyValue, a.Latent);
        latentNorm.BackwardWeight(context, a.DLatent, LatentPart(context.Recall(a.KeyValueDown)), a.LatentRstd);
        LinearLayer queryInput = queryDown ?? queryUp;
        ScaledTensor input = keyValueDown.SharesInputOverTokens(context, queryInput) ? keyValueDown.InputOverTokens(context, a.Input) : a.Input;
        keyValueDown.BackwardWeight(context, a.DKeyValueDown, input);
        if (queryDown is null)
        {
            queryUp.BackwardWeight(context, a.DQuery, input);
        }
        else
        {
            queryUp.BackwardWeight(context, a.DQuery, a.QueryLatent);
            queryNorm!.BackwardWeight(context, a.DQueryLatent, context.Recall(a.QueryDown), a.QueryRstd);
            queryDown.BackwardWeight(context, a.DQueryDown, input);
        }

        context.Scratch.Release(mark);
    }

    private static OperandName Name(string role, LinearLayer layer) => new(role, layer.Weight.Name);

    /// <summary>Queries and latents of the tokens, turned to their positions.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="x">[M, D].</param>
    /// <param name="a">What is kept.</param>
    /// <param name="expanded">In which format queries are kept, or null where they are computed again.</param>
    private Projections Project(LayerContext context, in ScaledTensor x, LatentAttentionActivations a, OperandFormat? expanded)
    {
        OperandFormat plain = context.Recipe.Plain;
        long tokens = x.Shape.Rows;
        ScaledTensor queryInput = x;
        if (queryDown is not null)
        {
            Tensor down = context.Result(tokens, queryDown.Outputs, plain);
            a.QueryRstd = context.SaveForBackward(tokens);
            queryDown.Forward(context, x, down);
            LinearInput input = Norm(context, queryNorm!, down, a.QueryRstd, queryUp).Input;
            a.QueryDown = context.Keep(down, plain, default);
            (queryInput, a.QueryLatent) = (input.Operand, input.Kept);
        }

        Tensor query = context.Result(tokens, queryUp.Outputs, expanded);
        queryUp.Forward(context, queryInput, query);
        Tensor keyValue = context.Result(tokens, rank + rope, plain);
        keyValueDown.Forward(context, x, keyValue);
        a.LatentRstd = context.SaveForBackward(tokens);
        NormedLatent latent = Norm(context, latentNorm, LatentPart(keyValue), a.LatentRstd, keyValueUp);
        a.Latent = latent.Input.Kept;
        Rotate(context, query, keyValue, inverse: false);
        context.Round(query);
        context.Round(keyValue);
        a.KeyValueDown = context.Keep(keyValue, plain, default);
        a.Query = expanded is { } format ? context.Keep(query, format, default) : default;
        return new Projections(query, keyValue, latent.Plain, latent.Input.Operand);
    }

    /// <summary>A normalised latent, plain for this call and as the input of its up-projection.</summary>
    private static NormedLatent Norm(LayerContext context, RmsNormLayer norm, Tensor x, Tensor rstd, LinearLayer up)
    {
        Recipe recipe = context.Recipe;
        OperandFormat format = up.InputFormat(recipe);
        OperandName name = Name("input", up);
        if (!format.IsPlain && FusedNorm.Fits(context, x)) return new NormedLatent(default, FusedNorm.Forward(context, norm, x, rstd, name));
        Tensor latent = context.Result(x.Rows, x.Columns, recipe.RecomputeNorms ? null : recipe.Plain);
        norm.Forward(context, x, latent, rstd);
        ScaledTensor plain = recipe.RecomputeNorms || !format.IsPlain ? default : context.Keep(latent, recipe.Plain, default);
        return new NormedLatent(latent, context.Input(latent, format, plain, name));
    }

    /// <summary>Normalised latents, where a recipe keeps neither them nor a quantised copy.</summary>
    private void RecallLatents(LayerContext context, LatentAttentionActivations a, Tensor queryDownResult, Tensor keyValueDownResult)
    {
        if (a.Latent.IsEmpty) a.Latent = Normed(latentNorm, LatentPart(keyValueDownResult), a.LatentRstd);
        if (queryNorm is not null && a.QueryLatent.IsEmpty) a.QueryLatent = Normed(queryNorm, queryDownResult, a.QueryRstd);

        Tensor Normed(RmsNormLayer norm, Tensor x, Tensor rstd)
        {
            Tensor y = context.Temporary(x.Rows, x.Columns);
            norm.Forward(context, x, y, rstd);
            return y;
        }
    }

    /// <summary>Queries and the heads' keys and values: recalled, or computed again from the latents.</summary>
    private (Tensor Query, Tensor KeyValue) Expand(LayerContext context, LatentAttentionActivations a, long tokens)
    {
        if (!a.KeyValue.IsEmpty) return (context.Recall(a.Query), context.Recall(a.KeyValue));
        Tensor query = context.Temporary(tokens, queryUp.Outputs), keyValue = context.Temporary(tokens, keyValueUp.Outputs);
        Up(queryUp, a.QueryLatent.IsEmpty ? a.Input : a.QueryLatent, query);
        context.Device.Rotary.Rotate(Heads(query, nope + rope), nope, rotary.Cos, rotary.Sin, context.Positions, inverse: false);
        context.Round(query);
        Up(keyValueUp, a.Latent, keyValue);
        return (query, keyValue);

        void Up(LinearLayer up, in ScaledTensor kept, Tensor result) =>
            up.Forward(context, context.Operand(kept, up.InputFormat(context.Recipe), Name("input", up)), result);
    }

    /// <summary>The heads' results: as they were kept where the device reads that, else recalled.</summary>
    private ScaledTensor Attended(LayerContext context, in ScaledTensor kept)
    {
        int tokens = (int)(kept.Shape.Rows / context.Batch);
        var sizes = new CausalSizes(context.Batch, heads, tokens, tokens, nope, rope, value);
        if (!context.Device.Traits.ReadsAttentionCodes(context.Flow, OperandTraits.Of(kept), sizes, rank)) return Heads(context.Recall(kept), value);
        var shape = new Shape(kept.Shape.Rows, heads, value);
        Tensor codes = kept.Elements.Reshape(ScaledTensor.ElementShape(shape, kept.DType)), scales = kept.Scales.Reshape(ScaledTensor.ScaleShape(shape, kept.Layout));
        return new ScaledTensor(codes, scales, kept.Layout);
    }

    /// <summary>
    /// A prompt's chunk: keys and values of everything up to its end are expanded from the latents in the cache, its own among them. A
    /// token's numbers are then the same wherever a prompt is cut.
    /// </summary>
    private void InferPrefill(LayerContext context, in Projections p, InferencePass pass, PrefillChunk chunk, Tensor cache, Tensor attended)
    {
        Arena.Mark mark = context.Scratch.Position;
        int tokens = chunk.Past + chunk.Count;
        Tensor latent = context.Temporary(tokens, rank), rotaryKey = context.Temporary(tokens, rope), keyValue = context.Temporary(tokens, keyValueUp.Outputs);
        context.Device.Cache.Load(cache, pass.AllSlots(chunk), latent, rotaryKey);
        keyValueUp.Forward(context, context.Operand(latent, keyValueUp.InputFormat(context.Recipe), Name("input", keyValueUp)), keyValue);
        context.Device.Attention.CausalForward(
            Heads(p.Query.Slice(chunk.Start, chunk.Count), nope + rope), Heads(keyValue, nope + value), rotaryKey,
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

    /// <summary>What the projections of a forward pass give.</summary>
    /// <param name="Query">[M, H·dqk], turned.</param>
    /// <param name="KeyValueDown">[M, R + dr], the rotary part turned.</param>
    /// <param name="PlainLatent">[M, R], normalised; empty where only the up-projection takes it.</param>
    /// <param name="Latent">The same as the up-projection takes it.</param>
    private readonly record struct Projections(Tensor Query, Tensor KeyValueDown, Tensor PlainLatent, ScaledTensor Latent);

    /// <summary>A normalised latent.</summary>
    /// <param name="Plain">As it flows; empty where only the up-projection takes it.</param>
    /// <param name="Input">Of the up-projection.</param>
    private readonly record struct NormedLatent(Tensor Plain, LinearInput Input);
}

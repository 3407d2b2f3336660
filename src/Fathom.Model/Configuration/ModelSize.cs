// Parameters, arithmetic and cache of a model, from its configuration alone. The conventions that reproduce the published
// numbers of DeepSeek-V3:
//   parameters   the main model's 671,026,419,200 include the routing biases (58 layers × 256)
//   training     6 · (active matrix parameters with head, without embedding) + 6 · layers · heads · T · (qk + v) FLOPs per
//                token: 281.2 G at 4096 tokens; a causal mask halves the second term: 250.4 G. MTP is not counted
//   cache        layers · (latent + rotated key) numbers per token: 70,272 bytes in BF16
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>One row of the size table.</summary>
/// <param name="Part">What is counted.</param>
/// <param name="Parameters">Stored parameters.</param>
/// <param name="Active">Parameters that one token passes.</param>
public readonly record struct SizeRow(string Part, long Parameters, long Active);

/// <summary>The size of a model; nothing is allocated for it.</summary>
public sealed class ModelSize
{
    private readonly ModelConfig config;
    private readonly Dictionary<ModelPart, long> main = [];
    private readonly Dictionary<ModelPart, long> mtp = [];

    /// <summary>Counts a configuration's parameters.</summary>
    /// <param name="config">A valid configuration.</param>
    public ModelSize(ModelConfig config)
    {
        this.config = config;
        foreach (ModelPart part in Enum.GetValues<ModelPart>()) (main[part], mtp[part]) = (0, 0);
        main[ModelPart.Embedding] = (long)config.VocabSize * config.HiddenSize;
        main[ModelPart.Head] = main[ModelPart.Embedding];
        main[ModelPart.Norms] = config.HiddenSize;
        for (int layer = 0; layer < config.NumHiddenLayers; layer++) AddLayer(main, layer);
        for (int module = 0; module < config.NumNextnPredictLayers; module++)
        {
            AddLayer(mtp, config.NumHiddenLayers + module);
            mtp[ModelPart.MtpProjection] += 2L * config.HiddenSize * config.HiddenSize;
            mtp[ModelPart.Norms] += 3L * config.HiddenSize;
        }
    }

    /// <summary>Parameters of the main model, routing biases included.</summary>
    public long MainParameters => main.Values.Sum();

    /// <summary>Parameters of the MTP modules without the embedding and head that they share.</summary>
    public long MtpParameters => mtp.Values.Sum();

    /// <summary>Elements of all weights in a published file: each MTP module repeats embedding and head.</summary>
    public long FileParameters =>
        MainParameters + MtpParameters + config.NumNextnPredictLayers * (main[ModelPart.Embedding] + main[ModelPart.Head]);

    /// <summary>Parameters of the main model that one token passes, with embedding and head, without routing biases.</summary>
    public long ActiveParameters => main.Keys.Sum(part => Active(main, part));

    /// <summary>The same without the input embedding, which is looked up and not multiplied.</summary>
    public long ActiveParametersWithoutEmbedding => ActiveParameters - main[ModelPart.Embedding];

    /// <summary>Parameters of the matrices that one token is multiplied with: head, attention, MLPs, experts, router.</summary>
    public long ActiveMatrixParameters => ActiveParametersWithoutEmbedding - main[ModelPart.Norms];

    /// <summary>Parameters of one layer.</summary>
    /// <param name="layer">Layer index, MTP modules counting on.</param>
    public long LayerParameters(int layer)
    {
        var counts = Enum.GetValues<ModelPart>().ToDictionary(part => part, _ => 0L);
        AddLayer(counts, layer);
        return counts.Values.Sum();
    }

    /// <summary>The table: a row per part of the main model, its sum, and the MTP modules.</summary>
    public IReadOnlyList<SizeRow> Rows()
    {
        var rows = new List<SizeRow>();
        foreach (var (part, name) in new[]
        {
            (ModelPart.Embedding, "embedding"), (ModelPart.Head, "output head"), (ModelPart.Attention, "attention"),
            (ModelPart.DenseMlp, "dense MLP"), (ModelPart.RoutedExperts, "routed experts"), (ModelPart.SharedExperts, "shared experts"),
            (ModelPart.Router, "router"), (ModelPart.RoutingBias, "routing bias"), (ModelPart.Norms, "norms"),
        })
        {
            if (main[part] > 0) rows.Add(new SizeRow(name, main[part], Active(main, part)));
        }

        rows.Add(new SizeRow("main model", MainParameters, ActiveParameters));
        if (config.NumNextnPredictLayers > 0)
            rows.Add(new SizeRow($"MTP ({config.NumNextnPredictLayers})", MtpParameters, mtp.Keys.Sum(part => Active(mtp, part))));
        return rows;
    }

    /// <summary>Bytes of latent cache per token over all layers of the main model.</summary>
    /// <param name="dtype">Type of the cache, as <see cref="LatentCache"/> has it; the published 70,272 bytes are BF16.</param>
    public long CacheBytesPerToken(DType dtype = DType.BF16) =>
        (long)config.NumHiddenLayers * new LatentRow(dtype, config.KvLoraRank, config.QkRopeHeadDim).Bytes;

    /// <summary>FLOPs of a forward and backward pass per token of the main model, without recomputation.</summary>
    /// <param name="tokens">Sequence length T.</param>
    /// <param name="causal">Whether the masked half of attention is left out.</param>
    public double TrainingFlopsPerToken(long tokens, bool causal = true) => 3 * ForwardFlopsPerToken(tokens, causal);

    /// <summary>FLOPs that the MTP modules add to <see cref="TrainingFlopsPerToken"/>: their layers, and the shared head once more each.</summary>
    /// <param name="tokens">Sequence length T.</param>
    public double MtpTrainingFlopsPerToken(long tokens)
    {
        double matrices = mtp.Keys.Where(part => part != ModelPart.Norms).Sum(part => (double)Active(mtp, part));
        double heads = (double)config.NumNextnPredictLayers * main[ModelPart.Head];
        double attention = (double)config.NumNextnPredictLayers * config.NumAttentionHeads * ((double)config.QkHeadDim + config.VHeadDim) * tokens;
        return 6 * (matrices + heads) + 3 * attention;
    }

    /// <summary>FLOPs of a forward pass per token, averaged over a sequence that is processed at once.</summary>
    /// <param name="tokens">Sequence length T.</param>
    /// <param name="causal">Whether the masked half of attention is left out.</param>
    public double ForwardFlopsPerToken(long tokens, bool causal = true)
    {
        double attention = 2.0 * config.NumHiddenLayers * config.NumAttentionHeads * ((double)config.QkHeadDim + config.VHeadDim) * tokens;
        return 2.0 * ActiveMatrixParameters + (causal ? attention / 2 : attention);
    }

    /// <summary>FLOPs of a prefill of T tokens in all, with the head at the last position only.</summary>
    /// <param name="tokens">Prompt length T.</param>
    public double PrefillFlops(long tokens) =>
        tokens * ForwardFlopsPerToken(tokens) - 2.0 * main[ModelPart.Head] * (tokens - 1);

    /// <summary>
    /// FLOPs of decoding one token with absorbed attention: the products with kv_b_proj move to the query and the output and
    /// cost what they cost, and each cached token costs 2 · heads · (2 · latent + rotated key) per layer.
    /// </summary>
    /// <param name="context">Tokens in the cache, the new one included.</param>
    public double DecodeFlops(long context) =>
        2.0 * ActiveMatrixParameters
        + 2.0 * config.NumHiddenLayers * config.NumAttentionHeads * (2.0 * config.KvLoraRank + config.QkRopeHeadDim) * context;

    private void AddLayer(Dictionary<ModelPart, long> counts, int layer)
    {
        long width = config.HiddenSize, heads = config.NumAttentionHeads;
        long queries = config.QLoraRank > 0
            ? config.QLoraRank * (width + heads * config.QkHeadDim)
            : width * heads * config.QkHeadDim;
        counts[ModelPart.Attention] += queries
            + width * config.KeyValueCacheWidth
            + config.KvLoraRank * heads * (config.QkNopeHeadDim + config.VHeadDim)
            + heads * config.VHeadDim * width;
        counts[ModelPart.Norms] += 2 * width + config.KvLoraRank + config.QLoraRank;
        if (!config.IsMoeLayer(layer))
        {
            counts[ModelPart.DenseMlp] += 3 * width * config.IntermediateSize;
            return;
        }

        long expert = 3 * width * config.MoeIntermediateSize;
        counts[ModelPart.RoutedExperts] += config.NRoutedExperts * expert;
        counts[ModelPart.SharedExperts] += config.NSharedExperts * expert;
        counts[ModelPart.Router] += config.NRoutedExperts * width;
        if (config.HasRoutingBias) counts[ModelPart.RoutingBias] += config.NRoutedExperts;
    }

    private long Active(Dictionary<ModelPart, long> counts, ModelPart part) => part switch
    {
        ModelPart.RoutingBias => 0,
        ModelPart.RoutedExperts when config.NRoutedExperts > 0 => counts[part] / config.NRoutedExperts * config.NumExpertsPerTok,
        _ => counts[part],
    };
}

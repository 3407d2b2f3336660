// Every tensor of a checkpoint under its published name, with its shape: the one place that knows the naming. Linear weights
// are [out, in]. MTP modules are layers after the last, with a projection and norms of their own and, in published files,
// copies of the embedding and the head.
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>What a tensor is part of; the rows of the size table.</summary>
public enum ModelPart
{
    /// <summary>Token embedding.</summary>
    Embedding,

    /// <summary>Output head.</summary>
    Head,

    /// <summary>Attention projections.</summary>
    Attention,

    /// <summary>Dense MLPs of the leading layers.</summary>
    DenseMlp,

    /// <summary>Routed experts.</summary>
    RoutedExperts,

    /// <summary>Shared experts.</summary>
    SharedExperts,

    /// <summary>Router weights.</summary>
    Router,

    /// <summary>Routing biases: not trained by gradient.</summary>
    RoutingBias,

    /// <summary>RMSNorm weights.</summary>
    Norms,

    /// <summary>The MTP module's projection of embedding and hidden state, eh_proj.</summary>
    MtpProjection,
}

/// <summary>In which precision a tensor is stored.</summary>
public enum TensorPrecision
{
    /// <summary>A Linear weight: FP8 with block scales in a quantised checkpoint, else the model's type.</summary>
    Linear,

    /// <summary>Always the model's type: embedding, head, router, norms, eh_proj.</summary>
    High,

    /// <summary>Always FP32: the routing bias, whose rounding changes the choice of experts.</summary>
    Single,
}

/// <summary>One tensor of a model.</summary>
/// <param name="Name">Its name in the checkpoint.</param>
/// <param name="Shape">Dimensions.</param>
/// <param name="Part">What it is part of.</param>
/// <param name="Precision">How it is stored.</param>
/// <param name="Layer">Layer index, MTP modules counting on; -1 outside layers.</param>
/// <param name="CopyOf">For an MTP module's copy of embedding or head, the name of the original; files may lack it.</param>
public sealed record LayoutTensor(
    string Name, long[] Shape, ModelPart Part, TensorPrecision Precision, int Layer, string? CopyOf = null)
{
    /// <summary>Number of elements.</summary>
    public long Elements => Shape.Length == 1 ? Shape[0] : Shape[0] * Shape[1];

    /// <summary>The declaration for writing without quantisation.</summary>
    /// <param name="dtype">Type of everything that is not always FP32.</param>
    public TensorDeclaration Declare(DType dtype) => new(Name, Precision == TensorPrecision.Single ? DType.F32 : dtype, Shape);

    /// <summary>The declarations for writing: one, or codes and scales where the tensor is quantised.</summary>
    /// <param name="dtype">Type of everything that is neither quantised nor always FP32.</param>
    /// <param name="quantization">How Linear weights are quantised; null for not at all.</param>
    public IEnumerable<TensorDeclaration> Declare(DType dtype, QuantizationConfig? quantization)
    {
        if (quantization is null || Precision != TensorPrecision.Linear)
        {
            yield return Declare(dtype);
            yield break;
        }

        yield return new TensorDeclaration(Name, quantization.WeightType, Shape);
        yield return new TensorDeclaration(Name + TensorLayout.ScaleSuffix, DType.F32, quantization.ScaleShape(Shape[0], Shape[1]));
    }
}

/// <summary>The tensors of a configuration.</summary>
public static class TensorLayout
{
    /// <summary>Name of the token embedding.</summary>
    public const string Embedding = "model.embed_tokens.weight";

    /// <summary>Name of the output head.</summary>
    public const string Head = "lm_head.weight";

    /// <summary>Name of the final norm.</summary>
    public const string FinalNorm = "model.norm.weight";

    /// <summary>What a quantised weight's name gets for the name of its scales. Historic: they are multipliers, not inverses.</summary>
    public const string ScaleSuffix = "_scale_inv";

    /// <summary>Start of the names in a layer: "model.layers.3.".</summary>
    public static string LayerPrefix(int layer) => $"model.layers.{layer}.";

    /// <summary>
    /// All tensors in the order of the forward pass, lazily. Copies of embedding and head in MTP modules are among them,
    /// because the published files have them and some engines ask for them: write all; read what has no
    /// <see cref="LayoutTensor.CopyOf"/>.
    /// </summary>
    /// <param name="config">A valid configuration.</param>
    /// <param name="mtpModules">How many MTP modules; as many as the configuration says where null.</param>
    public static IEnumerable<LayoutTensor> Enumerate(ModelConfig config, int? mtpModules = null)
    {
        long width = config.HiddenSize;
        yield return new LayoutTensor(Embedding, [config.VocabSize, width], ModelPart.Embedding, TensorPrecision.High, -1);
        for (int layer = 0; layer < config.NumHiddenLayers; layer++)
        {
            foreach (LayoutTensor tensor in DecoderLayer(config, layer)) yield return tensor;
        }

        yield return Norm(FinalNorm, width, -1);
        yield return new LayoutTensor(Head, [config.VocabSize, width], ModelPart.Head, TensorPrecision.High, -1);
        int last = config.NumHiddenLayers + (mtpModules ?? config.NumNextnPredictLayers);
        for (int layer = config.NumHiddenLayers; layer < last; layer++)
        {
            foreach (LayoutTensor tensor in MtpModule(config, layer)) yield return tensor;
        }
    }

    /// <summary>The tensors of one decoder layer.</summary>
    public static IEnumerable<LayoutTensor> DecoderLayer(ModelConfig config, int layer)
    {
        string prefix = LayerPrefix(layer);
        yield return Norm(prefix + "input_layernorm.weight", config.HiddenSize, layer);
        foreach (LayoutTensor tensor in Attention(config, layer, prefix + "self_attn.")) yield return tensor;
        yield return Norm(prefix + "post_attention_layernorm.weight", config.HiddenSize, layer);
        string mlp = prefix + "mlp.";
        if (!config.IsMoeLayer(layer))
        {
            foreach (LayoutTensor tensor in Mlp(mlp, config, config.IntermediateSize, ModelPart.DenseMlp, layer)) yield return tensor;
            yield break;
        }

        yield return new LayoutTensor(mlp + "gate.weight", [config.NRoutedExperts, config.HiddenSize], ModelPart.Router, TensorPrecision.High, layer);
        if (config.HasRoutingBias)
            yield return new LayoutTensor(mlp + "gate.e_score_correction_bias", [config.NRoutedExperts], ModelPart.RoutingBias, TensorPrecision.Single, layer);
        for (int expert = 0; expert < config.NRoutedExperts; expert++)
        {
            foreach (LayoutTensor tensor in Mlp($"{mlp}experts.{expert}.", config, config.MoeIntermediateSize, ModelPart.RoutedExperts, layer))
                yield return tensor;
        }

        if (config.NSharedExperts == 0) yield break;
        long shared = (long)config.NSharedExperts * config.MoeIntermediateSize;
        foreach (LayoutTensor tensor in Mlp(mlp + "shared_experts.", config, shared, ModelPart.SharedExperts, layer)) yield return tensor;
    }

    /// <summary>The tensors of one MTP module: its decoder layer, projection and norms, and the copies.</summary>
    /// <param name="config">A valid configuration.</param>
    /// <param name="layer">num_hidden_layers plus the module's index.</param>
    public static IEnumerable<LayoutTensor> MtpModule(ModelConfig config, int layer)
    {
        string prefix = LayerPrefix(layer);
        long width = config.HiddenSize;
        yield return new LayoutTensor(prefix + "embed_tokens.weight", [config.VocabSize, width], ModelPart.Embedding, TensorPrecision.High, layer, Embedding);
        yield return Norm(prefix + "enorm.weight", width, layer);
        yield return Norm(prefix + "hnorm.weight", width, layer);
        yield return new LayoutTensor(prefix + "eh_proj.weight", [width, 2 * width], ModelPart.MtpProjection, TensorPrecision.High, layer);
        foreach (LayoutTensor tensor in DecoderLayer(config, layer)) yield return tensor;
        yield return Norm(prefix + "shared_head.norm.weight", width, layer);
        yield return new LayoutTensor(prefix + "shared_head.head.weight", [config.VocabSize, width], ModelPart.Head, TensorPrecision.High, layer, Head);
    }

    private static IEnumerable<LayoutTensor> Attention(ModelConfig config, int layer, string prefix)
    {
        long heads = config.NumAttentionHeads, width = config.HiddenSize;
        if (config.QLoraRank > 0)
        {
            yield return Projection("q_a_proj", config.QLoraRank, width);
            yield return Norm(prefix + "q_a_layernorm.weight", config.QLoraRank, layer);
            yield return Projection("q_b_proj", heads * config.QkHeadDim, config.QLoraRank);
        }
        else
        {
            yield return Projection("q_proj", heads * config.QkHeadDim, width);
        }

        yield return Projection("kv_a_proj_with_mqa", config.KeyValueCacheWidth, width);
        yield return Norm(prefix + "kv_a_layernorm.weight", config.KvLoraRank, layer);
        yield return Projection("kv_b_proj", heads * (config.QkNopeHeadDim + config.VHeadDim), config.KvLoraRank);
        yield return Projection("o_proj", width, heads * config.VHeadDim);

        LayoutTensor Projection(string name, long output, long input) =>
            new($"{prefix}{name}.weight", [output, input], ModelPart.Attention, TensorPrecision.Linear, layer);
    }

    private static IEnumerable<LayoutTensor> Mlp(string prefix, ModelConfig config, long inner, ModelPart part, int layer)
    {
        yield return new LayoutTensor(prefix + "gate_proj.weight", [inner, config.HiddenSize], part, TensorPrecision.Linear, layer);
        yield return new LayoutTensor(prefix + "up_proj.weight", [inner, config.HiddenSize], part, TensorPrecision.Linear, layer);
        yield return new LayoutTensor(prefix + "down_proj.weight", [config.HiddenSize, inner], part, TensorPrecision.Linear, layer);
    }

    private static LayoutTensor Norm(string name, long width, int layer) =>
        new(name, [width], ModelPart.Norms, TensorPrecision.High, layer);
}

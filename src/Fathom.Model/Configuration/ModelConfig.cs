// A model's configuration: the fields of the published config.json under their own names in Pascal case, so that each can be
// found in both places. A new value is DeepSeek-V3's own configuration; presets and files change what differs.
// The trap is initializer_range: the published file says 0.02, the report 0.006 (§4.2). A file's value is kept, a new
// configuration starts from the report's.
using System.Text.Json;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>
/// The shape of a DeepSeek-V2 or V3 model; immutable. What was read or preset is valid; after a `with` expression call
/// <see cref="Validate"/>. Each property's config.json name is its own in snake case.
/// </summary>
public sealed partial record ModelConfig
{
    /// <summary>model_type and architectures.</summary>
    public ModelArchitecture Architecture { get; init; } = ModelArchitecture.DeepseekV3;

    /// <summary>V: rows of the embedding and of the output head; may exceed the tokenizer's ids.</summary>
    public int VocabSize { get; init; } = 129280;

    /// <summary>D: width of the residual stream.</summary>
    public int HiddenSize { get; init; } = 7168;

    /// <summary>Inner width of a dense MLP.</summary>
    public int IntermediateSize { get; init; } = 18432;

    /// <summary>Inner width of one expert.</summary>
    public int MoeIntermediateSize { get; init; } = 2048;

    /// <summary>Decoder layers, without MTP modules.</summary>
    public int NumHiddenLayers { get; init; } = 61;

    /// <summary>MTP modules; their layers follow the others in the checkpoint. 0: none. A file may have fewer than it says.</summary>
    public int NumNextnPredictLayers { get; init; }

    /// <summary>H: attention heads.</summary>
    public int NumAttentionHeads { get; init; } = 128;

    /// <summary>num_key_value_heads as the file has it; MLA has as many as heads, and nothing here reads it.</summary>
    public int? NumKeyValueHeads { get; init; }

    /// <summary>Experts that every token passes; they are stored as one MLP of that many times the width. 0: none.</summary>
    public int NSharedExperts { get; init; } = 1;

    /// <summary>E: routed experts per MoE layer. 0 (null in the file): every layer is dense.</summary>
    public int NRoutedExperts { get; init; } = 256;

    /// <summary>What gates are multiplied with, normalised or not.</summary>
    public double RoutedScalingFactor { get; init; } = 2.5;

    /// <summary>Width of the shared key-value latent.</summary>
    public int KvLoraRank { get; init; } = 512;

    /// <summary>Width of the query latent. 0 (null in the file): queries come from one matrix, q_proj.</summary>
    public int QLoraRank { get; init; } = 1536;

    /// <summary>Rotated part of a query or key head; even.</summary>
    public int QkRopeHeadDim { get; init; } = 64;

    /// <summary>Part of a query or key head without position.</summary>
    public int QkNopeHeadDim { get; init; } = 128;

    /// <summary>Width of a value head.</summary>
    public int VHeadDim { get; init; } = 128;

    /// <summary>How experts are chosen from scores. Only <see cref="TopKMethod.NoAuxTc"/> has a routing bias.</summary>
    public TopKMethod TopkMethod { get; init; } = TopKMethod.NoAuxTc;

    /// <summary>Expert groups.</summary>
    public int NGroup { get; init; } = 8;

    /// <summary>Groups that a token may use.</summary>
    public int TopkGroup { get; init; } = 4;

    /// <summary>K: routed experts per token.</summary>
    public int NumExpertsPerTok { get; init; } = 8;

    /// <summary>Of the layers from first_k_dense_replace on, those whose index is a multiple of this are MoE layers.</summary>
    public int MoeLayerFreq { get; init; } = 1;

    /// <summary>Leading dense layers.</summary>
    public int FirstKDenseReplace { get; init; } = 3;

    /// <summary>Whether the gates of the chosen experts are normalised to sum to one.</summary>
    public bool NormTopkProb { get; init; } = true;

    /// <summary>How router logits become scores.</summary>
    public ScoringFunction ScoringFunc { get; init; } = ScoringFunction.Sigmoid;

    /// <summary>Longest supported sequence, in tokens.</summary>
    public int MaxPositionEmbeddings { get; init; } = 163840;

    /// <summary>Standard deviation of initial weights.</summary>
    public double InitializerRange { get; init; } = 0.006;

    /// <summary>Epsilon of every RMSNorm.</summary>
    public double RmsNormEps { get; init; } = 1e-6;

    /// <summary>Base of the rotary frequencies.</summary>
    public double RopeTheta { get; init; } = 10000;

    /// <summary>YaRN, or null for plain rotary positions.</summary>
    public RopeScaling? RopeScaling { get; init; }

    /// <summary>Token that opens a text.</summary>
    public int? BosTokenId { get; init; } = 0;

    /// <summary>Tokens that end a text; one number or a list in the file.</summary>
    public IReadOnlyList<int> EosTokenIds { get; init; } = [1];

    /// <summary>Token that fills.</summary>
    public int? PadTokenId { get; init; }

    /// <summary>torch_dtype or dtype: the type of most weights; F32, F16 or BF16.</summary>
    public DType Dtype { get; init; } = DType.BF16;

    /// <summary>How Linear weights are quantised in the checkpoint, or null where they are not.</summary>
    public QuantizationConfig? QuantizationConfig { get; init; }

    /// <summary>
    /// Whether MTP modules read the hidden state before the final norm. Serving engines read it after (the default); the
    /// field is Fathom's own and is written only when true.
    /// </summary>
    public bool MtpHiddenBeforeNorm { get; init; }

    /// <summary>Fields that nothing here reads, kept so that writing gives them back; nested ones under their object's name.</summary>
    public IReadOnlyDictionary<string, JsonElement> Extra { get; init; } = new Dictionary<string, JsonElement>();

    /// <summary>Width of a query or key head: the part without position and the rotated part.</summary>
    public int QkHeadDim => QkNopeHeadDim + QkRopeHeadDim;

    /// <summary>Numbers that the KV cache holds per token and layer: latent and rotated key.</summary>
    public int KeyValueCacheWidth => KvLoraRank + QkRopeHeadDim;

    /// <summary>Whether the router has a bias per expert.</summary>
    public bool HasRoutingBias => NRoutedExperts > 0 && TopkMethod == TopKMethod.NoAuxTc;

    /// <summary>What attention scores are multiplied with: qk_head_dim^-0.5, sharpened by YaRN.</summary>
    public double SoftmaxScale => (RopeScaling?.SoftmaxMultiplier ?? 1) / Math.Sqrt(QkHeadDim);

    /// <summary>The router's options. A greedy choice knows no groups, whatever the file says.</summary>
    public RoutingOptions Routing => new(
        NRoutedExperts,
        NumExpertsPerTok,
        TopkMethod == TopKMethod.Greedy ? 1 : NGroup,
        TopkMethod == TopKMethod.Greedy ? 1 : TopkGroup,
        ScoringFunc,
        TopkMethod,
        NormTopkProb,
        (float)RoutedScalingFactor);

    /// <summary>Whether a layer routes; MTP modules count on from the last layer.</summary>
    /// <param name="layer">Layer index from 0, as in tensor names.</param>
    public bool IsMoeLayer(int layer) => NRoutedExperts > 0 && layer >= FirstKDenseReplace && layer % MoeLayerFreq == 0;
}

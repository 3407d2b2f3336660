// What must hold between the fields, checked once before anything is allocated. Every message names the field and its value.
using System.Globalization;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

public sealed partial record ModelConfig
{
    private const int MostLayers = 4096;
    private const int MostExperts = 65536;
    private const double MostParameters = 1e16;

    /// <summary>Checks every field and returns this configuration.</summary>
    /// <param name="source">What messages call it: a file or a preset.</param>
    /// <exception cref="FathomException">A field is out of range or contradicts another.</exception>
    public ModelConfig Validate(string source = "model configuration")
    {
        Positive("vocab_size", VocabSize);
        Positive("hidden_size", HiddenSize);
        Positive("intermediate_size", IntermediateSize);
        Positive("num_hidden_layers", NumHiddenLayers, MostLayers);
        InRange("num_nextn_predict_layers", NumNextnPredictLayers, 0, MostLayers);
        Positive("num_attention_heads", NumAttentionHeads);
        if (NumKeyValueHeads is int keyHeads) Positive("num_key_value_heads", keyHeads);
        Positive("kv_lora_rank", KvLoraRank, 1 << 24);
        InRange("q_lora_rank", QLoraRank, 0, 1 << 24);
        Positive("qk_rope_head_dim", QkRopeHeadDim, 1 << 20);
        Require(QkRopeHeadDim % 2 == 0, "qk_rope_head_dim", QkRopeHeadDim, "must be even: positions rotate pairs");
        Positive("qk_nope_head_dim", QkNopeHeadDim, 1 << 20);
        Positive("v_head_dim", VHeadDim, 1 << 20);
        Positive("max_position_embeddings", MaxPositionEmbeddings);
        InRange("n_routed_experts", NRoutedExperts, 0, MostExperts);
        InRange("n_shared_experts", NSharedExperts, 0, MostExperts);
        Positive("moe_layer_freq", MoeLayerFreq);
        InRange("first_k_dense_replace", FirstKDenseReplace, 0, int.MaxValue);
        ValidateNumbers(source);
        ValidateTokens(source);
        if (NRoutedExperts > 0) ValidateRouting(source);
        Require(Dtype is DType.F32 or DType.F16 or DType.BF16, "torch_dtype", Dtype, "must be float32, float16 or bfloat16");
        if (QuantizationConfig is not null)
        {
            Positive("quantization_config.weight_block_size", QuantizationConfig.BlockRows);
            Positive("quantization_config.weight_block_size", QuantizationConfig.BlockColumns);
        }

        double parameters = EstimateParameters();
        Require(parameters < MostParameters, "hidden_size", HiddenSize, $"and the other sizes give {parameters:E1} parameters, more than is possible");
        return this;

        void Positive(string field, int value, int most = int.MaxValue) => InRange(field, value, 1, most);

        void InRange(string field, int value, int least, int most) =>
            Require(value >= least && value <= most, field, value, most == int.MaxValue ? $"must be at least {least}" : $"must lie in {least} to {most}");

        void Require(bool condition, string field, object value, string rule) => Check(source, condition, field, value, rule);
    }

    private void ValidateRouting(string source)
    {
        Check(source, MoeIntermediateSize >= 1, "moe_intermediate_size", MoeIntermediateSize, "must be at least 1");
        Check(
            source,
            FirstKDenseReplace <= NumHiddenLayers,
            "first_k_dense_replace",
            FirstKDenseReplace,
            $"must not exceed num_hidden_layers ({NumHiddenLayers})");
        Check(
            source,
            NumExpertsPerTok >= 1 && NumExpertsPerTok <= NRoutedExperts,
            "num_experts_per_tok",
            NumExpertsPerTok,
            $"must lie in 1 to n_routed_experts ({NRoutedExperts})");
        if (TopkMethod == TopKMethod.Greedy) return;
        Check(
            source,
            NGroup >= 1 && NRoutedExperts % NGroup == 0,
            "n_group",
            NGroup,
            $"must divide n_routed_experts ({NRoutedExperts})");
        Check(source, TopkGroup >= 1 && TopkGroup <= NGroup, "topk_group", TopkGroup, $"must lie in 1 to n_group ({NGroup})");
        int group = NRoutedExperts / NGroup;
        Check(
            source,
            NumExpertsPerTok <= (long)TopkGroup * group,
            "num_experts_per_tok",
            NumExpertsPerTok,
            $"must not exceed the {(long)TopkGroup * group} experts of topk_group ({TopkGroup}) groups");
        Check(
            source,
            TopkMethod != TopKMethod.NoAuxTc || group >= 2,
            "n_group",
            NGroup,
            $"leaves {group} expert a group; noaux_tc scores a group by its two best and needs at least two");
    }

    private void ValidateNumbers(string source)
    {
        Above("routed_scaling_factor", RoutedScalingFactor);
        Above("initializer_range", InitializerRange);
        Above("rms_norm_eps", RmsNormEps);
        Check(source, double.IsFinite(RopeTheta) && RopeTheta > 1, "rope_theta", RopeTheta, "must be greater than 1");
        if (RopeScaling is null) return;
        Check(source, double.IsFinite(RopeScaling.Factor) && RopeScaling.Factor >= 1, "rope_scaling.factor", RopeScaling.Factor, "must be at least 1");
        Above("rope_scaling.beta_slow", RopeScaling.BetaSlow);
        Check(
            source,
            double.IsFinite(RopeScaling.BetaFast) && RopeScaling.BetaFast > RopeScaling.BetaSlow,
            "rope_scaling.beta_fast",
            RopeScaling.BetaFast,
            $"must exceed beta_slow ({RopeScaling.BetaSlow.ToString(CultureInfo.InvariantCulture)})");
        NotBelowZero("rope_scaling.mscale", RopeScaling.Mscale);
        NotBelowZero("rope_scaling.mscale_all_dim", RopeScaling.MscaleAllDim);
        Check(
            source,
            RopeScaling.OriginalMaxPositionEmbeddings >= 1,
            "rope_scaling.original_max_position_embeddings",
            RopeScaling.OriginalMaxPositionEmbeddings,
            "must be at least 1");

        void Above(string field, double value) =>
            Check(source, double.IsFinite(value) && value > 0, field, value, "must be a number greater than 0");

        void NotBelowZero(string field, double value) =>
            Check(source, double.IsFinite(value) && value >= 0, field, value, "must be a number of at least 0");
    }

    private void ValidateTokens(string source)
    {
        Token("bos_token_id", BosTokenId);
        Token("pad_token_id", PadTokenId);
        foreach (int id in EosTokenIds) Token("eos_token_id", id);

        void Token(string field, int? id)
        {
            if (id is int value) Check(source, value >= 0 && value < VocabSize, field, value, $"must lie below vocab_size ({VocabSize})");
        }
    }

    // In doubles, so that no product of absurd sizes overflows before it is refused.
    private double EstimateParameters()
    {
        double d = HiddenSize, heads = NumAttentionHeads;
        double attention = d * QLoraRank + (QLoraRank > 0 ? QLoraRank : d) * heads * ((double)QkNopeHeadDim + QkRopeHeadDim)
            + d * ((double)KvLoraRank + QkRopeHeadDim) + KvLoraRank * heads * ((double)QkNopeHeadDim + VHeadDim) + heads * VHeadDim * d;
        double experts = NRoutedExperts > 0 ? ((double)NRoutedExperts + NSharedExperts) * 3 * d * MoeIntermediateSize : 0;
        double layer = attention + experts + 3 * d * IntermediateSize + 2 * d * d;
        return 4 * d * VocabSize + ((double)NumHiddenLayers + NumNextnPredictLayers) * layer;
    }

    private static void Check(string source, bool condition, string field, object value, string rule)
    {
        if (!condition) throw new FathomException($"{source}: {field} is {Convert.ToString(value, CultureInfo.InvariantCulture)}; it {rule}");
    }
}

// config.json in all its spellings: rope_theta with rope_scaling (published files) or rope_parameters (transformers 5),
// torch_dtype or dtype, null or 0 for what is absent. Missing fields take the defaults of the architecture's configuration
// class in transformers, because transformers omits what equals them. It omits scoring_func and topk_method from V3 files
// altogether, where only one value exists.
using System.Text;
using System.Text.Json;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

public sealed partial record ModelConfig
{
    private const long LargestFile = 16 << 20;

    private static readonly ModelConfig V3Defaults = new()
    {
        MaxPositionEmbeddings = 4096,
        InitializerRange = 0.02,
        Dtype = DType.F32,
    };

    private static readonly ModelConfig V2Defaults = new()
    {
        Architecture = ModelArchitecture.DeepseekV2,
        VocabSize = 32000,
        HiddenSize = 4096,
        IntermediateSize = 11008,
        MoeIntermediateSize = 1407,
        NumHiddenLayers = 32,
        NumAttentionHeads = 32,
        NSharedExperts = 2,
        NRoutedExperts = 64,
        RoutedScalingFactor = 1,
        TopkMethod = TopKMethod.Greedy,
        NGroup = 1,
        TopkGroup = 1,
        NumExpertsPerTok = 0,
        FirstKDenseReplace = 0,
        NormTopkProb = false,
        ScoringFunc = ScoringFunction.Softmax,
        MaxPositionEmbeddings = 2048,
        InitializerRange = 0.02,
        BosTokenId = 1,
        EosTokenIds = [2],
        Dtype = DType.F32,
    };

    /// <summary>Reads and validates a configuration.</summary>
    /// <param name="path">A config.json, or the folder that holds one.</param>
    /// <exception cref="FathomException">The file cannot be read, or a field is wrong; the message names it.</exception>
    public static ModelConfig Load(string path)
    {
        string file = Directory.Exists(path) ? Path.Combine(path, "config.json") : path;
        try
        {
            var info = new FileInfo(file);
            if (!info.Exists) throw new FathomException($"{file}: there is no such file; a model folder needs its config.json");
            if (info.Length > LargestFile) throw new FathomException($"{file}: {info.Length} bytes are too many for a model's configuration");
            return Parse(File.ReadAllBytes(file), file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new FathomException($"{file}: cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Reads and validates a configuration from text.</summary>
    /// <param name="json">The content of a config.json.</param>
    /// <param name="source">What messages call it.</param>
    /// <exception cref="FathomException">A field is wrong; the message names it.</exception>
    public static ModelConfig Parse(string json, string source = "config.json") => Parse(Encoding.UTF8.GetBytes(json), source);

    /// <summary>Reads and validates a configuration from UTF-8 text.</summary>
    /// <inheritdoc cref="Parse(string, string)"/>
    public static ModelConfig Parse(ReadOnlyMemory<byte> json, string source = "config.json")
    {
        if (json.Span.StartsWith("\uFEFF"u8)) json = json[3..];
        JsonFields fields = JsonFields.Parse(json, source);
        string[] classes = fields.Texts("architectures");
        string? modelType = fields.Text("model_type");
        ModelArchitecture architecture = ModelArchitectures.Find(modelType, classes.FirstOrDefault())
            ?? throw fields.Error("model_type", $"is {(modelType is null ? "missing" : $"\"{modelType}\"")}, supported are deepseek_v2 and deepseek_v3");
        ModelConfig defaults = architecture == ModelArchitecture.DeepseekV3 ? V3Defaults : V2Defaults;
        RejectUnsupported(fields);
        var extra = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        (double theta, RopeScaling? scaling) = ReadRope(fields, extra);
        ModelConfig config = defaults with
        {
            VocabSize = fields.Integer("vocab_size", defaults.VocabSize),
            HiddenSize = fields.Integer("hidden_size", defaults.HiddenSize),
            IntermediateSize = fields.Integer("intermediate_size", defaults.IntermediateSize),
            MoeIntermediateSize = fields.Integer("moe_intermediate_size", defaults.MoeIntermediateSize),
            NumHiddenLayers = fields.Integer("num_hidden_layers", defaults.NumHiddenLayers),
            NumNextnPredictLayers = fields.OptionalInteger("num_nextn_predict_layers") ?? 0,
            NumAttentionHeads = fields.Integer("num_attention_heads", defaults.NumAttentionHeads),
            NumKeyValueHeads = fields.OptionalInteger("num_key_value_heads"),
            NSharedExperts = ZeroIfNull(fields, "n_shared_experts", defaults.NSharedExperts),
            NRoutedExperts = ZeroIfNull(fields, "n_routed_experts", defaults.NRoutedExperts),
            RoutedScalingFactor = fields.Number("routed_scaling_factor", defaults.RoutedScalingFactor),
            KvLoraRank = fields.Integer("kv_lora_rank", defaults.KvLoraRank),
            QLoraRank = ZeroIfNull(fields, "q_lora_rank", defaults.QLoraRank),
            QkRopeHeadDim = fields.Integer("qk_rope_head_dim", defaults.QkRopeHeadDim),
            QkNopeHeadDim = fields.Integer("qk_nope_head_dim", defaults.QkNopeHeadDim),
            VHeadDim = fields.Integer("v_head_dim", defaults.VHeadDim),
            TopkMethod = fields.Choice("topk_method", defaults.TopkMethod, TopkMethodNames),
            NGroup = fields.OptionalInteger("n_group") ?? defaults.NGroup,
            TopkGroup = fields.OptionalInteger("topk_group") ?? defaults.TopkGroup,
            NumExpertsPerTok = ZeroIfNull(fields, "num_experts_per_tok", defaults.NumExpertsPerTok),
            MoeLayerFreq = fields.Integer("moe_layer_freq", 1),
            FirstKDenseReplace = fields.Integer("first_k_dense_replace", defaults.FirstKDenseReplace),
            NormTopkProb = fields.Boolean("norm_topk_prob", defaults.NormTopkProb),
            ScoringFunc = fields.Choice("scoring_func", defaults.ScoringFunc, ScoringNames),
            MaxPositionEmbeddings = fields.Integer("max_position_embeddings", defaults.MaxPositionEmbeddings),
            InitializerRange = fields.Number("initializer_range", defaults.InitializerRange),
            RmsNormEps = fields.Number("rms_norm_eps", defaults.RmsNormEps),
            RopeTheta = theta,
            RopeScaling = scaling,
            BosTokenId = ReadToken(fields, "bos_token_id", defaults.BosTokenId),
            EosTokenIds = fields.Remaining.ContainsKey("eos_token_id") ? fields.Integers("eos_token_id") : defaults.EosTokenIds,
            PadTokenId = fields.OptionalInteger("pad_token_id") is >= 0 and int pad ? pad : null,
            Dtype = ReadDtype(fields),
            QuantizationConfig = ReadQuantization(fields, extra),
            MtpHiddenBeforeNorm = fields.Boolean("mtp_hidden_before_norm", false),
        };
        CheckDerived(fields, config);
        foreach (var (name, value) in fields.Remaining) extra[name] = value;
        config = config with { Extra = extra };
        config.Validate(source);
        return config;
    }

    // A null in the file means none; only a missing field means the default.
    private static int ZeroIfNull(JsonFields fields, string name, int otherwise) =>
        fields.Remaining.ContainsKey(name) ? fields.OptionalInteger(name) ?? 0 : otherwise;

    private static int? ReadToken(JsonFields fields, string name, int? otherwise) =>
        fields.Remaining.ContainsKey(name) ? fields.OptionalInteger(name) : otherwise;

    private static void RejectUnsupported(JsonFields fields)
    {
        fields.Choice("hidden_act", "silu", ("silu", "silu"));
        foreach (string name in new[] { "attention_bias", "mlp_bias", "tie_word_embeddings" })
        {
            if (fields.Boolean(name, false)) throw fields.Error(name, "is true, supported is false: no published DeepSeek-V2 or V3 model has it");
        }

        if (!fields.Boolean("rope_interleave", true))
            throw fields.Error("rope_interleave", "is false, supported is true: the published weights lie in interleaved pairs");
    }

    // Values that follow from others are dropped, so that a changed configuration cannot contradict itself; a file that does is refused.
    private static void CheckDerived(JsonFields fields, ModelConfig config)
    {
        fields.OptionalInteger("head_dim");
        if (fields.OptionalInteger("qk_head_dim") is int width && width != (long)config.QkNopeHeadDim + config.QkRopeHeadDim)
            throw fields.Error("qk_head_dim", $"is {width}, but qk_nope_head_dim + qk_rope_head_dim is {(long)config.QkNopeHeadDim + config.QkRopeHeadDim}");
    }

    private static (double Theta, RopeScaling? Scaling) ReadRope(JsonFields fields, Dictionary<string, JsonElement> extra)
    {
        JsonFields? parameters = fields.Object("rope_parameters");
        JsonFields? scaling = fields.Object("rope_scaling");
        double theta = fields.Number("rope_theta", 10000);
        JsonFields? rope = parameters ?? scaling;
        if (rope is null) return (theta, null);
        theta = rope.Number("rope_theta", theta);
        (string, bool)[] types = [("yarn", true), ("default", false)];
        bool old = rope.Choice("type", false, types);
        bool yarn = rope.Choice("rope_type", old, types);
        RopeScaling? result = null;
        if (yarn)
        {
            if (!rope.Boolean("truncate", true)) throw rope.Error("truncate", "is false, supported is true");
            if (rope.Remaining.TryGetValue("attention_factor", out JsonElement factor) && factor.ValueKind != JsonValueKind.Null)
                throw rope.Error("attention_factor", "is not supported; DeepSeek models set mscale and mscale_all_dim");
            int original = rope.Integer("original_max_position_embeddings", 0);
            if (original == 0) throw rope.Error("original_max_position_embeddings", "is missing; yarn needs the length before extension");
            result = new RopeScaling(
                rope.Number("factor", 0),
                original,
                rope.Number("beta_fast", 32),
                rope.Number("beta_slow", 1),
                rope.Number("mscale", 1),
                rope.Number("mscale_all_dim", 0));
        }

        KeepRemaining(extra, "rope_scaling", rope);
        return (theta, result);
    }

    private static QuantizationConfig? ReadQuantization(JsonFields fields, Dictionary<string, JsonElement> extra)
    {
        JsonFields? section = fields.Object("quantization_config");
        if (section is null) return null;
        QuantizationConfig result = QuantizationConfig.Read(section);
        KeepRemaining(extra, "quantization_config", section);
        return result;
    }

    private static void KeepRemaining(Dictionary<string, JsonElement> extra, string name, JsonFields section)
    {
        if (section.Remaining.Count > 0) extra[name] = JsonSerializer.SerializeToElement(section.Remaining);
    }

    private static DType ReadDtype(JsonFields fields)
    {
        DType old = fields.Choice("torch_dtype", DType.F32, DtypeNames);
        return fields.Choice("dtype", old, DtypeNames);
    }
}

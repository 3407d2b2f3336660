// config.json in the published layout: sorted fields, rope_theta with rope_scaling, torch_dtype. transformers 5 still reads
// that spelling (it turns it into rope_parameters), and so does every other reader; the new one alone would shut out
// transformers 4 and most engines, and both at once could contradict each other. Floats always carry a point or an exponent,
// for readers that check types strictly.
using System.Globalization;
using System.Text;
using System.Text.Json;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

public sealed partial record ModelConfig
{
    private static readonly (string, TopKMethod)[] TopkMethodNames =
    [
        ("greedy", TopKMethod.Greedy), ("group_limited_greedy", TopKMethod.GroupLimitedGreedy), ("noaux_tc", TopKMethod.NoAuxTc),
    ];

    private static readonly (string, ScoringFunction)[] ScoringNames =
        [("sigmoid", ScoringFunction.Sigmoid), ("softmax", ScoringFunction.Softmax)];

    private static readonly (string, DType)[] DtypeNames =
        [("bfloat16", DType.BF16), ("float16", DType.F16), ("float32", DType.F32)];

    /// <summary>The content of config.json.</summary>
    public string ToJson()
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            Write(writer, Fields(), Extra);
        }

        return Encoding.UTF8.GetString(stream.ToArray()) + "\n";
    }

    /// <summary>Writes config.json so that a crash leaves the old file or the new one, never a part.</summary>
    /// <param name="folder">The model's folder; it exists.</param>
    /// <exception cref="FathomException">The file cannot be written.</exception>
    public void Save(string folder) => AtomicFile.WriteAllText(Path.Combine(folder, "config.json"), ToJson());

    private Dictionary<string, object?> Fields()
    {
        var fields = new Dictionary<string, object?>
        {
            ["architectures"] = new[] { Architecture.ClassName() },
            ["attention_bias"] = false,
            ["bos_token_id"] = BosTokenId,
            ["eos_token_id"] = EosTokenIds.Count switch { 0 => null, 1 => EosTokenIds[0], _ => EosTokenIds },
            ["first_k_dense_replace"] = FirstKDenseReplace,
            ["hidden_act"] = "silu",
            ["hidden_size"] = HiddenSize,
            ["initializer_range"] = InitializerRange,
            ["intermediate_size"] = IntermediateSize,
            ["kv_lora_rank"] = KvLoraRank,
            ["max_position_embeddings"] = MaxPositionEmbeddings,
            ["model_type"] = Architecture.ModelType(),
            ["moe_intermediate_size"] = MoeIntermediateSize,
            ["moe_layer_freq"] = MoeLayerFreq,
            ["n_group"] = NGroup,
            ["n_routed_experts"] = NRoutedExperts == 0 ? null : NRoutedExperts,
            ["n_shared_experts"] = NSharedExperts == 0 ? null : NSharedExperts,
            ["norm_topk_prob"] = NormTopkProb,
            ["num_attention_heads"] = NumAttentionHeads,
            ["num_experts_per_tok"] = NumExpertsPerTok == 0 ? null : NumExpertsPerTok,
            ["num_hidden_layers"] = NumHiddenLayers,
            ["num_key_value_heads"] = NumKeyValueHeads ?? NumAttentionHeads,
            ["num_nextn_predict_layers"] = NumNextnPredictLayers,
            ["pad_token_id"] = PadTokenId,
            ["q_lora_rank"] = QLoraRank == 0 ? null : QLoraRank,
            ["qk_nope_head_dim"] = QkNopeHeadDim,
            ["qk_rope_head_dim"] = QkRopeHeadDim,
            ["rms_norm_eps"] = RmsNormEps,
            ["rope_scaling"] = RopeFields(),
            ["rope_theta"] = RopeTheta,
            ["routed_scaling_factor"] = RoutedScalingFactor,
            ["scoring_func"] = NameOf(ScoringNames, ScoringFunc),
            ["tie_word_embeddings"] = false,
            ["topk_group"] = TopkGroup,
            ["topk_method"] = NameOf(TopkMethodNames, TopkMethod),
            ["torch_dtype"] = NameOf(DtypeNames, Dtype),
            ["v_head_dim"] = VHeadDim,
            ["vocab_size"] = VocabSize,
        };
        if (MtpHiddenBeforeNorm) fields["mtp_hidden_before_norm"] = true;
        if (QuantizationConfig is not null) fields["quantization_config"] = QuantizationConfig.Fields();
        return fields;
    }

    private Dictionary<string, object?>? RopeFields() => RopeScaling is null ? null : new()
    {
        ["beta_fast"] = RopeScaling.BetaFast,
        ["beta_slow"] = RopeScaling.BetaSlow,
        ["factor"] = RopeScaling.Factor,
        ["mscale"] = RopeScaling.Mscale,
        ["mscale_all_dim"] = RopeScaling.MscaleAllDim,
        ["original_max_position_embeddings"] = RopeScaling.OriginalMaxPositionEmbeddings,
        ["type"] = "yarn",
    };

    private static string NameOf<T>((string Name, T Value)[] table, T value) =>
        table.First(row => EqualityComparer<T>.Default.Equals(row.Value, value)).Name;

    // The fields of an object and those of `extra` that it lacks; an extra object is merged into the field of its name.
    private static void Write(Utf8JsonWriter writer, Dictionary<string, object?> fields, IReadOnlyDictionary<string, JsonElement> extra)
    {
        writer.WriteStartObject();
        foreach (string name in fields.Keys.Union(extra.Keys).Order(StringComparer.Ordinal))
        {
            bool more = extra.TryGetValue(name, out JsonElement addition);
            if (!fields.TryGetValue(name, out object? value))
            {
                // What was kept of a section that is gone is not written: it would come back as a section of nothing else.
                if (name == "quantization_config") continue;
                writer.WritePropertyName(name);
                addition.WriteTo(writer);
                continue;
            }

            writer.WritePropertyName(name);
            if (value is Dictionary<string, object?> section)
            {
                Write(writer, section, more ? addition.EnumerateObject().ToDictionary(p => p.Name, p => p.Value) : new Dictionary<string, JsonElement>());
                continue;
            }

            WriteValue(writer, value);
        }

        writer.WriteEndObject();
    }

    private static void WriteValue(Utf8JsonWriter writer, object? value)
    {
        switch (value)
        {
            case null: writer.WriteNullValue(); break;
            case bool b: writer.WriteBooleanValue(b); break;
            case int i: writer.WriteNumberValue(i); break;
            case double d:
                string text = d.ToString("R", CultureInfo.InvariantCulture);
                writer.WriteRawValue(text.AsSpan().ContainsAny(".E") ? text : text + ".0");
                break;
            case string s: writer.WriteStringValue(s); break;
            case System.Collections.IEnumerable list:
                writer.WriteStartArray();
                foreach (object? item in list) WriteValue(writer, item);
                writer.WriteEndArray();
                break;
            default: throw new InvalidOperationException($"no JSON for {value.GetType()}");
        }
    }
}

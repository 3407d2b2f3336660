// config.json in every spelling, its round trip, and one clear message for each contradiction.
using System.Text.Json.Nodes;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class ModelConfigTests(ITestOutputHelper output)
{
    [Fact]
    public void The_published_file_is_the_preset()
    {
        ModelConfig config = ModelConfig.Load(Golden.Shared("reference", "deepseek-config", "hf_config_v3.json"));
        Assert.Equal(0.02, config.InitializerRange); // the file's, not the report's
        ModelConfig preset = ModelPresets.Get("deepseek-v3") with { InitializerRange = 0.02, NumKeyValueHeads = 128, Extra = config.Extra };
        Assert.Equal(preset.ToJson(), config.ToJson());
        Assert.Equal(1.87386 / Math.Sqrt(192), config.SoftmaxScale, 5e-6);
        Assert.Equal(1, config.RopeScaling!.CosSinMultiplier, 1e-15);
        Assert.Contains("auto_map", config.Extra.Keys);

        // Field by field, what is written is what the file says.
        JsonObject expected = JsonNode.Parse(File.ReadAllText(Golden.Shared("reference", "deepseek-config", "hf_config_v3.json")))!.AsObject();
        JsonObject actual = JsonNode.Parse(config.ToJson())!.AsObject();
        foreach (var (name, value) in expected)
            Assert.True(JsonNode.DeepEquals(value, actual[name]) || name is "rope_scaling" or "rope_theta", $"{name}: {value?.ToJsonString()} became {actual[name]?.ToJsonString()}");
        output.WriteLine($"{expected.Count} fields kept; added: {string.Join(", ", actual.Select(p => p.Key).Except(expected.Select(p => p.Key)))}");
    }

    [Fact]
    public void Files_of_transformers_5_are_read()
    {
        ModelConfig plain = ModelConfig.Load(Golden.Shared("golden", "tiny-v3"));
        Assert.Null(plain.RopeScaling);
        Assert.Equal(10000, plain.RopeTheta);
        Assert.Equal((ScoringFunction.Sigmoid, TopKMethod.NoAuxTc, 1), (plain.ScoringFunc, plain.TopkMethod, plain.MoeLayerFreq));
        Assert.Equal(DType.F32, plain.Dtype);
        ModelConfig yarn = ModelConfig.Load(Golden.Shared("golden", "tiny-v3-yarn"));
        Assert.Equal(new RopeScaling(4, 64, 32, 1, 1, 1), yarn.RopeScaling);
        Assert.DoesNotContain("rope_parameters", yarn.ToJson());
        AssertStable(plain);
        AssertStable(yarn);
    }

    [Theory]
    [InlineData("nano-v3-train")]
    [InlineData("nano-v3-fp8")]
    public void Fixtures_are_read(string name)
    {
        ModelConfig config = ModelConfig.Load(Golden.Fixture(name));
        Assert.Equal(name == "nano-v3-fp8" ? new QuantizationConfig(128, 128) : null, config.QuantizationConfig);
        Assert.False(config.IsMoeLayer(0));
        Assert.True(config.IsMoeLayer(1) && config.IsMoeLayer(config.NumHiddenLayers));
        AssertStable(config);
    }

    public static TheoryData<string> Presets => [.. ModelPresets.Names];

    [Theory]
    [MemberData(nameof(Presets))]
    public void Presets_survive_the_round_trip(string name) => AssertStable(ModelPresets.Get(name));

    [Fact]
    public void Both_spellings_of_rope_and_dtype_mean_the_same()
    {
        const string Yarn = "\"factor\": 40, \"original_max_position_embeddings\": 4096, \"mscale\": 0.707, \"mscale_all_dim\": 0.707";
        ModelConfig classic = Parse($"\"rope_theta\": 5000, \"torch_dtype\": \"bfloat16\", \"rope_scaling\": {{\"type\": \"yarn\", {Yarn}}}");
        ModelConfig modern = Parse($"\"dtype\": \"bfloat16\", \"rope_parameters\": {{\"rope_theta\": 5000.0, \"rope_type\": \"yarn\", {Yarn}}}");
        Assert.Equal(classic.ToJson(), modern.ToJson());
        Assert.Equal((5000.0, DType.BF16), (classic.RopeTheta, classic.Dtype));
        Assert.Equal(Math.Pow(0.0707 * Math.Log(40) + 1, 2), classic.RopeScaling!.SoftmaxMultiplier, 12);
    }

    [Fact]
    public void A_missing_mscale_all_dim_sharpens_cosines_instead_of_the_softmax()
    {
        ModelConfig config = Parse("\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 64}");
        Assert.Equal(1, config.RopeScaling!.SoftmaxMultiplier);
        Assert.Equal(0.1 * Math.Log(4) + 1, config.RopeScaling.CosSinMultiplier, 12);
    }

    [Fact]
    public void Missing_fields_take_the_defaults_of_their_architecture()
    {
        ModelConfig v3 = Parse("\"vocab_size\": 1000");
        Assert.Equal((7168, 61, 256, 8, 0.02, 0), (v3.HiddenSize, v3.NumHiddenLayers, v3.NRoutedExperts, v3.NGroup, v3.InitializerRange, v3.NumNextnPredictLayers));
        ModelConfig v2 = ModelConfig.Parse("""{"model_type": "deepseek_v2", "num_experts_per_tok": 6, "q_lora_rank": null, "n_group": null}""");
        Assert.Equal((ScoringFunction.Softmax, TopKMethod.Greedy, 0, 1, false), (v2.ScoringFunc, v2.TopkMethod, v2.QLoraRank, v2.NGroup, v2.NormTopkProb));
        Assert.Equal(0.006, new ModelConfig().InitializerRange);
        Assert.Equal([5, 6], Parse("\"eos_token_id\": [5, 6]").EosTokenIds);
        Assert.Empty(Parse("\"eos_token_id\": null").EosTokenIds);
        Assert.False(Parse("\"n_routed_experts\": null").IsMoeLayer(60));
    }

    [Fact]
    public void Unknown_fields_are_kept()
    {
        ModelConfig config = Parse(
            "\"aux_loss_alpha\": 0.001, \"notes\": {\"a\": [1, null, \"ü\"]}, \"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128], \"modules_to_not_convert\": [\"lm_head\"]}");
        JsonNode written = JsonNode.Parse(config.ToJson())!;
        Assert.Equal(0.001, (double)written["aux_loss_alpha"]!);
        Assert.Equal("ü", (string?)written["notes"]!["a"]![2]);
        Assert.Equal("lm_head", (string?)written["quantization_config"]!["modules_to_not_convert"]![0]);
        AssertStable(config);
        Assert.DoesNotContain("quantization_config", (config with { QuantizationConfig = null }).ToJson());
        Assert.DoesNotContain("mtp_hidden_before_norm", config.ToJson());
        Assert.True(ModelConfig.Parse((config with { MtpHiddenBeforeNorm = true }).ToJson()).MtpHiddenBeforeNorm);
    }

    [Theory]
    [InlineData("\"num_attention_heads\": 0", "num_attention_heads")]
    [InlineData("\"hidden_size\": -5", "hidden_size")]
    [InlineData("\"hidden_size\": \"big\"", "hidden_size")]
    [InlineData("\"hidden_size\": 1.5", "hidden_size")]
    [InlineData("\"hidden_size\": null", "hidden_size")]
    [InlineData("\"hidden_size\": 99999999999999999999", "hidden_size")]
    [InlineData("\"hidden_size\": 2000000000, \"vocab_size\": 2000000000", "hidden_size")]
    [InlineData("\"qk_rope_head_dim\": 63", "qk_rope_head_dim")]
    [InlineData("\"n_group\": 7", "n_group")]
    [InlineData("\"n_group\": 0", "n_group")]
    [InlineData("\"n_group\": 256, \"topk_group\": 8", "n_group")]
    [InlineData("\"topk_group\": 9", "topk_group")]
    [InlineData("\"num_experts_per_tok\": 129", "num_experts_per_tok")]
    [InlineData("\"num_experts_per_tok\": 0", "num_experts_per_tok")]
    [InlineData("\"first_k_dense_replace\": 62", "first_k_dense_replace")]
    [InlineData("\"hidden_act\": \"gelu\"", "hidden_act")]
    [InlineData("\"scoring_func\": \"tanh\"", "scoring_func")]
    [InlineData("\"topk_method\": \"random\"", "topk_method")]
    [InlineData("\"attention_bias\": true", "attention_bias")]
    [InlineData("\"tie_word_embeddings\": true", "tie_word_embeddings")]
    [InlineData("\"rope_interleave\": false", "rope_interleave")]
    [InlineData("\"qk_head_dim\": 100", "qk_head_dim")]
    [InlineData("\"rms_norm_eps\": 0", "rms_norm_eps")]
    [InlineData("\"rms_norm_eps\": 1e999", "rms_norm_eps")]
    [InlineData("\"rope_theta\": 0", "rope_theta")]
    [InlineData("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}", "rope_scaling.type")]
    [InlineData("\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}", "rope_scaling.original_max_position_embeddings")]
    [InlineData("\"rope_scaling\": {\"type\": \"yarn\", \"original_max_position_embeddings\": 64}", "rope_scaling.factor")]
    [InlineData("\"rope_scaling\": 3", "rope_scaling")]
    [InlineData("\"rope_parameters\": {\"rope_type\": \"llama3\"}", "rope_parameters.rope_type")]
    [InlineData("\"bos_token_id\": 129280", "bos_token_id")]
    [InlineData("\"eos_token_id\": [1, -1]", "eos_token_id")]
    [InlineData("\"torch_dtype\": \"int8\"", "torch_dtype")]
    [InlineData("\"quantization_config\": {\"quant_method\": \"awq\"}", "quantization_config.quant_method")]
    [InlineData("\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128]}", "quantization_config.weight_block_size")]
    [InlineData("\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128, 0]}", "quantization_config.weight_block_size")]
    [InlineData("\"architectures\": \"DeepseekV3ForCausalLM\"", "architectures")]
    [InlineData("\"num_nextn_predict_layers\": -1", "num_nextn_predict_layers")]
    [InlineData("\"norm_topk_prob\": 1", "norm_topk_prob")]
    public void Each_contradiction_names_its_field(string fields, string name)
    {
        FathomException error = Assert.Throws<FathomException>(() => Parse(fields));
        output.WriteLine(error.Message);
        Assert.Contains($"config.json: {name} ", error.Message);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("{")]
    [InlineData("nonsense")]
    [InlineData("{}")]
    [InlineData("""{"model_type": "llama"}""")]
    [InlineData("""{"model_type": "deepseek_v3", "model_type": "deepseek_v2"}""")]
    [InlineData("""{"model_type": "deepseek_v3", "x": "\ud800"}""")]
    [InlineData("""{"model_type": "deepseek_v3", "x": {"\ud800": 1}}""")]
    public void No_configuration_is_one_clear_line(string json)
    {
        FathomException error = Assert.Throws<FathomException>(() => ModelConfig.Parse(json));
        output.WriteLine(error.Message);
        Assert.StartsWith("config.json: ", error.Message);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Fact]
    public void Missing_files_and_folders_are_clear()
    {
        using var folder = new TemporaryFolder();
        Assert.Contains("no such file", Assert.Throws<FathomException>(() => ModelConfig.Load(folder.Path)).Message);
        Assert.Contains("no such file", Assert.Throws<FathomException>(() => ModelConfig.Load(folder.File("absent"))).Message);
        ModelPresets.Get("nano").Save(folder.Path);
        Assert.Equal(ModelPresets.Get("nano").ToJson(), ModelConfig.Load(folder.Path).ToJson());
        Assert.Single(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void Kimi_style_files_are_read_by_their_class()
    {
        ModelConfig config = ModelConfig.Parse(
            """{"model_type": "kimi_k2", "architectures": ["DeepseekV3ForCausalLM"], "n_group": 1, "topk_group": 1, "n_routed_experts": 384}""");
        Assert.Equal((ModelArchitecture.DeepseekV3, 384), (config.Architecture, config.Routing.Experts));
    }

    private static ModelConfig Parse(string fields) => ModelConfig.Parse("{\"model_type\": \"deepseek_v3\", " + fields + "}");

    private static void AssertStable(ModelConfig config)
    {
        string json = config.ToJson();
        Assert.Equal(json, ModelConfig.Parse(json).ToJson());
    }
}

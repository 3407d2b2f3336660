// A small random model with a tokenizer and a template: its answers are noise, and the same noise for the same seed.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Inference;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Server.Tests;

/// <summary>Makes the model, in memory or in a folder.</summary>
internal static class TestModel
{
    private static readonly string[] Special =
    [
        .. SpecialTokenNames.All, "<think>", "</think>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>",
        "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>",
    ];

    /// <summary>The tokenizer: bytes, some merges of English, and DeepSeek's control tokens.</summary>
    public static Tokenizer Tokenizer { get; } = BpeTrainer.Train(
        Enumerable.Repeat("the model reads a token and writes an answer to the question of the user, which is what it does all day and night. ", 20),
        new BpeTrainerOptions { VocabularySize = 340, SpecialTokens = Special });

    /// <summary>Its configuration.</summary>
    public static ModelConfig Config { get; } = ModelConfig.Parse($$"""
        {
          "model_type": "deepseek_v3", "vocab_size": {{Tokenizer.VocabularySize + 5}}, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32,
          "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "n_shared_experts": 1, "n_routed_experts": 8,
          "routed_scaling_factor": 2.5, "kv_lora_rank": 32, "q_lora_rank": 24, "qk_rope_head_dim": 8, "v_head_dim": 16,
          "qk_nope_head_dim": 16, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "eos_token_id": 1, "bos_token_id": 0,
          "norm_topk_prob": true, "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "num_nextn_predict_layers": 0
        }
        """);

    /// <summary>The model in memory.</summary>
    public static LoadedModel Open(Device device) => new("/models/tiny", Make(device).Model, Tokenizer, ChatTemplate.DeepSeekV3, [1]);

    /// <summary>The model as a folder, for processes of their own.</summary>
    public static string Write(string folder)
    {
        using var device = new CpuDevice(1);
        (DeepSeekModel _, ParameterSet parameters) = Make(device);
        string tokenizer = Path.Combine(folder, "tokenizer");
        Tokenizer.Save(tokenizer, ChatTemplate.DeepSeekV3.Source);
        string model = Path.Combine(folder, "tiny");
        Directory.CreateDirectory(model);
        ModelFolder.Write(model, Config, parameters, DType.F32, tokenizer);
        return model;
    }

    private static (DeepSeekModel Model, ParameterSet Parameters) Make(Device device)
    {
        var parameters = new ParameterSet(device);
        var model = new DeepSeekModel(device, Config, parameters);
        parameters.Initialize(7, 0.08f);
        return (model, parameters);
    }
}

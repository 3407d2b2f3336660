// A small random model with a tokenizer and DeepSeek-V3's template. Its answers are noise, unless LogitBias has the model say something.
using Fathom.Compute;
using Fathom.Inference;
using Fathom.Model;
using Fathom.Text;

namespace Fathom.Extensions.AI.Tests;

/// <summary>Makes the model.</summary>
internal static class TestModel
{
    private static readonly string[] Special =
    [
        .. SpecialTokenNames.All, AnswerMarks.Think, AnswerMarks.EndThink, AnswerMarks.Calls, AnswerMarks.EndCalls, AnswerMarks.Call, AnswerMarks.EndCall, AnswerMarks.Separator,
        "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>",
    ];

    /// <summary>Bytes, some merges of English, and DeepSeek's control tokens.</summary>
    public static Tokenizer Tokenizer { get; } = BpeTrainer.Train(
        Enumerable.Repeat("the model reads a token and writes an answer to the question of the user, which is what it does all day and night. ", 20),
        new BpeTrainerOptions { VocabularySize = 340, SpecialTokens = Special });

    /// <summary>The model.</summary>
    public static LoadedModel Open(Device device)
    {
        ModelConfig config = ModelConfig.Parse($$"""
            {
              "model_type": "deepseek_v3", "vocab_size": {{Tokenizer.VocabularySize + 5}}, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32,
              "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "n_shared_experts": 1, "n_routed_experts": 8,
              "routed_scaling_factor": 2.5, "kv_lora_rank": 32, "q_lora_rank": 24, "qk_rope_head_dim": 8, "v_head_dim": 16,
              "qk_nope_head_dim": 16, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "eos_token_id": 1, "bos_token_id": 0,
              "norm_topk_prob": true, "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "num_nextn_predict_layers": 0
            }
            """);
        var parameters = new ParameterSet(device);
        var model = new DeepSeekModel(device, config, parameters);
        parameters.Initialize(7, 0.08f);
        return new LoadedModel("/models/tiny", model, Tokenizer, ChatTemplate.DeepSeekV3, [1]);
    }
}

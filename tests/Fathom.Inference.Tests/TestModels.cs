using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Inference.Tests;

/// <summary>Small random models for tests that need no checkpoint.</summary>
internal static class TestModels
{
    public static ModelConfig Config(int queryRank = 24, int layers = 3) => ModelConfig.Parse($$"""
        {
          "model_type": "deepseek_v3", "vocab_size": 160, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32,
          "num_hidden_layers": {{layers}}, "num_attention_heads": 4, "num_key_value_heads": 4, "n_shared_experts": 1, "n_routed_experts": 8,
          "routed_scaling_factor": 2.5, "kv_lora_rank": 32, "q_lora_rank": {{(queryRank == 0 ? "null" : queryRank)}}, "qk_rope_head_dim": 8, "v_head_dim": 16,
          "qk_nope_head_dim": 16, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
          "norm_topk_prob": true, "max_position_embeddings": 512, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "num_nextn_predict_layers": 0
        }
        """);

    public static DeepSeekModel Random(Device device, ModelConfig config, ulong seed = 3)
    {
        var parameters = new ParameterSet(device);
        var model = new DeepSeekModel(device, config, parameters);
        parameters.Initialize(seed, 0.08f);
        return model;
    }

    /// <summary>A small random model without tokenizer.</summary>
    public static LoadedModel Loaded(Device device, ModelConfig? config = null, ulong seed = 3) =>
        new("test model", Random(device, config ?? Config(), seed), null, null, []);

    /// <summary>A request of random length, a third of them behind one of two long beginnings.</summary>
    public static GenerationRequest Request(ulong seed)
    {
        var random = new Philox(seed, "test request");
        int length = 1 + (int)random.Integer(0, 150);
        int[] prompt = Tokens(length, 160, seed);
        if (seed % 3 == 0) prompt = [.. Tokens(140, 160, 1000 + seed % 2), .. prompt];
        return new GenerationRequest
        {
            Prompt = prompt,
            Sampling = new SamplingOptions { Seed = seed, Temperature = seed % 4 == 0 ? 0 : 1, MaxNewTokens = 1 + (int)random.Integer(1, 120) },
        };
    }

    /// <summary>Generates to the end.</summary>
    public static async Task<(int[] Ids, GenerationResult Result)> Run(InferenceEngine engine, GenerationRequest request)
    {
        Generation generation = engine.Submit(request);
        var ids = new List<int>();
        await foreach (GenerationPiece piece in generation) ids.AddRange(piece.Tokens.Select(t => t.Id));
        return ([.. ids], await generation.Completion);
    }

    public static int[] Tokens(int count, int vocabulary, ulong seed)
    {
        var random = new Philox(seed, "test tokens");
        return [.. Enumerable.Range(0, count).Select(i => (int)random.Integer((ulong)i, vocabulary))];
    }
}

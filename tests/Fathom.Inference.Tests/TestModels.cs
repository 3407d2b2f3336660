using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Inference.Tests;

/// <summary>Small random models for tests that need no checkpoint.</summary>
internal static class TestModels
{
    public static ModelConfig Config(int queryRank = 24, int layers = 3, int vocabulary = 160, int mtpModules = 0) => ModelConfig.Parse($$"""
        {
          "model_type": "deepseek_v3", "vocab_size": {{vocabulary}}, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32,
          "num_hidden_layers": {{layers}}, "num_attention_heads": 4, "num_key_value_heads": 4, "n_shared_experts": 1, "n_routed_experts": 8,
          "routed_scaling_factor": 2.5, "kv_lora_rank": 32, "q_lora_rank": {{(queryRank == 0 ? "null" : queryRank)}}, "qk_rope_head_dim": 8, "v_head_dim": 16,
          "qk_nope_head_dim": 16, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
          "norm_topk_prob": true, "max_position_embeddings": 512, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "num_nextn_predict_layers": {{mtpModules}}
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

    /// <summary>The same as opened from a checkpoint whose weights are BF16.</summary>
    public static LoadedModel Stored(Device device, ModelConfig? config = null, ulong seed = 3)
    {
        using var folder = new TemporaryFolder(); // what is mapped outlives its name
        using var host = new CpuDevice(1);
        var parameters = new ParameterSet(host);
        config = (config ?? Config()) with { Dtype = DType.BF16 };
        _ = new DeepSeekModel(host, config, parameters);
        parameters.Initialize(seed, 0.08f);
        ModelFolder.Write(folder.Path, config, parameters, DType.BF16, null);
        return new LoadedModel("test model", LoadedModel.Open(device, folder.Path).Model, null, null, []);
    }

    /// <summary>A request of random length, a third of them behind one of two long beginnings.</summary>
    public static GenerationRequest Request(ulong seed, int vocabulary = 160)
    {
        var random = new Philox(seed, "test request");
        int length = 1 + (int)random.Integer(0, 150);
        int[] prompt = Tokens(length, vocabulary, seed);
        if (seed % 3 == 0) prompt = [.. Tokens(140, vocabulary, 1000 + seed % 2), .. prompt];
        return new GenerationRequest
        {
            Prompt = prompt,
            Sampling = new SamplingOptions { Seed = seed, Temperature = seed % 4 == 0 ? 0 : 1, MaxNewTokens = 1 + (int)random.Integer(1, 120), LogProbs = 0 },
        };
    }

    /// <summary>Generates to the end.</summary>
    public static async Task<Answer> Run(InferenceEngine engine, GenerationRequest request, CancellationToken cancellation = default)
    {
        Generation generation = engine.Submit(request, cancellation);
        var tokens = new List<GeneratedToken>();
        var text = new System.Text.StringBuilder();
        await foreach (GenerationPiece piece in generation)
        {
            tokens.AddRange(piece.Tokens);
            text.Append(piece.Text);
        }

        return new Answer(tokens, text.ToString(), await generation.Completion);
    }

    public static int[] Tokens(int count, int vocabulary, ulong seed)
    {
        var random = new Philox(seed, "test tokens");
        return [.. Enumerable.Range(0, count).Select(i => (int)random.Integer((ulong)i, vocabulary))];
    }
}

/// <summary>All that a generation brought.</summary>
internal sealed record Answer(IReadOnlyList<GeneratedToken> Tokens, string Text, GenerationResult Result)
{
    public int[] Ids => [.. Tokens.Select(t => t.Id)];

    /// <summary>Same tokens, and log-probabilities of the same bits.</summary>
    public void AssertEqual(Answer other, int number)
    {
        Assert.Equal(Ids, other.Ids);
        for (int i = 0; i < Tokens.Count; i++)
        {
            Assert.True(
                BitConverter.SingleToUInt32Bits(Tokens[i].LogProb) == BitConverter.SingleToUInt32Bits(other.Tokens[i].LogProb),
                $"request {number}, token {i}: {Tokens[i].LogProb:R} is not {other.Tokens[i].LogProb:R}");
        }
    }
}

using System.Text.Json.Nodes;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Training.Tests;

/// <summary>A run small enough for a test: a few steps a second on real text.</summary>
internal static class TestRuns
{
    public static readonly JsonNode Model = JsonNode.Parse("""
        {
          "model_type": "deepseek_v3", "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 16,
          "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "n_shared_experts": 1, "n_routed_experts": 8,
          "routed_scaling_factor": 2.5, "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "v_head_dim": 16,
          "qk_nope_head_dim": 16, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
          "norm_topk_prob": true, "max_position_embeddings": 128, "num_nextn_predict_layers": 1, "initializer_range": 0.02
        }
        """)!;

    public static TrainingConfig Config(string textFile, long steps) => new()
    {
        Seed = 5,
        Model = Model.DeepClone(),
        Data = new DataConfig { Path = textFile, HeldOut = 0.1 },
        Tokenizer = new TokenizerConfig { VocabSize = 400 },
        SequenceLength = 48,
        MicroBatch = 2,
        BatchSize = Schedule.Constant(4),
        Steps = steps,
        LearningRate = Schedule.WarmUpConstantCosine(3e-3, 3e-4, 3, 0.7),
        ValidateEvery = 4,
        ValidationSequences = 6,
        SaveEvery = 4,
    };

    /// <summary>Text with something to learn: counting in words.</summary>
    public static string WriteText(string folder)
    {
        string[] words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
        string path = Path.Combine(folder, "text.txt");
        File.WriteAllLines(path, Enumerable.Range(0, 4000).Select(i =>
            $"{words[i / 1000 % 10]} {words[i / 100 % 10]} {words[i / 10 % 10]} {words[i % 10]} comes before {words[(i + 1) % 10]}." + (i % 20 == 19 ? "\n" : "")));
        return path;
    }

    public static string[] Metrics(string run) => File.ReadAllLines(Path.Combine(run, "metrics.jsonl"));

    /// <summary>The numbers of each metrics line that do not depend on the clock.</summary>
    public static string[] Losses(string run) =>
    [
        .. Metrics(run).Select(line => JsonNode.Parse(line)!.AsObject()).Select(line => string.Join(' ', new[]
        {
            "step", "tokens", "loss", "total_loss", "mtp_loss", "mtp_accuracy", "balance_loss", "grad_norm", "lr", "load_imbalance", "val_loss", "val_bpb", "expert_layers", "expert_load", "routing_bias",
        }.Select(name => line[name]?.ToJsonString() ?? "-"))),
    ];
}

/// <summary>Random ids.</summary>
internal sealed class RandomBatches(int vocabulary, int length) : ITokenBatches
{
    public int SequenceLength => length;

    public long SamplesPerEpoch => long.MaxValue;

    public void Fill(long sampleIndex, Span<int> tokens)
    {
        var random = new Philox(1, (ulong)sampleIndex);
        for (int i = 0; i < tokens.Length; i++) tokens[i] = (int)random.Integer((ulong)i, vocabulary);
    }
}

/// <summary>Remembers what a run told.</summary>
internal sealed class RecordingObserver : IRunObserver
{
    public List<string> Warnings { get; } = [];

    public string? RestoredFrom { get; private set; }

    public Action<StepReport>? OnStep { get; init; }

    public void Preparing(PreparationProgress progress)
    {
    }

    public void Starting(TrainingRun run, string? restoredFrom) => RestoredFrom = restoredFrom;

    public void Stepped(StepReport report) => OnStep?.Invoke(report);

    public void Validated(long step, ValidationReport report)
    {
    }

    public void Saved(long step, string folder)
    {
    }

    public void Warning(string message) => Warnings.Add(message);
}

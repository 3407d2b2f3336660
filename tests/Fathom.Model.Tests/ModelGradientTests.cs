// The gradient of the whole model against finite differences, in the configurations that no reference data covers: V2's routers,
// two MTP depths, the MTP module before the final norm, queries without a latent. Every token takes every expert, so that a small
// step cannot change the choice, which has no derivative.
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class ModelGradientTests(ITestOutputHelper output)
{
    private const int Batch = 2;
    private const int Tokens = 12;

    public static TheoryData<string, string> Configurations() => new()
    {
        { "V3, two MTP depths", """ "model_type": "deepseek_v3", "num_nextn_predict_layers": 2, "q_lora_rank": 12, "n_group": 2, "topk_group": 2 """ },
        { "V3, MTP before the norm", """ "model_type": "deepseek_v3", "num_nextn_predict_layers": 2, "mtp_hidden_before_norm": true, "q_lora_rank": 12, "n_group": 2, "topk_group": 2 """ },
        { "V2-Lite: softmax, greedy, no query latent", """ "model_type": "deepseek_v2", "scoring_func": "softmax", "topk_method": "greedy", "norm_topk_prob": false, "q_lora_rank": null, "n_group": 1, "topk_group": 1 """ },
        { "V2: softmax, group-limited, normalised, two shared experts", """ "model_type": "deepseek_v2", "scoring_func": "softmax", "topk_method": "group_limited_greedy", "norm_topk_prob": true, "n_shared_experts": 2, "q_lora_rank": 12, "n_group": 2, "topk_group": 2 """ },
        { "YaRN", """ "model_type": "deepseek_v3", "num_nextn_predict_layers": 0, "q_lora_rank": 12, "n_group": 2, "topk_group": 2, "rope_scaling": { "type": "yarn", "factor": 4, "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0 } """ },
    };

    [Theory]
    [MemberData(nameof(Configurations))]
    public void Directional_derivatives_are_those_of_finite_differences(string name, string fields)
    {
        ModelConfig config = ModelConfig.Parse($$"""
            { {{fields}}, "vocab_size": 40, "hidden_size": 24, "intermediate_size": 32, "moe_intermediate_size": 12, "num_hidden_layers": 2,
              "num_attention_heads": 2, "num_key_value_heads": 2, "n_routed_experts": 4, "routed_scaling_factor": 1.5, "kv_lora_rank": 8,
              "qk_rope_head_dim": 4, "v_head_dim": 8, "qk_nope_head_dim": 8, "num_experts_per_tok": 4, "first_k_dense_replace": 1,
              "max_position_embeddings": 64 }
            """);
        using var device = new CpuDevice(2);
        var parameters = new ParameterSet(device);
        var model = new DeepSeekModel(device, config, parameters);
        parameters.Initialize(11, 0.25f);
        foreach (Parameter norm in parameters.All.Where(p => p.Role == ParameterRole.NormWeight))
            new Philox(12, norm.Name).FillNormal(norm.Value.AsSpan<float>(), 1, 0.3f);
        parameters.AllocateGradients();
        var micro = new MicroBatch(model, Batch, Tokens, training: true);
        micro.Load([.. Enumerable.Range(0, Batch * (Tokens + 1)).Select(i => i * 7 % 40)]);
        var weights = new LossWeights(1, 0.3f, 0.05f);
        model.ForwardBackward(micro, weights);

        Parameter[] trained = [.. parameters.All.Where(p => !p.Gradient.IsEmpty)];
        float[][] gradients = [.. trained.Select(p => p.Gradient.AsSpan<float>().ToArray())];
        float[][] start = [.. trained.Select(p => p.Value.AsSpan<float>().ToArray())];
        double worst = 0;
        foreach (Parameter parameter in trained)
        {
            // One direction a parameter, so that an error in a small one is not hidden by the others.
            int index = Array.IndexOf(trained, parameter);
            var direction = new float[start[index].Length];
            new Philox(5, parameter.Name).FillNormal(direction, 0, 1);
            double analytic = direction.Zip(gradients[index], (d, g) => (double)d * g).Sum();
            const double Step = 3e-4;
            double numeric = (LossAt(Step) - LossAt(-Step)) / (2 * Step);
            start[index].CopyTo(parameter.Value.AsSpan<float>());
            double scale = Math.Sqrt(gradients[index].Sum(g => (double)g * g)) + 1e-3;
            double difference = Math.Abs(analytic - numeric) / scale;
            worst = Math.Max(worst, difference);
            Assert.True(difference < 6e-3, $"{name}, {parameter.Name}: {analytic:E4} against {numeric:E4} (norm {scale:E2})");

            double LossAt(double step)
            {
                Span<float> values = parameter.Value.AsSpan<float>();
                for (int i = 0; i < values.Length; i++) values[i] = (float)(start[index][i] + step * direction[i]);
                model.ForwardBackward(micro, weights);
                double loss = micro.Depths[0].MeanLoss() + 0.05f * micro.BalanceLoss();
                for (int k = 1; k < micro.Depths.Count; k++) loss += 0.3f / (micro.Depths.Count - 1) * micro.Depths[k].MeanLoss();
                return loss;
            }
        }

        output.WriteLine($"{name}: {trained.Length} parameters, largest difference {worst:E2} of the gradient's norm");
    }
}

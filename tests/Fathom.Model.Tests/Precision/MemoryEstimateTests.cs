// The estimate beside what a real micro-batch takes: the device's counters for state, the context's for what is kept, the arena's
// for scratch memory.
using System.Diagnostics;
using Fathom.Compute;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class MemoryEstimateTests(ITestOutputHelper output)
{
    private const string Processor = "cpu", Separate = "separate bf16", Fused = "separate fused";

    private static readonly ModelConfig Nano = ModelPresets.Get("nano");

    private static readonly Dictionary<string, ModelConfig> Models = new()
    {
        ["nano"] = Nano,
        ["quickstart"] = ModelPresets.Get("quickstart"),
        ["v2-lite-like"] = ModelPresets.Get("deepseek-v2-lite") with
        {
            VocabSize = 500,
            HiddenSize = 192,
            IntermediateSize = 400,
            MoeIntermediateSize = 88,
            NumHiddenLayers = 3,
            NumAttentionHeads = 3,
            NRoutedExperts = 10,
            NumExpertsPerTok = 3,
            KvLoraRank = 72,
            QkNopeHeadDim = 40,
            QkRopeHeadDim = 16,
            VHeadDim = 24,
            BosTokenId = 0,
            EosTokenIds = [1],
        },
        ["heads of DeepSeek-V3"] = Nano with { NumHiddenLayers = 2, NumAttentionHeads = 8, QkNopeHeadDim = 128, QkRopeHeadDim = 64, VHeadDim = 128 },
        ["two MTP depths"] = Nano with { NumNextnPredictLayers = 2 },
        ["three MTP depths before the norm"] = Nano with { NumNextnPredictLayers = 3, MtpHiddenBeforeNorm = true },
        ["no shared experts"] = Nano with { NSharedExperts = 0 },
        ["dense"] = Nano with { NRoutedExperts = 0, NumExpertsPerTok = 0, NGroup = 1, TopkGroup = 1, NSharedExperts = 0 },
        ["greedy without routing bias"] = Nano with { TopkMethod = TopKMethod.Greedy, ScoringFunc = ScoringFunction.Softmax, QLoraRank = 0 },
    };

    public static TheoryData<string, string, int, int> Shapes
    {
        get
        {
            var data = new TheoryData<string, string, int, int>();
            foreach (string model in Models.Keys)
            {
                foreach (Recipe recipe in Recipe.All) data.Add(model, recipe.Name, 2, 64);
            }

            foreach (Recipe recipe in Recipe.All)
            {
                data.Add("nano", recipe.Name, 3, 77);
                data.Add("nano", recipe.Name, 1, 5);
                data.Add("v2-lite-like", recipe.Name, 1, 131);
                data.Add("quickstart", recipe.Name, 4, 256); // scratch memory of several chunks
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Every_kind_is_what_a_micro_batch_takes(string model, string recipe, int batch, int tokens) =>
        Check(Models[model], Recipe.Named(recipe), batch, tokens);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Every_kind_where_results_lie_in_BF16(string model, string recipe, int batch, int tokens) =>
        Check(Models[model], Recipe.Named(recipe), batch, tokens, Separate);

    [Theory]
    [InlineData("nano", null, null)]
    [InlineData("nano", "recompute_norms", "false")]
    [InlineData("nano", "recompute_up_projections", "false")]
    [InlineData("nano", "saved_linear_input", "bf16")]
    [InlineData("nano", "activation", "e4m3 1x128 pow2")]
    [InlineData("v2-lite-like", "recompute_norms", "false")]
    [InlineData("dense", null, null)]
    [InlineData("no shared experts", null, null)]
    public void Every_kind_where_norms_quantise(string model, string? field, string? value) =>
        Check(Models[model], field is null ? Recipe.Fp8 : Recipe.Fp8.With(field, value!), 2, 64, Fused);

    /// <summary>What a GPU is asked: widths that its kernels take and such that they do not, and what sends it other ways.</summary>
    [Theory]
    [InlineData("nano", "fp32", null, null, 2, 64)]
    [InlineData("nano", "bf16", null, null, 2, 64)]
    [InlineData("nano", "fp8", null, null, 2, 64)]
    [InlineData("nano", "fp8", null, null, 1, 5)]
    [InlineData("nano", "hif8", null, null, 2, 64)]
    [InlineData("v2-lite-like", "fp8", null, null, 1, 131)]
    [InlineData("heads of DeepSeek-V3", "fp8", null, null, 1, 65)] // attention reads codes of its result, but not in the MTP module's sequence of 64
    [InlineData("heads of DeepSeek-V3", "fp8", "saved_attention_output", "e5m6 1x128", 1, 65)]
    [InlineData("nano", "fp8", "weight", "e4m3 128x128 pow2", 2, 64)]
    [InlineData("nano", "fp8", "activation_gradient", "e4m3 tensor", 2, 64)]
    [InlineData("nano", "fp8", "weight_gradient", "e5m2 128x1 pow2", 2, 64)]
    [InlineData("nano", "fp8", "recompute_swiglu", "false", 2, 64)]
    [InlineData("nano", "fp8", "recompute_norms", "false", 2, 64)]
    [InlineData("nano", "fp8", "compute", "f32", 2, 64)]
    public void Every_kind_on_a_GPU(string model, string recipe, string? field, string? value, int batch, int tokens)
    {
        Recipe changed = Recipe.Named(recipe);
        if (field is not null) changed = changed.With(field, value!);
        Check(Models[model], changed, batch, tokens, "cuda");
    }

    [Theory]
    [InlineData("fp32", "weight", "bf16")]
    [InlineData("fp32", "weight", "e4m3 128x128")]
    [InlineData("fp32", "recompute_norms", "true")]
    [InlineData("fp32", "recompute_up_projections", "true")]
    [InlineData("fp32", "recompute_swiglu", "true")]
    [InlineData("fp32", "saved_swiglu_input", "e4m3 1x128")]
    [InlineData("fp32", "optimizer_moments", "bf16")]
    [InlineData("bf16", "recompute_norms", "true")]
    [InlineData("bf16", "recompute_up_projections", "true")]
    [InlineData("bf16", "recompute_swiglu", "true")]
    [InlineData("bf16", "weight", "f32")]
    [InlineData("bf16", "activation", "e4m3 1x128")]
    [InlineData("bf16", "dispatch", "e4m3 1x128")]
    [InlineData("bf16", "dispatch_gradient", "e4m3 1x128 pow2")]
    [InlineData("bf16", "activation_gradient", "e4m3 128x128")]
    [InlineData("bf16", "weight_gradient", "e4m3 128x1")]
    [InlineData("bf16", "saved_linear_input", "e4m3 1x128")]
    [InlineData("bf16", "saved_attention_output", "f32")]
    [InlineData("bf16", "saved_swiglu_input", "f32")]
    [InlineData("fp8", "compute", "f32")]
    [InlineData("fp8", "activation", "bf16")]
    [InlineData("fp8", "activation", "e4m3 1x128 pow2")]
    [InlineData("fp8", "activation", "e4m3 tensor")]
    [InlineData("fp8", "activation", "hif8 1x128")]
    [InlineData("fp8", "weight", "e4m3 tensor")]
    [InlineData("fp8", "weight", "e4m3 128x128 pow2")]
    [InlineData("fp8", "weight", "bf16")]
    [InlineData("fp8", "activation_gradient", "e4m3 128x128")]
    [InlineData("fp8", "activation_gradient", "e4m3 tensor")]
    [InlineData("fp8", "activation_gradient", "e5m2 1x128")]
    [InlineData("fp8", "activation_gradient", "bf16")]
    [InlineData("fp8", "weight_gradient", "bf16")]
    [InlineData("fp8", "weight_gradient", "e5m2 128x1 pow2")]
    [InlineData("fp8", "dispatch", "bf16")]
    [InlineData("fp8", "dispatch", "hif8 1x128")]
    [InlineData("fp8", "dispatch_gradient", "bf16")]
    [InlineData("fp8", "dispatch_gradient", "e5m2 1x128")]
    [InlineData("fp8", "saved_linear_input", "bf16")]
    [InlineData("fp8", "saved_linear_input", "e5m2 1x128 pow2")]
    [InlineData("fp8", "saved_attention_output", "bf16")]
    [InlineData("fp8", "saved_attention_output", "f32")]
    [InlineData("fp8", "saved_attention_output", "e4m3 1x128")]
    [InlineData("fp8", "saved_attention_output", "e5m6 1x128")]
    [InlineData("fp8", "saved_swiglu_input", "bf16")]
    [InlineData("fp8", "saved_swiglu_input", "e4m3 1x128 pow2")]
    [InlineData("fp8", "recompute_norms", "false")]
    [InlineData("fp8", "recompute_up_projections", "false")]
    [InlineData("fp8", "recompute_swiglu", "false")]
    [InlineData("fp8", "optimizer_moments", "f32")]
    [InlineData("hif8", "recompute_norms", "false")]
    [InlineData("fp32", "activation", "e4m3 1x128")]
    public void One_field_changed(string recipe, string field, string value)
    {
        foreach (string model in (string[])["nano", "v2-lite-like"])
        {
            output.WriteLine(model);
            Check(Models[model], Recipe.Named(recipe).With(field, value), 2, 70);
            Check(Models[model], Recipe.Named(recipe).With(field, value), 2, 70, Separate);
        }
    }

    [Theory]
    [InlineData("nano", 8, 512)]
    [InlineData("quickstart", 4, 256)]
    [InlineData("small", 8, 512)]
    [InlineData("deepseek-v2-lite", 1, 4096)]
    [InlineData("deepseek-v2", 1, 4096)]
    [InlineData("deepseek-v3", 1, 4096)]
    public void Fp8_keeps_at_most_60_percent_of_what_bf16_keeps(string preset, int batch, int tokens)
    {
        long bf16 = MemoryEstimate.For(ModelPresets.Get(preset), Recipe.Bf16, batch, tokens, DType.F32).Saved;
        long fp8 = MemoryEstimate.For(ModelPresets.Get(preset), Recipe.Fp8, batch, tokens, DType.F32).Saved;
        output.WriteLine($"{preset}, {batch} x {tokens}: fp8 {fp8:N0} bytes, bf16 {bf16:N0}: {(double)fp8 / bf16:P2}");
        Assert.InRange((double)fp8 / bf16, 0.2, 0.6);
    }

    [Fact]
    public void DeepSeek_V3_is_estimated_without_memory_for_it()
    {
        ModelConfig config = ModelPresets.Get("deepseek-v3");
        long started = Stopwatch.GetTimestamp();
        MemoryEstimate fp8 = MemoryEstimate.For(config, Recipe.Fp8, 1, 4096, DType.BF16);
        output.WriteLine($"{Stopwatch.GetElapsedTime(started).TotalMilliseconds:F0} ms: {fp8.State:N0} bytes of state, {fp8.Saved:N0} saved, {fp8.Workspace:N0} workspace");
        var size = new ModelSize(config);
        long parameters = size.MainParameters + size.MtpParameters, biases = 256L * 59;
        Assert.Equal(4 * parameters, fp8.Weights);
        Assert.Equal(4 * (parameters - biases), fp8.Gradients);
        Assert.Equal(4 * (parameters - biases), fp8.Moments);

        // A byte an element and four for 128 x 128 of them; head and eh_proj in BF16. 576 and 1536 are no multiples of 128 and of 256.
        double quantised = TensorLayout.Enumerate(config).Where(t => t.Precision == TensorPrecision.Linear).Sum(t => (double)t.Shape[0] * t.Shape[1]);
        double plain = 2.0 * (129280L * 7168 + 2L * 7168 * 7168);
        Assert.InRange(fp8.WeightCopies / (quantised * (1 + 4.0 / (128 * 128)) + plain), 0.9999, 1.0001);
        Assert.InRange(fp8.Saved, 61L * 4096 * 7168 * 2, 61L * 4096 * 7168 * 2 * 20);
    }

    [Theory]
    [InlineData(0, 8, 16, "the batch is 0")]
    [InlineData(1, 1, 16, "sequences of 1 tokens are too short for 1 MTP modules")]
    [InlineData(1, 8, 15, "num_attention_heads x v_head_dim is odd, 15; choose another format")]
    public void What_cannot_be_trained_is_refused(int batch, int tokens, int valueDim, string message)
    {
        ModelConfig config = Nano with { NumAttentionHeads = 1, VHeadDim = valueDim };
        string error = Assert.Throws<FathomException>(() => MemoryEstimate.For(config, Recipe.Fp8, batch, tokens, DType.F32)).Message;
        output.WriteLine(error);
        Assert.Contains(message, error, StringComparison.Ordinal);
    }

    private void Check(ModelConfig config, Recipe recipe, int batch, int tokens, string on = Processor)
    {
        config.Validate("test");
        using Device device = TestDevices.Open(on);
        var parameters = new ParameterSet(device);
        var model = new DeepSeekModel(device, config, parameters);
        parameters.Initialize(3, 0.05f);
        parameters.AllocateGradients();
        parameters.AllocateOperands(recipe);
        parameters.RefreshOperands();
        var micro = new MicroBatch(model, batch, tokens, training: true, recipe);
        micro.Load([.. Enumerable.Range(0, batch * (tokens + 1)).Select(i => i * 37 % config.VocabSize)]);
        model.ForwardBackward(micro, new LossWeights(1, 0.3f, 1e-4f));

        MemoryEstimate estimate = MemoryEstimate.For(config, recipe, batch, tokens, recipe.OptimizerMoments, device.Traits);
        Compare("weights", device.AllocatedBytes(MemoryKind.Weights), estimate.Weights);
        Compare("copies", device.AllocatedBytes(MemoryKind.WeightCopies), estimate.WeightCopies);
        Compare("gradients", device.AllocatedBytes(MemoryKind.Gradients), estimate.Gradients);
        long moments = parameters.All.Where(p => !p.Gradient.IsEmpty).Sum(p => 2 * p.Value.Shape.Elements * recipe.OptimizerMoments.SizeInBytes());
        Compare("moments", moments, estimate.Moments);
        long saved = 0;
        foreach (DType type in Enum.GetValues<DType>())
        {
            saved += micro.Context.SavedBytes[(int)type];
            Compare($"saved {type}", micro.Context.SavedBytes[(int)type], estimate.SavedBytes[(int)type]);
        }

        Compare("saved", saved, estimate.Saved);
        Compare("workspace", micro.Context.Scratch.PeakBytes, estimate.Workspace);

        void Compare(string kind, long measured, long predicted)
        {
            if (measured == 0 && predicted == 0) return;
            double difference = (double)predicted / measured - 1;
            output.WriteLine($"{kind}: measured {measured:N0}, predicted {predicted:N0}, {difference:P3}");
            Assert.True(Math.Abs(difference) <= (on == Processor ? 0.02 : 0), $"{recipe.Name}, {kind}: measured {measured:N0}, predicted {predicted:N0}, {difference:P2}");
        }
    }
}

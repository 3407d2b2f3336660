// Recipes end to end on a small model: names and fields, what is kept in which format, and that a quantised model's gradients are
// those of the F32 model up to the noise of its formats.
using System.Text.Json;
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class RecipeTests(ITestOutputHelper output)
{
    [Fact]
    public void Recipes_survive_json_as_names_or_as_what_differs()
    {
        foreach (Recipe recipe in Recipe.All)
        {
            Assert.Equal($"\"{recipe.Name}\"", Json(recipe));
            Assert.Equal(recipe, Parse(Json(recipe)));
            recipe.Validate();
        }

        Recipe changed = Recipe.Fp8.With("activation_gradient", "e4m3 128x128").With("recompute_norms", "false").With("optimizer_moments", "f32");
        Assert.Equal("""{"base":"fp8","activation_gradient":"e4m3 128x128","recompute_norms":"false","optimizer_moments":"f32"}""", Json(changed));
        Assert.Equal(changed, Parse(Json(changed)));
        Assert.Equal(new OperandFormat(DType.E5M6Pair, ScaleLayout.RowTile, PowerOfTwo: true), OperandFormat.Parse("e5m6  1x128 pow2"));
        Assert.Equal(Recipe.Fp8 with { RecomputeNorms = false }, Parse("""{"base": "fp8", "recompute_norms": false}"""));
    }

    [Theory]
    [InlineData("\"fp9\"", "unknown recipe 'fp9'; there are fp32, bf16, fp8, hif8")]
    [InlineData("""{"base": "fp8", "wieght": "bf16"}""", "recipe: unknown field 'wieght'; the fields are compute, activation,")]
    [InlineData("""{"base": "fp8", "weight": "e4m3"}""", "recipe: weight: 'e4m3' is no operand format; expected f32 or bf16 alone, or e4m3, e5m2, hif8, e5m6 with tensor, 1x128,")]
    [InlineData("""{"base": "fp8", "weight": "e4m3 1x128"}""", "recipe: weight cannot be 'e4m3 1x128'")]
    [InlineData("""{"base": "fp8", "activation": "e5m6 1x128"}""", "only saved_attention_output can be e5m6")]
    [InlineData("""{"base": "fp32", "activation": "bf16"}""", "recipe: activation is bf16, which needs compute to be bf16")]
    [InlineData("""{"base": "fp8", "recompute_swiglu": "maybe"}""", "recipe: recompute_swiglu is 'maybe', expected true or false")]
    [InlineData("17", "recipe: expected a name, or an object with \"base\" and fields")]
    public void A_wrong_recipe_is_one_clear_line(string json, string message)
    {
        var error = Assert.Throws<FathomException>(() => Parse(json));
        output.WriteLine(error.Message);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    // A gradient's noise grows as the formats' last bits: 2^-8 for BF16, 2^-4 for E4M3 and HiF8. Its projection on the exact one has none of it.
    [InlineData("bf16", 0.03, 0.01)]
    [InlineData("fp8", 0.35, 0.08)]
    [InlineData("hif8", 0.35, 0.08)]
    public void Gradients_follow_those_of_f32(string name, double noise, double bias)
    {
        using var device = new CpuDevice(2);
        // Every token visits every expert: a choice that rounding turns over would hide everything else.
        ModelConfig config = Config with { NRoutedExperts = 4, NumExpertsPerTok = 4, NGroup = 1, TopkGroup = 1 };
        (ParameterSet exact, double exactLoss) = Gradients(device, Recipe.Fp32, config);
        (ParameterSet other, double loss) = Gradients(device, Recipe.Named(name), config);
        output.WriteLine($"loss {loss:F6} for {exactLoss:F6}");
        Assert.InRange(Math.Abs(loss - exactLoss) / exactLoss, 0, 0.01);
        double worst = 0, product = 0, sizes = 0;
        foreach ((Parameter e, Parameter o) in exact.All.Zip(other.All))
        {
            if (e.Gradient.IsEmpty) continue;
            double difference = 0, size = 0;
            ReadOnlySpan<float> a = e.Gradient.AsSpan<float>(), b = o.Gradient.AsSpan<float>();
            for (int i = 0; i < a.Length; i++)
            {
                (difference, size) = (difference + Math.Pow(a[i] - b[i], 2), size + (double)a[i] * a[i]);
                product += (double)a[i] * b[i];
            }

            double relative = Math.Sqrt(difference / size);
            output.WriteLine($"{e.Name}: {relative:E2}");
            worst = Math.Max(worst, relative);
            sizes += size;
        }

        output.WriteLine($"noise of the worst parameter {worst:F4}, projection of the whole gradient {product / sizes:F4}");
        Assert.InRange(worst, 0, noise);
        Assert.InRange(product / sizes, 1 - bias, 1 + bias);
    }

    [Fact]
    public void Recomputation_changes_nothing_but_memory()
    {
        using var device = new CpuDevice(2);
        Recipe keeping = Recipe.Bf16, again = Recipe.Bf16 with { RecomputeNorms = true, RecomputeUpProjections = true, RecomputeSwiGlu = true };
        (ParameterSet kept, double keptLoss) = Gradients(device, keeping);
        (ParameterSet computed, double computedLoss) = Gradients(device, again);
        Assert.Equal(keptLoss, computedLoss);
        foreach ((Parameter a, Parameter b) in kept.All.Zip(computed.All))
        {
            if (!a.Gradient.IsEmpty) Assert.True(a.Gradient.AsSpan<float>().SequenceEqual(b.Gradient.AsSpan<float>()), a.Name);
        }
    }

    [Theory]
    [InlineData("fp8")]
    [InlineData("bf16")]
    public void Inputs_kept_in_f32_give_the_bits_of_those_kept_in_bf16(string name)
    {
        using var device = new CpuDevice(2);
        (ParameterSet narrow, double narrowLoss) = Gradients(device, Recipe.Named(name) with { SavedLinearInput = OperandFormat.BF16 });
        (ParameterSet wide, double wideLoss) = Gradients(device, Recipe.Named(name) with { SavedLinearInput = OperandFormat.F32 });
        Assert.Equal(narrowLoss, wideLoss);
        foreach ((Parameter a, Parameter b) in narrow.All.Zip(wide.All))
        {
            if (!a.Gradient.IsEmpty) Assert.True(a.Gradient.AsSpan<float>().SequenceEqual(b.Gradient.AsSpan<float>()), a.Name);
        }
    }

    [Fact]
    public void The_same_bits_with_any_number_of_threads()
    {
        using CpuDevice one = new(1), three = new(3);
        (ParameterSet a, double lossOfOne) = Gradients(one, Recipe.Fp8);
        (ParameterSet b, double lossOfThree) = Gradients(three, Recipe.Fp8);
        Assert.Equal(lossOfOne, lossOfThree);
        foreach ((Parameter x, Parameter y) in a.All.Zip(b.All))
        {
            if (!x.Gradient.IsEmpty) Assert.True(x.Gradient.AsSpan<float>().SequenceEqual(y.Gradient.AsSpan<float>()), x.Name);
        }
    }

    [Fact]
    public void A_value_that_is_not_finite_is_named_by_tensor_and_tile()
    {
        using var device = new CpuDevice(2);
        var parameters = new ParameterSet(device);
        var model = new DeepSeekModel(device, Config, parameters);
        parameters.Initialize(3, 0.05f);
        parameters.AllocateGradients();
        parameters.AllocateOperands(Recipe.Fp8);
        Parameter norm = parameters.All.First(p => p.Name == "model.layers.1.post_attention_layernorm.weight");
        norm.Value.AsSpan<float>()[70] = float.PositiveInfinity;
        parameters.RefreshOperands();
        var micro = new MicroBatch(model, 2, 24, training: true, Recipe.Fp8);
        micro.Load(Tokens());
        model.ForwardBackward(micro, new LossWeights(1, 0.3f, 1e-4f));
        string where = model.FirstNonFinite(micro)!;
        output.WriteLine(where);
        Assert.Equal("tile 0 of the output of model.layers.1.post_attention_layernorm.weight", where);

        Parameter weight = parameters.All.First(p => p.Name == "model.layers.0.mlp.up_proj.weight");
        weight.Value.AsSpan<float>()[0] = float.NaN;
        parameters.MarkChanged();
        var error = Assert.Throws<FathomException>(parameters.RefreshOperands);
        Assert.Equal("tile 0 of model.layers.0.mlp.up_proj.weight has weights that are not finite", error.Message);
    }

    private static readonly ModelConfig Config = ModelPresets.Get("small") with
    {
        VocabSize = 320,
        HiddenSize = 160,
        IntermediateSize = 288,
        MoeIntermediateSize = 96,
        NumHiddenLayers = 3,
        NumAttentionHeads = 2,
        QLoraRank = 64,
        KvLoraRank = 48,
    };

    private static (ParameterSet Parameters, double Loss) Gradients(Device device, Recipe recipe, ModelConfig? config = null)
    {
        var parameters = new ParameterSet(device);
        var model = new DeepSeekModel(device, config ?? Config, parameters);
        parameters.Initialize(3, 0.05f);
        parameters.AllocateGradients();
        parameters.AllocateOperands(recipe);
        parameters.RefreshOperands();
        var micro = new MicroBatch(model, 2, 24, training: true, recipe);
        micro.Load(Tokens());
        model.ForwardBackward(micro, new LossWeights(1, 0.3f, 1e-4f));
        return (parameters, micro.Depths[0].MeanLoss());
    }

    private static int[] Tokens() => [.. Enumerable.Range(0, 2 * 25).Select(i => i * 37 % 320)];

    private static string Json(Recipe recipe)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream)) recipe.Write(writer);
        return System.Text.Encoding.UTF8.GetString(stream.ToArray());
    }

    private static Recipe Parse(string json) => Recipe.Read(JsonDocument.Parse(json).RootElement);
}

// Gradients of a step's first micro-batch are stored over what the step before left, experts without a token included.
using Fathom.Compute;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class SingleLayerTests(ITestOutputHelper output)
{
    private static readonly ModelConfig Config = ModelPresets.Get("small") with
    {
        HiddenSize = 64,
        IntermediateSize = 96,
        MoeIntermediateSize = 48,
        NumAttentionHeads = 2,
        KvLoraRank = 32,
        QLoraRank = 40,
        QkRopeHeadDim = 16,
        QkNopeHeadDim = 32,
        VHeadDim = 32,
    };

    [Theory]
    [InlineData("fp32", 0)]
    [InlineData("bf16", 1)]
    [InlineData("fp8", 0)]
    [InlineData("fp8", 1)]
    public void What_gradients_held_before_does_not_matter(string recipe, int layer)
    {
        // Two tokens of four experts each: at least eight of sixteen experts have none.
        var single = new SingleLayer(TestDevices.Open("cpu"), Config, layer, Recipe.Named(recipe));
        LayerPass pass = single.Pass(single.Device, 1, 2);
        float[][] first = Gradients(0), second = Gradients(float.NaN);
        int zeros = 0;
        for (int i = 0; i < first.Length; i++)
        {
            Assert.True(first[i].AsSpan().SequenceEqual(second[i]), single.Parameters[i].Name);
            if (single.Parameters[i].Experts is { } experts) zeros += Enumerable.Range(0, experts.Count).Count(e => first[i].AsSpan(e * (first[i].Length / experts.Count), first[i].Length / experts.Count).IndexOfAnyExcept(0f) < 0);
        }

        output.WriteLine($"{recipe}, layer {layer}: {first.Length} gradients the same, {zeros} matrices of experts all zero");
        Assert.Contains(first, g => g.AsSpan().IndexOfAnyExcept(0f) >= 0);
        Assert.True(layer == 0 || zeros >= 3 * 8);

        float[][] Gradients(float before)
        {
            foreach (Parameter parameter in single.Parameters.Where(p => !p.Gradient.IsEmpty)) parameter.Gradient.AsSpan<float>().Fill(before);
            pass.Forward();
            pass.Backward();
            return [.. single.Parameters.Select(p => p.Gradient.IsEmpty ? [] : p.Gradient.AsSpan<float>().ToArray())];
        }
    }

    [Fact]
    public void A_parameter_without_a_gradient_has_zeros()
    {
        var set = new ParameterSet(TestDevices.Open("cpu"));
        Parameter parameter = set.Get("w", new Shape(3, 5), ParameterRole.Linear);
        set.AllocateGradients();
        parameter.Gradient.AsSpan<float>().Fill(float.NaN);
        Assert.False(parameter.HasGradient);
        parameter.CompleteGradient(set.Device);
        Assert.True(parameter.HasGradient);
        Assert.Equal(-1, parameter.Gradient.AsSpan<float>().IndexOfAnyExcept(0f));
        parameter.Gradient.AsSpan<float>().Fill(2);
        parameter.CompleteGradient(set.Device);
        Assert.Equal(-1, parameter.Gradient.AsSpan<float>().IndexOfAnyExcept(2f));
        parameter.ForgetGradient();
        Assert.False(parameter.HasGradient);
    }
}

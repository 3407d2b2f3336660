// Samples must follow the distribution that the options describe.
using Fathom.Numerics;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class SamplerTests(ITestOutputHelper output)
{
    private static readonly float[] Logits = [2.0f, 0.5f, -1.0f, 1.5f, 0.5f, -3.0f, 0.0f, 1.0f];

    public static TheoryData<float, float, int, float> Options() => new()
    {
        { 1, 1, 0, 0 }, { 0.5f, 1, 0, 0 }, { 2, 1, 0, 0 }, { 1, 0.8f, 0, 0 }, { 1, 1, 3, 0 }, { 1, 1, 0, 0.3f }, { 0.7f, 0.9f, 5, 0.1f },
    };

    [Theory]
    [MemberData(nameof(Options))]
    public void Frequencies_follow_the_filtered_distribution(float temperature, float topP, int topK, float minP)
    {
        var options = new SamplingOptions { Temperature = temperature, TopP = topP, TopK = topK, MinP = minP, Seed = 11 };
        double[] expected = Distribution(options);
        var sampler = new Sampler(Logits.Length);
        const int Draws = 40_000;
        var counts = new int[Logits.Length];
        for (int i = 0; i < Draws; i++) counts[sampler.Next(Logits, options, i)]++;
        double worst = 0;
        for (int v = 0; v < counts.Length; v++)
        {
            double sigma = Math.Sqrt(expected[v] * (1 - expected[v]) / Draws);
            double off = Math.Abs((double)counts[v] / Draws - expected[v]);
            if (expected[v] == 0) Assert.Equal(0, counts[v]);
            else worst = Math.Max(worst, off / Math.Max(sigma, 1e-9));
        }

        output.WriteLine($"largest deviation {worst:F2} sigma");
        Assert.True(worst < 4.5, $"{worst} sigma");
    }

    [Fact]
    public void Temperature_zero_takes_the_first_of_the_largest()
    {
        var sampler = new Sampler(4);
        Assert.Equal(1, sampler.Next([0, 3, 3, 1], new SamplingOptions { Temperature = 0 }, 0));
    }

    [Fact]
    public void The_same_seed_gives_the_same_tokens_and_another_seed_others()
    {
        Assert.Equal(Draw(1), Draw(1));
        Assert.NotEqual(Draw(1), Draw(2));

        static int[] Draw(ulong seed)
        {
            var sampler = new Sampler(Logits.Length);
            return [.. Enumerable.Range(0, 200).Select(i => sampler.Next(Logits, new SamplingOptions { Seed = seed }, i))];
        }
    }

    [Theory]
    [InlineData(-1, 1, 0, 0, "temperature")]
    [InlineData(1, 0, 0, 0, "top-p")]
    [InlineData(1, 1.5, 0, 0, "top-p")]
    [InlineData(1, 1, -2, 0, "top-k")]
    [InlineData(1, 1, 0, 2, "min-p")]
    public void Wrong_options_are_named(float temperature, float topP, int topK, float minP, string name)
    {
        var options = new SamplingOptions { Temperature = temperature, TopP = topP, TopK = topK, MinP = minP };
        Assert.Contains(name, Assert.Throws<FathomException>(options.Validate).Message, StringComparison.Ordinal);
    }

    /// <summary>The definition, with sorting and no shortcuts.</summary>
    private static double[] Distribution(SamplingOptions options)
    {
        double[] p = [.. Logits.Select(l => Math.Exp(l / options.Temperature))];
        double sum = p.Sum();
        for (int i = 0; i < p.Length; i++) p[i] /= sum;
        List<int> order = [.. Enumerable.Range(0, p.Length).OrderByDescending(i => p[i]).ThenBy(i => i)];
        double top = p[order[0]];
        if (options.TopK > 0) order = [.. order.Take(options.TopK)];
        double kept = order.Sum(i => p[i]), reached = 0;
        List<int> nucleus = [];
        foreach (int i in order)
        {
            if (options.TopP < 1 && reached >= options.TopP * kept) break;
            nucleus.Add(i);
            reached += p[i];
        }

        nucleus.RemoveAll(i => p[i] < options.MinP * top);
        double total = nucleus.Sum(i => p[i]);
        return [.. p.Select((value, i) => nucleus.Contains(i) ? value / total : 0)];
    }
}

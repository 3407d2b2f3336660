// Samples must follow the distribution that the options describe, on every device the same; and what requests change must be what the
// definitions say, in the order of the definitions.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Fathom.Testing;
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
        const int Draws = 40_000;
        var counts = new int[Logits.Length];
        foreach (int token in Draw(options, Draws)) counts[token]++;
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
        using var device = new CpuDevice(1);
        Assert.Equal([1], Choose(device, [[0, 3, 3, 1]], (chooser, row) => chooser.Add(row, new SamplingOptions { Temperature = 0 }, 0)));
    }

    [Fact]
    public void The_same_seed_gives_the_same_tokens_and_another_seed_others()
    {
        Assert.Equal(Draw(new SamplingOptions { Seed = 1 }, 200), Draw(new SamplingOptions { Seed = 1 }, 200));
        Assert.NotEqual(Draw(new SamplingOptions { Seed = 1 }, 200), Draw(new SamplingOptions { Seed = 2 }, 200));
    }

    [Fact]
    public void Where_nothing_can_be_chosen_the_token_is_none()
    {
        using var device = new CpuDevice(1);
        float[][] rows = [[float.NaN, float.NaN], [float.NegativeInfinity, float.NaN], [0, float.PositiveInfinity], [float.NaN, -3e38f]];
        foreach (float temperature in (float[])[0, 1])
            Assert.Equal([-1, -1, -1, 1], Choose(device, rows, (chooser, row) => chooser.Add(row, new SamplingOptions { Temperature = temperature }, 0)));
    }

    // Rows with changes and masks, rows without, rows twice, rows left out: each as if it were alone, and on every device the same.
    [Theory]
    [InlineData("cpu")]
    [InlineData("separate")]
    [InlineData("cuda")]
    public void Rows_are_chosen_together_as_they_are_alone(string name)
    {
        const int Rows = 40, Vocabulary = 1000;
        var random = new Random(5);
        float[][] logits = [.. Enumerable.Range(0, Rows).Select(_ => Enumerable.Range(0, Vocabulary).Select(_ => 3 * random.NextSingle()).ToArray())];
        SamplingOptions[] options = [.. Enumerable.Range(0, Rows).Select(i => new SamplingOptions { Seed = (ulong)i, Temperature = i % 3 == 0 ? 0 : 0.5f * (i % 3), TopK = i % 5 == 0 ? 20 : 0, TopP = i % 4 == 0 ? 0.9f : 1, MinP = i % 7 == 0 ? 0.3f : 0 })];
        LogitChange[][] changes = [.. Enumerable.Range(0, Rows).Select(i => i % 3 == 1 ? [new LogitChange(7 * i, 4, 1, 0), new LogitChange(7 * i + 1, 0, 1.5f, 0.5f), new LogitChange(3, float.NegativeInfinity, 1, 0)] : Array.Empty<LogitChange>())];
        ulong[][] masks = [.. Enumerable.Range(0, Rows).Select(i => i % 4 == 1 ? Enumerable.Range(0, 16).Select(_ => (ulong)random.NextInt64() << 1).ToArray() : [])];
        using Device device = TestDevices.Open(name);
        int[] order = [.. Enumerable.Range(0, Rows).Where(i => i % 6 != 5)];
        random.Shuffle(order);
        int[] together = Choose(device, logits, (chooser, _) => { }, chooser =>
        {
            foreach (int row in order) chooser.Add(row, options[row], row, changes[row], masks[row]);
        });
        using var cpu = new CpuDevice(1);
        int[] alone = [.. order.Select(row => Choose(cpu, [logits[row]], (chooser, _) => chooser.Add(0, options[row], row, changes[row], masks[row]))[0])];
        output.WriteLine($"{name}: {order.Length} rows, {together.Distinct().Count()} different tokens");
        Assert.Equal(alone, together);
        for (int i = 0; i < order.Length; i++)
        {
            ulong[] mask = masks[order[i]];
            if (mask.Length > 0) Assert.True((mask[together[i] / 64] >> together[i] & 1) != 0);
            if (changes[order[i]].Length > 0) Assert.NotEqual(3, together[i]);
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

    private static int[] Draw(SamplingOptions options, int count)
    {
        using var device = new CpuDevice(2);
        return Choose(device, [Logits], (_, _) => { }, chooser =>
        {
            for (int i = 0; i < count; i++) chooser.Add(0, options, i);
        });
    }

    private static int[] Choose(Device device, float[][] logits, Action<TokenChooser, int> each, Action<TokenChooser>? all = null)
    {
        Tensor tensor = device.Allocate(new Shape(logits.Length, logits[0].Length), DType.F32, MemoryKind.Workspace);
        device.Write(tensor, logits.SelectMany(row => row).ToArray());
        var chooser = new TokenChooser(device);
        for (int row = 0; row < logits.Length; row++) each(chooser, row);
        all?.Invoke(chooser);
        int[] tokens = chooser.Choose(tensor).ToArray();
        GC.KeepAlive(tensor.Owner);
        return tokens;
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

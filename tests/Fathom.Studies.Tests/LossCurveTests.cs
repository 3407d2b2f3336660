using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Studies.Tests;

public sealed class LossCurveTests
{
    [Fact]
    public void Smoothing_is_the_mean_of_all_steps_so_far_with_weights_that_fall_by_the_coefficient()
    {
        var curve = new LossCurve([8, 4, 6], []);
        Assert.Equal([8, (8 * 0.5 + 4) / 1.5, (8 * 0.25 + 4 * 0.5 + 6) / 1.75], curve.Smoothed(0.5), new Near());
        Assert.Equal([8, 4, 6], curve.Smoothed(0), new Near());
    }

    [Fact]
    public void Differences_are_relative_to_the_baseline()
    {
        LossCurve baseline = new([4, 4, 2, 2], [(2, 3.0), (4, 2.0)]), curve = new([4, 4, 2.004, 1.99], [(2, 3.3), (4, 2.002)]);
        CurveDifference difference = CurveDifference.Between(curve, baseline, 0);
        Assert.Equal([0, 0, 0.002, -0.005], difference.BySteps, new Near());
        Assert.Equal(-0.005, difference.Final, 1e-12);
        Assert.Equal(0.005, difference.LargestOfLastHalf, 1e-12);
        Assert.Equal(-0.0015, difference.MeanOfLastHalf, 1e-12);
        Assert.Equal(0.001, difference.Validation!.Value, 1e-12);
        Assert.False(difference.Holds);
        Assert.True(CurveDifference.Between(curve, baseline, 0.9).Holds);
    }

    [Fact]
    public void Half_a_line_at_the_end_is_left_out_and_anything_else_that_is_broken_is_named()
    {
        using var folder = new TemporaryFolder();
        string file = folder.File("metrics.jsonl");
        File.WriteAllText(file, """
            {"step":1,"loss":5.5}
            {"step":2,"loss":5}
            {"step":2,"expert_layers":[1],"expert_load":[[3,5]]}
            {"step":2,"val_loss":5.25}
            {"step":3,"lo
            """);
        LossCurve curve = LossCurve.Read(file);
        Assert.Equal([5.5, 5], curve.Steps);
        Assert.Equal([(2L, 5.25)], curve.Validations);

        File.WriteAllText(file, "{\"step\":1,\"loss\":5.5}\n{\"step\":3,\"loss\":5}\n");
        Assert.Contains("line 2: step 3 follows 2 steps", Assert.Throws<FathomException>(() => LossCurve.Read(file)).Message, StringComparison.Ordinal);
        File.WriteAllText(file, "{\"step\":1}\n");
        Assert.Contains("line 1", Assert.Throws<FathomException>(() => LossCurve.Read(file)).Message, StringComparison.Ordinal);
    }

    private sealed class Near : IEqualityComparer<double>
    {
        public bool Equals(double x, double y) => Math.Abs(x - y) < 1e-12;

        public int GetHashCode(double value) => 0;
    }
}

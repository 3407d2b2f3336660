// By how much one run's losses lie above another's, as a share ([P] §3.3: the relative loss error of FP8 stays below 0.25 %).

namespace Fathom.Studies;

/// <summary>A run's losses against a baseline's.</summary>
public sealed record CurveDifference
{
    /// <summary>What the report calls consistently below 0.25 %.</summary>
    public const double PaperBound = 0.0025;

    /// <summary>(loss - baseline) / baseline of the smoothed losses, by step, as far as both go.</summary>
    public required IReadOnlyList<double> BySteps { get; init; }

    /// <summary>The difference after the last step.</summary>
    public required double Final { get; init; }

    /// <summary>The largest in size over the last half of the steps.</summary>
    public required double LargestOfLastHalf { get; init; }

    /// <summary>The mean of the unsmoothed differences over the last half: the least noisy number.</summary>
    public required double MeanOfLastHalf { get; init; }

    /// <summary>The difference of the last loss on held-out text that both have; null where there is none.</summary>
    public required double? Validation { get; init; }

    /// <summary>Whether the smoothed difference stays within the bound, in size, over the last half of the steps.</summary>
    public bool Holds => LargestOfLastHalf <= PaperBound;

    /// <summary>Compares two runs.</summary>
    /// <param name="curve">A run of at least one step.</param>
    /// <param name="baseline">What it is compared with.</param>
    /// <param name="smoothing">Coefficient of the exponential average.</param>
    public static CurveDifference Between(LossCurve curve, LossCurve baseline, double smoothing)
    {
        int steps = Math.Min(curve.Steps.Count, baseline.Steps.Count);
        if (steps == 0) throw new ArgumentException("curves without steps cannot be compared");
        double[] a = curve.Smoothed(smoothing), b = baseline.Smoothed(smoothing);
        double[] differences = [.. Enumerable.Range(0, steps).Select(i => Relative(a[i], b[i]))];
        Range last = (steps / 2)..steps;
        double? validation = null;
        foreach ((long step, double loss) in curve.Validations)
        {
            foreach ((long other, double reference) in baseline.Validations)
            {
                if (other == step) validation = Relative(loss, reference);
            }
        }

        return new CurveDifference
        {
            BySteps = differences,
            Final = differences[^1],
            LargestOfLastHalf = differences[last].Max(Math.Abs),
            MeanOfLastHalf = Enumerable.Range(0, steps).Take(last).Average(i => Relative(curve.Steps[i], baseline.Steps[i])),
            Validation = validation,
        };
    }

    private static double Relative(double value, double reference) => (value - reference) / reference;
}

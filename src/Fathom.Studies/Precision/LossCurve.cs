// The losses of a run, read back from its metrics. What two runs are compared by is the smoothed loss: single steps differ by the
// luck of rounding. Smoothing is the exponential average of the report's figure 10, corrected for its start.
using System.Text.Json;
using Fathom.Numerics;

namespace Fathom.Studies;

/// <summary>Losses by step.</summary>
/// <param name="Steps">Loss of step i + 1, in nats a token.</param>
/// <param name="Validations">Loss on held-out text, by step, in the order of the run.</param>
public sealed record LossCurve(IReadOnlyList<double> Steps, IReadOnlyList<(long Step, double Loss)> Validations)
{
    /// <summary>Reads metrics.jsonl. A last line without its end is left out: a killed run leaves one.</summary>
    /// <exception cref="FathomException">It is missing, or a line of it is broken.</exception>
    public static LossCurve Read(string metricsFile)
    {
        var steps = new List<double>();
        var validations = new List<(long, double)>();
        int number = 0;
        try
        {
            foreach (string line in File.ReadAllText(metricsFile).Split('\n')[..^1])
            {
                number++;
                using JsonDocument json = JsonDocument.Parse(line);
                long step = json.RootElement.GetProperty("step").GetInt64();
                if (json.RootElement.TryGetProperty("expert_load", out _) || json.RootElement.TryGetProperty("end", out _)) continue;
                if (json.RootElement.TryGetProperty("val_loss", out JsonElement validation)) validations.Add((step, validation.GetDouble()));
                else steps.Add(json.RootElement.GetProperty("loss").GetDouble());
                if (step != steps.Count) throw new FormatException($"step {step} follows {steps.Count} steps");
            }
        }
        catch (Exception e) when (e is IOException or JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new FathomException($"reading the losses of a run: {metricsFile}, line {number}: {e.Message}; delete the run's folder to train it again", e);
        }

        return new LossCurve(steps, validations);
    }

    /// <summary>Exponential average of the losses: the mean of all steps so far with weights that fall by a factor a step.</summary>
    /// <param name="coefficient">The factor, 0 (no smoothing) to below 1.</param>
    public double[] Smoothed(double coefficient)
    {
        var smoothed = new double[Steps.Count];
        double sum = 0, weight = 0;
        for (int i = 0; i < smoothed.Length; i++)
        {
            sum = coefficient * sum + (1 - coefficient) * Steps[i];
            weight = coefficient * weight + (1 - coefficient);
            smoothed[i] = sum / weight;
        }

        return smoothed;
    }
}

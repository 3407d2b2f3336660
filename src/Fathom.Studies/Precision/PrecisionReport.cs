// What a study of recipes says: a text table, study.json and study.html.
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Model;
using Fathom.Studies.Reports;

namespace Fathom.Studies;

/// <summary>Runs compared with the first of them.</summary>
public sealed class PrecisionReport
{
    private const int PlottedPoints = 400;
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };
    private readonly IReadOnlyList<(VariantResult Result, CurveDifference? Difference)> rows;
    private readonly VariantResult baseline;
    private readonly double smoothing;

    /// <summary>Compares the results.</summary>
    /// <param name="results">The baseline first, then at least one other.</param>
    /// <param name="smoothing">Coefficient of the exponential average.</param>
    public PrecisionReport(IReadOnlyList<VariantResult> results, double smoothing)
    {
        (baseline, this.smoothing) = (results[0], smoothing);
        rows = [.. results.Skip(1).Select(r => (r, r.Diverged is null ? CurveDifference.Between(r.Curve, baseline.Curve, smoothing) : null))];
    }

    /// <summary>Whether the first variant stays within the bound; false where it diverged.</summary>
    public bool Holds => rows[0].Difference is { Holds: true };

    /// <summary>The answer in a sentence.</summary>
    public string Conclusion => rows[0].Difference is { } d
        ? $"The relative difference of {rows[0].Result.Variant.Name} from {baseline.Variant.Name} {(d.Holds ? "stays within" : "exceeds")} the paper's 0.25 % over the last half of {baseline.Curve.Steps.Count} steps: "
            + $"at most {Share(d.LargestOfLastHalf, signed: false)}, {Share(d.Final)} after the last step, {Share(d.Validation)} on held-out text."
        : $"{rows[0].Result.Variant.Name} diverged: {rows[0].Result.Diverged}.";

    private string Smoothing => string.Create(CultureInfo.InvariantCulture, $"exponential average of the losses with coefficient {smoothing} (an effective {1 / (1 - smoothing):0.#} steps), corrected for its start");

    /// <summary>The table as text.</summary>
    public IEnumerable<string> Lines()
    {
        int width = Math.Max(12, rows.Max(r => r.Result.Variant.Name.Length) + 2);
        yield return $"{"".PadRight(width)}{"final loss",12}{"held-out",12}{"difference",14}{"last half, max",16}{"mean",12}{"held-out",12}  within 0.25 %";
        yield return $"{baseline.Variant.Name.PadRight(width)}{Loss(baseline),12}{HeldOut(baseline),12}";
        foreach ((VariantResult result, CurveDifference? d) in rows)
        {
            yield return d is null
                ? $"{result.Variant.Name.PadRight(width)}diverged: {result.Diverged}"
                : $"{result.Variant.Name.PadRight(width)}{Loss(result),12}{HeldOut(result),12}{Share(d.Final),14}{Share(d.LargestOfLastHalf, signed: false),16}{Share(d.MeanOfLastHalf),12}{Share(d.Validation),12}  {(d.Holds ? "yes" : "no")}";
        }

        yield return "";
        yield return $"Differences are relative to {baseline.Variant.Name}; smoothing: {Smoothing}. The mean is of unsmoothed steps.";
        yield return Conclusion;
    }

    /// <summary>Writes study.json and study.html.</summary>
    /// <param name="folder">The study's folder.</param>
    /// <param name="command">The command that was run.</param>
    /// <returns>The page.</returns>
    public string Write(string folder, string command)
    {
        Directory.CreateDirectory(folder);
        AtomicFile.WriteAllText(Path.Combine(folder, "study.json"), ToJson(command).ToJsonString(Indented) + "\n");
        string page = Path.Combine(folder, "study.html");
        AtomicFile.WriteAllText(page, ToHtml(command));
        return page;
    }

    /// <summary>The numbers, curves included, as JSON.</summary>
    public JsonObject ToJson(string command) => new()
    {
        ["command"] = command,
        ["bound"] = CurveDifference.PaperBound,
        ["holds"] = Holds,
        ["conclusion"] = Conclusion,
        ["smoothing"] = smoothing,
        ["variants"] = new JsonArray([Json(baseline, null), .. rows.Select(r => Json(r.Result, r.Difference))]),
    };

    /// <summary>The page.</summary>
    public string ToHtml(string command)
    {
        IReadOnlyList<VariantResult> all = [baseline, .. rows.Select(r => r.Result)];
        VariantResult[] others = [.. all.Skip(1)];
        var page = new ReportPage($"{string.Join(", ", others.Select(r => r.Variant.Name))} against {baseline.Variant.Name}");
        page.Verdict(Conclusion, Holds);
        page.Paragraph($"The runs have the same seed, text, model and schedule and differ in their recipe alone. Differences are relative to {baseline.Variant.Name}, after smoothing: {Smoothing}. "
            + "The bound of 0.25 % is that of DeepSeek-V3's report (section 3.3).");
        page.Command(command);
        page.Plot(new LinePlot
        {
            Title = "Training loss",
            Description = string.Join(" ", all.Select(r => $"{r.Variant.Name} falls from {Number(r.Curve.Steps[0])} to {Loss(r)}.")),
            X = new PlotAxis("step"),
            Y = new PlotAxis("smoothed loss, nats a token"),
            Series = [.. all.Select(r => new PlotSeries(r.Variant.Name, Thinned(r.Curve.Smoothed(smoothing))))],
        });
        page.Plot(new LinePlot
        {
            Title = "Relative difference of the loss",
            Description = string.Join(" ", rows.Select(r => r.Difference is { } d ? $"{r.Result.Variant.Name} ends {Share(d.Final)} from {baseline.Variant.Name}." : $"{r.Result.Variant.Name} diverged.")),
            X = new PlotAxis("step"),
            Y = new PlotAxis($"(loss − loss of {baseline.Variant.Name}) / loss of {baseline.Variant.Name}, smoothed", IsPercent: true),
            Series = [.. rows.Index().Where(r => r.Item.Difference is not null).Select(r => new PlotSeries(r.Item.Result.Variant.Name, Thinned(r.Item.Difference!.BySteps), Look: r.Index + 1))],
            Bounds = [new PlotBound(CurveDifference.PaperBound, "0.25 %"), new PlotBound(-CurveDifference.PaperBound, "−0.25 %")],
        });
        page.Table(
            $"Against {baseline.Variant.Name}: differences of the loss",
            ["run", "final loss", "held-out loss", "final difference", "largest, last half", "mean, last half", "held-out difference", "within 0.25 %"],
            [[baseline.Variant.Name, Loss(baseline), HeldOut(baseline), "", "", "", "", ""], .. rows.Select(Cells)]);
        page.Table("Smoothed loss by step", ["step", .. all.Select(r => r.Variant.Name)], SampledRows(all));
        return page.ToHtml();
    }

    private IReadOnlyList<string> Cells((VariantResult Result, CurveDifference? Difference) row) => row.Difference is not { } d
        ? [row.Result.Variant.Name, "diverged", "", "", "", "", "", "no"]
        : [row.Result.Variant.Name, Loss(row.Result), HeldOut(row.Result), Share(d.Final), Share(d.LargestOfLastHalf, signed: false), Share(d.MeanOfLastHalf), Share(d.Validation), d.Holds ? "yes" : "no"];

    private static JsonObject Json(VariantResult result, CurveDifference? difference)
    {
        var json = new JsonObject
        {
            ["name"] = result.Variant.Name,
            ["recipe"] = JsonNode.Parse(result.Variant.Config.ToJson())!["recipe"]!.DeepClone(),
            ["losses"] = new JsonArray([.. result.Curve.Steps.Select(loss => (JsonNode)loss)]),
            ["held_out"] = new JsonArray([.. result.Curve.Validations.Select(v => new JsonObject { ["step"] = v.Step, ["loss"] = v.Loss })]),
        };
        if (result.Diverged is not null) json["diverged"] = result.Diverged;
        if (difference is null) return json;
        json["difference"] = new JsonObject
        {
            ["final"] = difference.Final,
            ["largest_of_last_half"] = difference.LargestOfLastHalf,
            ["mean_of_last_half"] = difference.MeanOfLastHalf,
            ["held_out"] = difference.Validation,
            ["holds"] = difference.Holds,
        };
        return json;
    }

    private static (double X, double Y)[] Thinned(IReadOnlyList<double> values)
    {
        int every = Math.Max(1, (values.Count + PlottedPoints - 1) / PlottedPoints);
        return [.. Enumerable.Range(0, values.Count).Where(i => i % every == every - 1 || i == values.Count - 1).Select(i => (i + 1.0, values[i]))];
    }

    private IEnumerable<IReadOnlyList<string>> SampledRows(IReadOnlyList<VariantResult> all)
    {
        double[][] smoothed = [.. all.Select(r => r.Curve.Smoothed(smoothing))];
        int steps = smoothed[0].Length, every = Math.Max(1, steps / 20);
        for (int step = every; step <= steps; step += every)
            yield return [step.ToString(CultureInfo.InvariantCulture), .. smoothed.Select(s => step <= s.Length ? Number(s[step - 1]) : "-")];
    }

    private string Loss(VariantResult result) => Number(result.Curve.Smoothed(smoothing)[^1]);

    private static string HeldOut(VariantResult result) => result.Curve.Validations.Count > 0 ? Number(result.Curve.Validations[^1].Loss) : "-";

    private static string Number(double value) => value.ToString("F4", CultureInfo.InvariantCulture);

    private static string Share(double? share, bool signed = true) => share is not { } value
        ? "-"
        : string.Create(CultureInfo.InvariantCulture, $"{(signed && value > 0 ? "+" : "")}{value * 100:F3} %");
}

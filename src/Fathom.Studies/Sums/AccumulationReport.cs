// What the accumulation study says: a text table, accumulation.json and accumulation.html.
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Compute;
using Fathom.Model;
using Fathom.Studies.Reports;

namespace Fathom.Studies;

/// <summary>The results of an accumulation study.</summary>
/// <param name="Errors">One for each kind of operands, depth and way of summing.</param>
/// <param name="Size">Rows and columns of the products.</param>
/// <param name="Seed">Seed of the operands.</param>
public sealed record AccumulationReport(IReadOnlyList<AccumulationError> Errors, int Size, ulong Seed)
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    /// <summary>What the operands are, for a person.</summary>
    public static string Describe(OperandKind kind) => kind switch
    {
        OperandKind.Normal => "normal operands, one scale a matrix",
        OperandKind.Positive => "uniform operands in [0, 1), one scale a matrix",
        _ => "operands like a layer's: uneven channels in 1x128 tiles, weights in 128x128 blocks",
    };

    /// <summary>How sums are formed, for a person.</summary>
    public static string Describe(Accumulation accumulation) => accumulation switch
    {
        { IsHopper: false } => "FP32",
        { PromotionInterval: { } interval } => string.Create(CultureInfo.InvariantCulture, $"promoted every {interval}"),
        _ => "never promoted",
    };

    /// <summary>The largest errors as lines of text, one table for each kind of operands.</summary>
    public IEnumerable<string> Lines()
    {
        foreach (OperandKind kind in Kinds())
        {
            yield return $"Largest error over the result's root mean square, {Describe(kind)}:";
            yield return $"{"K",8}" + string.Concat(Accumulations().Select(a => $"{Describe(a),20}"));
            foreach (int depth in Depths())
                yield return string.Create(CultureInfo.InvariantCulture, $"{depth,8}") + string.Concat(Accumulations().Select(a => $"{Percent(Find(kind, a, depth)?.Largest),20}"));
            yield return "";
        }

        yield return Conclusion();
    }

    /// <summary>What the numbers say at the depth that the report gives its number for, or at the greatest that was measured.</summary>
    public string Conclusion()
    {
        int depth = Depths().Contains(AccumulationStudy.PaperDepth) ? AccumulationStudy.PaperDepth : Depths().Max();
        string text = string.Create(CultureInfo.InvariantCulture, $"At K = {depth}, {Size} x {Size} results, the largest error without promotion is ")
            + string.Join(", ", Kinds().Select(kind => $"{Percent(Find(kind, Accumulation.HopperWithoutPromotion, depth)!.Largest)} ({kind.ToString().ToLowerInvariant()} operands)"))
            + "; promoted every 128 it is "
            + string.Join(", ", Kinds().Select(kind => Percent(Find(kind, Accumulation.Hopper(), depth)!.Largest))) + ".";
        return depth == AccumulationStudy.PaperDepth ? text + " The report gives nearly 2 % for two random matrices, without saying how they are drawn." : text;
    }

    /// <summary>Writes accumulation.json and accumulation.html.</summary>
    /// <param name="folder">Made where it is missing.</param>
    /// <param name="command">The command that was run.</param>
    /// <returns>The page.</returns>
    public string Write(string folder, string command)
    {
        Directory.CreateDirectory(folder);
        AtomicFile.WriteAllText(Path.Combine(folder, "accumulation.json"), ToJson().ToJsonString(Indented) + "\n");
        string page = Path.Combine(folder, "accumulation.html");
        AtomicFile.WriteAllText(page, ToHtml(command));
        return page;
    }

    /// <summary>The numbers as JSON.</summary>
    public JsonObject ToJson() => new()
    {
        ["size"] = Size,
        ["seed"] = Seed,
        ["conclusion"] = Conclusion(),
        ["errors"] = new JsonArray([.. Errors.Select(e => new JsonObject
        {
            ["operands"] = e.Operands.ToString().ToLowerInvariant(),
            ["accumulator"] = e.Accumulation.IsHopper ? "hopper" : "fp32",
            ["promotion_interval"] = e.Accumulation.PromotionInterval,
            ["k"] = e.Depth,
            ["rms"] = e.RootMeanSquare,
            ["largest"] = e.Largest,
            ["median"] = e.Median,
        })]),
    };

    /// <summary>The page.</summary>
    public string ToHtml(string command)
    {
        var page = new ReportPage("Error of FP8 products by their accumulator");
        page.Paragraph("Hopper's FP8 tensor cores align 32 products to the largest exponent among them and the running sum, and keep 13 fraction bits. "
            + "DeepSeek-V3 therefore moves partial sums to FP32 every 128 elements of the depth K (report, section 3.3.2). "
            + "Here both are emulated bit by bit on E4M3 operands and compared with the same products summed in float64.");
        page.Verdict(Conclusion(), null);
        page.Command(command);
        foreach (OperandKind kind in Kinds())
        {
            page.Heading(char.ToUpperInvariant(Describe(kind)[0]) + Describe(kind)[1..]);
            page.Plot(new LinePlot
            {
                Title = "Error against the depth of the sum",
                Description = "Largest error of a product over the root mean square of its elements, against the depth K, one line for each accumulator. "
                    + string.Join(" ", Accumulations().Select(a => $"{Name(a)}: {Percent(Find(kind, a, Depths().Min())?.Largest)} at K = {Depths().Min()}, {Percent(Find(kind, a, Depths().Max())?.Largest)} at K = {Depths().Max()}.")),
                X = new PlotAxis("depth K", AxisScale.Log2),
                Y = new PlotAxis("largest error over the result's root mean square", AxisScale.Log10, IsPercent: true),
                Series = [.. Accumulations().Select(a => new PlotSeries(Name(a), [.. Depths().Select(k => ((double)k, Find(kind, a, k)?.Largest ?? double.NaN))]))],
            });
            page.Table("Largest error over the result's root mean square", Columns(), Rows(kind, e => e.Largest));
            page.Table("Root mean square of the error over that of the result", Columns(), Rows(kind, e => e.RootMeanSquare));
            page.Table("Median of |error| / |element|", Columns(), Rows(kind, e => e.Median));
        }

        return page.ToHtml();
    }

    private static string Name(Accumulation accumulation) => (accumulation.IsHopper ? "Hopper, " : "") + Describe(accumulation);

    private static string Percent(double? share) => share switch
    {
        null => "-",
        0 => "0",
        >= 0.01 => string.Create(CultureInfo.InvariantCulture, $"{share.Value * 100:F2} %"),
        >= 1e-5 => string.Create(CultureInfo.InvariantCulture, $"{share.Value * 100:F4} %"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{share.Value * 100:0.0e0} %"),
    };

    private IReadOnlyList<string> Columns() => ["K", .. Accumulations().Select(Describe)];

    private IEnumerable<IReadOnlyList<string>> Rows(OperandKind kind, Func<AccumulationError, double> number) =>
        Depths().Select(k => (IReadOnlyList<string>)[k.ToString(CultureInfo.InvariantCulture), .. Accumulations().Select(a => Percent(Find(kind, a, k) is { } e ? number(e) : null))]);

    private IEnumerable<OperandKind> Kinds() => Errors.Select(e => e.Operands).Distinct();

    private IEnumerable<int> Depths() => Errors.Select(e => e.Depth).Distinct().Order();

    private IEnumerable<Accumulation> Accumulations() => Errors.Select(e => e.Accumulation).Distinct();

    private AccumulationError? Find(OperandKind kind, Accumulation accumulation, int depth) =>
        Errors.FirstOrDefault(e => e.Operands == kind && e.Accumulation == accumulation && e.Depth == depth);
}

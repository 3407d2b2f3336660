// Pages and plots: well-formed, readable, and true to their numbers.
using System.Globalization;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Fathom.Studies.Reports;
using Xunit;

namespace Fathom.Studies.Tests;

public sealed class ReportTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(AxisScale.Linear, 0, 1200, "0 200 400 600 800 1000 1200")]
    [InlineData(AxisScale.Linear, 2.13, 8.31, "2 4 6 8 10")]
    [InlineData(AxisScale.Linear, -0.0025, 0.0025, "-0.003 -0.002 -0.001 0 0.001 0.002 0.003")]
    [InlineData(AxisScale.Log10, 3e-7, 0.2, "1e-7 1e-6 1e-5 0.0001 0.001 0.01 0.1 1")]
    [InlineData(AxisScale.Log10, 0.02, 5, "0.01 0.1 1 10")]
    [InlineData(AxisScale.Log2, 32, 16384, "16 64 256 1024 4096 16384")]
    [InlineData(AxisScale.Linear, 5, 5, "4.4 4.6 4.8 5 5.2 5.4 5.6")]
    public void Axes_have_few_round_numbers_that_enclose_the_values(AxisScale scale, double low, double high, string labels)
    {
        var ticks = new AxisTicks(new PlotAxis("x", scale), [low, double.NaN, high], widen: true);
        string text = string.Join(' ', ticks.Values.Select(ticks.Label));
        output.WriteLine(text);
        Assert.Equal(labels, text);
        Assert.InRange(ticks.Share(low), 0, 1);
        Assert.InRange(ticks.Share(high), 0, 1);
    }

    [Fact]
    public void A_plot_is_well_formed_and_its_points_are_where_its_axes_say()
    {
        var plot = new LinePlot
        {
            Title = "Loss <of> a & b",
            Description = "Falls.",
            X = new PlotAxis("K", AxisScale.Log2),
            Y = new PlotAxis("error", AxisScale.Log10, IsPercent: true),
            Series =
            [
                new PlotSeries("a < b", [(1, 0.01), (2, 0), (4, 0.1), (8, double.NaN), (16, 1)]),
                new PlotSeries("b", [(1, 1), (16, 0.01)], Look: 3),
            ],
            Bounds = [new PlotBound(0.1, "bound")],
        };
        XElement svg = XElement.Parse(SvgPlot.Draw(plot, "p"));
        XNamespace none = svg.Name.Namespace;
        Assert.Equal("Loss <of> a & b", svg.Element(none + "title")!.Value);
        Assert.Equal("p-title p-desc", (string?)svg.Attribute("aria-labelledby"));
        string[] paths = [.. svg.Elements("path").Where(p => ((string?)p.Attribute("class"))!.StartsWith("line", StringComparison.Ordinal)).Select(p => (string)p.Attribute("d")!)];
        foreach (string path in paths) output.WriteLine(path);
        Assert.Equal(2, paths.Length);
        Assert.Single(svg.Elements("path"), p => (string?)p.Attribute("class") == "line s3");
        // Zero and NaN interrupt a line.
        Assert.Equal(3, paths[0].Count(c => c == 'M'));
        Assert.DoesNotContain('L', paths[0]);
        // Corner to corner: 1 to 16 over the width, 1 to 0.01 over the height.
        (double x0, double y0, double x1, double y1) = Ends(paths[1]);
        string bound = (string)svg.Elements("path").Single(p => (string?)p.Attribute("class") == "bound").Attribute("d")!;
        Assert.Equal((y0 + y1) / 2, double.Parse(Regex.Match(bound, @"M\S+ (\S+)H").Groups[1].Value, CultureInfo.InvariantCulture), 0.011);
        Assert.True(x0 < x1 && y0 < y1);
        Assert.Contains(svg.Elements("text"), t => t.Value == "10 %");

        static (double, double, double, double) Ends(string path)
        {
            double[] n = [.. path.TrimStart('M').Split('L', ' ').Select(t => double.Parse(t, CultureInfo.InvariantCulture))];
            return (n[0], n[1], n[2], n[3]);
        }
    }

    [Fact]
    public void A_page_asks_nothing_of_the_network_runs_no_script_and_escapes_its_text()
    {
        var page = new ReportPage("A & B");
        page.Heading("<h>").Paragraph("1 < 2").Verdict("yes", true).Command("fathom study").Table("numbers", ["a", "b"], [["<1>", "2"]]);
        page.Plot(new LinePlot { Title = "t", Description = "d", X = new PlotAxis("x"), Y = new PlotAxis("y"), Series = [new PlotSeries("s", [(0, 0), (1, 1)])] });
        string html = page.ToHtml();
        Assert.DoesNotContain("<script", html, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotMatch("(src|href)=|url\\(|@import", html);
        Assert.Contains("&lt;1&gt;", html, StringComparison.Ordinal);
        Assert.Contains("prefers-color-scheme: dark", html, StringComparison.Ordinal);
        Assert.Contains("name=\"viewport\"", html, StringComparison.Ordinal);
        // Body and figures are XML but for the void elements.
        string body = html[html.IndexOf("<main>", StringComparison.Ordinal)..(html.IndexOf("</main>", StringComparison.Ordinal) + 7)].Replace("<br>", "<br/>", StringComparison.Ordinal);
        Assert.Single(XElement.Parse(body).Descendants("figure"));
    }
}

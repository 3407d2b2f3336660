// A line plot as SVG that stands alone in a page: no script, colours from the page's style (light and dark), dashes beside colours
// for who cannot tell these apart, a title and a description for who cannot see it. Text is sized by the page, larger on a
// telephone, so the margins leave room for that.
using System.Globalization;
using System.Net;
using System.Text;

namespace Fathom.Studies.Reports;

/// <summary>Draws plots.</summary>
internal static class SvgPlot
{
    private const double Width = 640, Height = 400, Left = 108, Right = 602, Top = 16, Bottom = 334;

    // A solid line, then dashes that differ in length.
    private static readonly string[] Dashes = ["", "9 4", "2 3", "12 3 2 3", "5 2", "16 5", "1 6"];

    /// <summary>The drawing.</summary>
    /// <param name="plot">What to draw.</param>
    /// <param name="id">Names its parts; unique in the page.</param>
    public static string Draw(LinePlot plot, string id)
    {
        IEnumerable<(double X, double Y)> points = plot.Series.SelectMany(s => s.Points).Where(p => double.IsFinite(p.X) && double.IsFinite(p.Y));
        (double X, double Y)[] all = [.. points];
        var x = new AxisTicks(plot.X, all.Select(p => p.X), widen: false);
        var y = new AxisTicks(plot.Y, [.. all.Select(p => p.Y), .. plot.Bounds.Select(b => b.Y)], widen: true);
        var svg = new StringBuilder();
        svg.Append(CultureInfo.InvariantCulture, $"<svg viewBox=\"0 0 {Width} {Height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\n");
        svg.Append(CultureInfo.InvariantCulture, $"<title id=\"{id}-title\">{Text(plot.Title)}</title>\n<desc id=\"{id}-desc\">{Text(plot.Description)}</desc>\n");
        Grid(svg, plot, x, y);
        foreach (PlotBound bound in plot.Bounds)
        {
            string level = Round(Vertical(y, bound.Y));
            svg.Append(CultureInfo.InvariantCulture, $"<path class=\"bound\" d=\"M{Left} {level}H{Right}\"/>\n");
            svg.Append(CultureInfo.InvariantCulture, $"<text class=\"bound-label\" x=\"{Right - 4}\" y=\"{level}\" dy=\"-0.4em\" text-anchor=\"end\">{Text(bound.Label)}</text>\n");
        }

        // Solid lines below, dashes above: of lines that coincide both are seen.
        for (int i = 0; i < plot.Series.Count; i++)
        {
            string path = Path(plot.Series[i], x, y);
            if (path.Length > 0) svg.Append(CultureInfo.InvariantCulture, $"<path class=\"line s{Look(plot, i)}\" d=\"{path}\"/>\n");
        }

        return svg.Append("</svg>\n").ToString();
    }

    /// <summary>A short line in a series' look, for the legend.</summary>
    public static string Key(LinePlot plot, int series) => $"<svg class=\"key\" viewBox=\"0 0 36 10\" aria-hidden=\"true\"><path class=\"line s{Look(plot, series)}\" d=\"M1 5H35\"/></svg>";

    /// <summary>The looks as CSS.</summary>
    public static string Style() =>
        string.Concat(Dashes.Select((dash, i) => $".s{i} {{ stroke: var(--s{i});{(dash.Length > 0 ? $" stroke-dasharray: {dash};" : "")} }}\n"));

    private static int Look(LinePlot plot, int series) => (plot.Series[series].Look ?? series) % Dashes.Length;

    private static void Grid(StringBuilder svg, LinePlot plot, AxisTicks x, AxisTicks y)
    {
        foreach (double value in x.Values)
        {
            string at = Round(Horizontal(x, value));
            svg.Append(CultureInfo.InvariantCulture, $"<path class=\"grid\" d=\"M{at} {Top}V{Bottom}\"/><text x=\"{at}\" y=\"{Bottom}\" dy=\"1.35em\" text-anchor=\"middle\">{Text(x.Label(value))}</text>\n");
        }

        foreach (double value in y.Values)
        {
            string at = Round(Vertical(y, value));
            svg.Append(CultureInfo.InvariantCulture, $"<path class=\"grid\" d=\"M{Left} {at}H{Right}\"/><text x=\"{Left - 8}\" y=\"{at}\" dy=\"0.35em\" text-anchor=\"end\">{Text(y.Label(value))}</text>\n");
        }

        svg.Append(CultureInfo.InvariantCulture, $"<path class=\"axis\" d=\"M{Left} {Top}V{Bottom}H{Right}\"/>\n");
        svg.Append(CultureInfo.InvariantCulture, $"<text class=\"label\" x=\"{(Left + Right) / 2}\" y=\"{Height - 8}\" text-anchor=\"middle\">{Text(plot.X.Label)}</text>\n");
    }

    private static string Path(PlotSeries series, AxisTicks x, AxisTicks y)
    {
        var path = new StringBuilder();
        bool down = false;
        foreach ((double px, double py) in series.Points)
        {
            if (!x.Shows(px) || !y.Shows(py))
            {
                down = false;
                continue;
            }

            path.Append(down ? 'L' : 'M').Append(Round(Horizontal(x, px))).Append(' ').Append(Round(Vertical(y, py)));
            down = true;
        }

        return path.ToString();
    }

    private static double Horizontal(AxisTicks axis, double value) => Left + axis.Share(value) * (Right - Left);

    private static double Vertical(AxisTicks axis, double value) => Bottom - axis.Share(value) * (Bottom - Top);

    private static string Round(double value) => value.ToString("0.##", CultureInfo.InvariantCulture);

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}

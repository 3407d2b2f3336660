// A curve in one line of block characters: the mean of each piece of a series, scaled between the series' extremes.
namespace Fathom.Cli.Terminal;

/// <summary>Draws small curves.</summary>
internal static class Sparkline
{
    private const string Blocks = "▁▂▃▄▅▆▇█";

    /// <summary>Draws a series in at most so many characters.</summary>
    public static string Draw(IReadOnlyList<double> series, int width)
    {
        int columns = Math.Min(width, series.Count);
        if (columns <= 0) return "";
        var means = new double[columns];
        for (int c = 0; c < columns; c++)
        {
            int from = (int)((long)c * series.Count / columns), to = (int)((c + 1L) * series.Count / columns);
            for (int i = from; i < to; i++) means[c] += series[i] / (to - from);
        }

        double low = means.Min(), range = means.Max() - low;
        return string.Concat(means.Select(m => Blocks[range > 0 ? (int)Math.Round((m - low) / range * (Blocks.Length - 1)) : 0]));
    }
}

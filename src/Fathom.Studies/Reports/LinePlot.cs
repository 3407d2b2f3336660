// What a plot shows, apart from how it is drawn (SvgPlot) and tabulated.

namespace Fathom.Studies.Reports;

/// <summary>How an axis places its values.</summary>
public enum AxisScale
{
    /// <summary>Evenly.</summary>
    Linear,

    /// <summary>By decades; values that are not positive are left out.</summary>
    Log10,

    /// <summary>By doublings; values that are not positive are left out.</summary>
    Log2,
}

/// <summary>An axis.</summary>
/// <param name="Label">What it measures, with the unit.</param>
/// <param name="Scale">How it places values.</param>
/// <param name="IsPercent">Whether values are shares that are written in percent.</param>
public sealed record PlotAxis(string Label, AxisScale Scale = AxisScale.Linear, bool IsPercent = false);

/// <summary>A line.</summary>
/// <param name="Name">What it is, for the legend.</param>
/// <param name="Points">Its points from left to right; one that is not finite interrupts the line.</param>
/// <param name="Look">Which colour and dash it has, so that one thing looks the same in all plots of a page; null for its place in the plot.</param>
public sealed record PlotSeries(string Name, IReadOnlyList<(double X, double Y)> Points, int? Look = null);

/// <summary>A horizontal line that values are held against.</summary>
/// <param name="Y">Where.</param>
/// <param name="Label">What it is.</param>
public sealed record PlotBound(double Y, string Label);

/// <summary>Several lines over the same axes.</summary>
public sealed record LinePlot
{
    /// <summary>One line of what it is.</summary>
    public required string Title { get; init; }

    /// <summary>What is to be seen, for a reader who cannot see it.</summary>
    public required string Description { get; init; }

    /// <summary>The horizontal axis.</summary>
    public required PlotAxis X { get; init; }

    /// <summary>The vertical axis.</summary>
    public required PlotAxis Y { get; init; }

    /// <summary>The lines, most important first; up to seven have colours and dashes of their own.</summary>
    public required IReadOnlyList<PlotSeries> Series { get; init; }

    /// <summary>Lines that values are held against.</summary>
    public IReadOnlyList<PlotBound> Bounds { get; init; } = [];
}

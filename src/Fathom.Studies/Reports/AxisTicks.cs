// From the values on an axis to its range, the few round numbers that label it, and the place of a value between the ends. Few
// numbers: on a telephone they are drawn larger, and must not touch.
using System.Globalization;

namespace Fathom.Studies.Reports;

/// <summary>An axis over the values that it shows.</summary>
internal sealed class AxisTicks
{
    private const int MostSteps = 6;
    private readonly PlotAxis axis;
    private readonly double low, high;

    /// <summary>Fits an axis to values; those that it cannot show are left out.</summary>
    public AxisTicks(PlotAxis axis, IEnumerable<double> values, bool widen)
    {
        this.axis = axis;
        double[] shown = [.. values.Where(Shows).Select(Position)];
        (low, high) = shown.Length > 0 ? (shown.Min(), shown.Max()) : (0, 1);
        if (low == high) (low, high) = (low - 0.5, high + 0.5);
        double step = Step(high - low);
        if (widen) (low, high) = (Math.Floor(low / step + 1e-9) * step, Math.Ceiling(high / step - 1e-9) * step);
        double first = Math.Ceiling(low / step - 1e-9);
        Values = [.. Enumerable.Range(0, 1 + (int)Math.Floor((high - first * step) / step + 1e-9)).Select(i => Value((first + i) * step))];
    }

    /// <summary>The numbers that are labelled.</summary>
    public IReadOnlyList<double> Values { get; }

    /// <summary>Whether a value has a place on the axis.</summary>
    public bool Shows(double value) => double.IsFinite(value) && (axis.Scale == AxisScale.Linear || value > 0);

    /// <summary>Place of a value: 0 at the low end, 1 at the high.</summary>
    public double Share(double value) => (Position(value) - low) / (high - low);

    /// <summary>A labelled number as text.</summary>
    public string Label(double value)
    {
        if (axis.IsPercent) return Number(value * 100) + " %";
        return Number(value);
    }

    private static string Number(double value)
    {
        double size = Math.Abs(value);
        if (size is not 0 and (< 9e-5 or >= 1e6)) return value.ToString("0.#e0", CultureInfo.InvariantCulture);
        return (size >= 1000 ? Math.Round(value) : Math.Round(value, 10)).ToString("0.##########", CultureInfo.InvariantCulture);
    }

    private double Position(double value) => axis.Scale switch
    {
        AxisScale.Log10 => Math.Log10(value),
        AxisScale.Log2 => Math.Log2(value),
        _ => value,
    };

    private double Value(double position) => axis.Scale switch
    {
        AxisScale.Log10 => Math.Pow(10, position),
        AxisScale.Log2 => Math.Pow(2, position),
        _ => position,
    };

    /// <summary>1, 2 or 5 times a power of ten; on logarithmic axes whole decades or doublings, where the range has several.</summary>
    private double Step(double range)
    {
        double rough = range / MostSteps, power = Math.Pow(10, Math.Floor(Math.Log10(rough)));
        double step = power * (rough / power) switch
        {
            <= 1.0000001 => 1,
            <= 2.0000001 => 2,
            <= 5.0000001 => 5,
            _ => 10,
        };
        return axis.Scale == AxisScale.Linear ? step : Math.Max(1, step);
    }
}

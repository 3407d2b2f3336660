namespace Fathom.Inference;

/// <summary>The last values of a series.</summary>
/// <param name="most">How many are kept.</param>
internal sealed class RecentValues(int most)
{
    private readonly double[] values = new double[most], sorted = new double[most];
    private long added;

    /// <summary>Values that are kept.</summary>
    public int Count => (int)Math.Min(added, most);

    /// <summary>Their mean.</summary>
    public double Mean
    {
        get
        {
            double sum = 0;
            foreach (double value in values.AsSpan(0, Count)) sum += value;
            return sum / Count;
        }
    }

    /// <summary>The one in their middle; of an even number the upper.</summary>
    public double Median
    {
        get
        {
            Span<double> kept = sorted.AsSpan(0, Count);
            values.AsSpan(0, Count).CopyTo(kept);
            kept.Sort();
            return kept[kept.Length / 2];
        }
    }

    /// <summary>Keeps a value, in place of the oldest where all places are taken.</summary>
    public void Add(double value) => values[added++ % most] = value;

    /// <summary>Keeps none.</summary>
    public void Clear() => added = 0;
}

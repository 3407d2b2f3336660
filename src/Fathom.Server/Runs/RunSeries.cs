// The series of a run in bounded memory: buckets of 2^k steps with least, largest and mean. When there are too many, k grows by one and
// neighbours are joined, so a run of a million steps takes as much room as one of a thousand, and its peaks stay visible.
namespace Fathom.Server.Runs;

/// <summary>Buckets of steps.</summary>
/// <param name="mostBuckets">Most of them; at least half as many stay when they are joined.</param>
/// <param name="shift">k to begin with: a bucket covers 2^k steps.</param>
internal sealed class RunSeries(int mostBuckets, int shift = 0)
{
    private readonly List<Column> columns = [];
    private readonly List<Bucket> buckets = [];

    /// <summary>How many buckets there are.</summary>
    public int Count => buckets.Count;

    /// <summary>A bucket covers 2^k steps.</summary>
    public int Shift { get; private set; } = shift;

    /// <summary>A bucket.</summary>
    public Bucket this[int index] => buckets[index];

    /// <summary>How many series have been seen.</summary>
    public int Columns => columns.Count;

    /// <summary>A series' value in a bucket; null where it has none.</summary>
    public Value? At(int column, int bucket)
    {
        if (column >= columns.Count || bucket >= columns[column].Values.Count) return null;
        Value value = columns[column].Values[bucket];
        return value.Number > 0 ? value : null;
    }

    /// <summary>The last value of a series and its step's bucket; null where it has none.</summary>
    public double? LastOf(int column) => column < columns.Count ? columns[column].Last : null;

    /// <summary>Adds a line.</summary>
    /// <param name="line">The line.</param>
    /// <param name="offset">Where it begins in the file.</param>
    /// <param name="seconds">Of training, this step's included.</param>
    /// <returns>False where its step lies before those that are there.</returns>
    public bool Add(MetricsLine line, long offset, double seconds)
    {
        if (Count > 0 && line.Step < buckets[^1].First) return false;
        while (Count == mostBuckets && line.Step >> Shift != buckets[^1].First >> Shift) Join();
        if (Count == 0 || line.Step >> Shift != buckets[^1].First >> Shift)
            buckets.Add(new Bucket { First = line.Step, Offset = offset, Tokens = Count > 0 ? buckets[^1].Tokens : 0 });
        Bucket bucket = buckets[^1];
        bucket.Last = Math.Max(bucket.Last, line.Step);
        bucket.Seconds = seconds;
        if (line.Tokens >= 0) bucket.Tokens = line.Tokens;
        buckets[^1] = bucket;
        for (int i = 0; i < line.Series.Length; i++) ColumnAt(line.Series[i]).Add(Count - 1, line.Values[i]);
        return true;
    }

    /// <summary>The first bucket that ends at a step or behind it; <see cref="Count"/> where there is none.</summary>
    public int IndexOf(long step)
    {
        int low = 0, high = Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (buckets[middle].Last < step) low = middle + 1;
            else high = middle;
        }

        return low;
    }

    private Column ColumnAt(int index)
    {
        while (columns.Count <= index) columns.Add(new Column());
        return columns[index];
    }

    /// <summary>Joins the buckets that fall together when they cover twice as many steps.</summary>
    private void Join()
    {
        Shift++;
        int[] target = new int[Count];
        int kept = 0;
        for (int i = 0; i < target.Length; i++)
        {
            Bucket bucket = buckets[i];
            if (i > 0 && bucket.First >> Shift == buckets[kept - 1].First >> Shift)
                buckets[kept - 1] = bucket with { First = buckets[kept - 1].First, Offset = buckets[kept - 1].Offset };
            else buckets[kept++] = bucket;
            target[i] = kept - 1;
        }

        buckets.RemoveRange(kept, buckets.Count - kept);
        foreach (Column column in columns) column.Join(target);
    }

    /// <summary>What all series of a bucket share.</summary>
    public record struct Bucket
    {
        /// <summary>First step.</summary>
        public long First { get; set; }

        /// <summary>Last step.</summary>
        public long Last { get; set; }

        /// <summary>Where its first line begins in the file.</summary>
        public long Offset { get; set; }

        /// <summary>Tokens trained up to its end.</summary>
        public long Tokens { get; set; }

        /// <summary>Seconds of training up to its end.</summary>
        public double Seconds { get; set; }
    }

    /// <summary>One series in one bucket.</summary>
    public record struct Value(float Least, float Largest, double Sum, int Number)
    {
        /// <summary>The mean.</summary>
        public readonly double Mean => Sum / Number;
    }

    private sealed class Column
    {
        public List<Value> Values { get; } = [];

        public double? Last { get; private set; }

        public void Add(int bucket, double number)
        {
            while (Values.Count <= bucket) Values.Add(default);
            Values[bucket] = Merge(Values[bucket], new Value((float)number, (float)number, number, 1));
            Last = number;
        }

        public void Join(int[] target)
        {
            for (int i = 0; i < Values.Count; i++)
            {
                if (target[i] == i) continue;
                bool isFirst = target[i - 1] != target[i];
                Values[target[i]] = isFirst ? Values[i] : Merge(Values[target[i]], Values[i]);
            }

            if (Values.Count > 0) Values.RemoveRange(target[Values.Count - 1] + 1, Values.Count - target[Values.Count - 1] - 1);
        }

        private static Value Merge(Value a, Value b) =>
            a.Number == 0 ? b : b.Number == 0 ? a : new Value(Math.Min(a.Least, b.Least), Math.Max(a.Largest, b.Largest), a.Sum + b.Sum, a.Number + b.Number);
    }
}

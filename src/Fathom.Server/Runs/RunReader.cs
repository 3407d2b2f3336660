// Follows metrics.jsonl of one run: reads what has come since the last look, and starts again where the file was cut back and written
// anew, which is what a resumed run does. Memory is bounded (RunSeries); a narrow range is read from the file again, in finer buckets.
using System.Globalization;

namespace Fathom.Server.Runs;

/// <summary>The metrics of one run. Safe for many threads.</summary>
/// <param name="path">metrics.jsonl; it may not be there yet.</param>
internal sealed class RunReader(string path)
{
    /// <summary>Most buckets of the whole run.</summary>
    public const int MostBuckets = 1024;

    /// <summary>A range with fewer buckets than this is read from the file again: at most a quarter of it.</summary>
    private const int FewBuckets = 128;

    private const int MarkBytes = 128;

    // Two readings never have the same number, not even those of two processes: a page that outlives the server must not go on with a number of the old one.
    private static readonly string Process = Guid.NewGuid().ToString("N")[..12];
    private static int readings;

    private readonly Lock gate = new();
    private readonly MetricsLine line = new();
    private SeriesNames names = new();
    private RunSeries series = new(MostBuckets);
    private ExpertLoads experts = new();
    private string generation = NewGeneration();
    private byte[] mark = []; // the last bytes before offset
    private long offset, length, damaged;
    private double seconds;
    private (string Kind, string? Reason)? end; // null while training goes on, for all that the file says
    private DateTime written;
    private bool isBehind; // there is more than the budget allowed

    /// <summary>Reads what is new.</summary>
    /// <param name="budget">Most bytes to read, or a line more; what is read is taken off.</param>
    /// <exception cref="IOException">The file cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be read.</exception>
    public RunState Advance(ref long budget)
    {
        lock (gate)
        {
            var info = new FileInfo(path);
            if (!info.Exists)
            {
                if (offset > 0) Restart();
                (length, written, isBehind) = (0, default, false);
            }
            else if (info.Length != length || info.LastWriteTimeUtc != written || offset < length)
            {
                using FileStream file = JsonLines.Open(path);
                (length, written) = (file.Length, info.LastWriteTimeUtc);
                if (!IsSameFile(file)) Restart();
                long before = offset;
                if (budget > 0 && offset < length) offset = JsonLines.Read(file, offset, budget, Take);
                isBehind = offset < length && offset - before >= budget;
                budget -= offset - before;
                if (offset > before) ReadMark(file);
            }

            return State();
        }
    }

    /// <summary>Buckets of a range of steps, of what has been read.</summary>
    /// <param name="from">First step.</param>
    /// <param name="to">Last step.</param>
    /// <param name="points">Most buckets, as far as the range is read from the file.</param>
    /// <param name="cursor">Where an earlier answer ended; null for all of the range.</param>
    /// <param name="take">Takes them, under the reader's lock.</param>
    public T Read<T>(long from, long to, int points, string? cursor, Func<RunRange, T> take)
    {
        lock (gate)
        {
            int first = series.IndexOf(from), end = series.IndexOf(to);
            if (end < series.Count && series[end].First <= to) end++;
            if (series.Shift > 0 && end > first && end - first < FewBuckets)
            {
                RunSeries fine = ReadAgain(series[first], first > 0 ? series[first - 1].Seconds : 0, from, to, points);
                return take(new RunRange(fine, names, 0, fine.Count, true, ""));
            }

            string prefix = $"{generation}.{series.Shift}.";
            long sent = 0;
            bool goesOn = cursor is not null && cursor.StartsWith(prefix, StringComparison.Ordinal) && long.TryParse(cursor.AsSpan(prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out sent);
            if (goesOn) first = Math.Max(first, series.IndexOf(sent));
            string next = end > 0 ? string.Create(CultureInfo.InvariantCulture, $"{prefix}{series[end - 1].First}") : "";
            return take(new RunRange(series, names, Math.Min(first, end), end, !goesOn, next));
        }
    }

    /// <summary>The loads of all experts at a step, with the steps that have some.</summary>
    public (ExpertSnapshot? Snapshot, IReadOnlyList<long> Steps) ReadExperts(long? step, int mostSteps)
    {
        lock (gate)
        {
            if (experts.Count == 0 || !File.Exists(path)) return (null, []);
            using FileStream file = JsonLines.Open(path);
            return (experts.Read(file, step), experts.Steps(mostSteps));
        }
    }

    /// <summary>The loads of one layer over time.</summary>
    public IReadOnlyList<(long Step, long[] Load)> ReadLayer(int layer, int most)
    {
        lock (gate)
        {
            if (experts.Count == 0 || !File.Exists(path)) return [];
            using FileStream file = JsonLines.Open(path);
            return experts.ReadLayer(file, layer, most);
        }
    }

    private static string NewGeneration() => $"{Process}-{Interlocked.Increment(ref readings)}";

    private bool Take(ReadOnlySpan<byte> text, long at)
    {
        if (text.IsEmpty) return true;
        if (!line.TryRead(text, names) || (series.Count > 0 && line.Step < series[series.Count - 1].First))
        {
            damaged++;
            return true;
        }

        end = line.End is { } kind ? (kind, line.Reason) : null;
        if (end is not null) return true;
        if (line.HasExpertLoad)
        {
            experts.Add(line.Step, at);
            return true;
        }

        seconds += line.Seconds;
        series.Add(line, at, seconds);
        return true;
    }

    private RunSeries ReadAgain(RunSeries.Bucket bucket, double secondsBefore, long from, long to, int points)
    {
        int shift = 0;
        while ((to >> shift) - (from >> shift) + 1 > points) shift++;
        var fine = new RunSeries(points + 1, shift);
        var other = new MetricsLine();
        double total = secondsBefore;
        using FileStream file = JsonLines.Open(path);
        JsonLines.Read(file, bucket.Offset, offset - bucket.Offset, (text, at) =>
        {
            if (!other.TryRead(text, names) || other.HasExpertLoad || other.End is not null) return true;
            total += other.Seconds;
            if (other.Step > to) return false;
            if (other.Step >= from) fine.Add(other, at, total);
            return true;
        });
        return fine;
    }

    private RunState State()
    {
        Dictionary<string, double> last = [];
        for (int i = 0; i < names.Count; i++)
        {
            if (series.LastOf(i) is { } value) last[names[i]] = value;
        }

        RunSeries.Bucket? newest = series.Count > 0 ? series[series.Count - 1] : null;
        return new RunState
        {
            Step = newest?.Last ?? 0,
            Tokens = newest?.Tokens ?? 0,
            Seconds = seconds,
            Last = last,
            End = end?.Kind,
            Reason = end?.Reason,
            Written = written == default ? null : new DateTimeOffset(written),
            Read = isBehind ? (double)offset / length : 1,
            Bytes = length,
            DamagedLines = damaged,
            ExpertSteps = experts.Count,
            LastExpertStep = experts.Count > 0 ? experts.Steps(1)[0] : null,
        };
    }

    private void Restart()
    {
        (names, series, experts, generation, mark) = (new SeriesNames(), new RunSeries(MostBuckets), new ExpertLoads(), NewGeneration(), []);
        (offset, damaged, seconds, end) = (0, 0, 0, null);
    }

    /// <summary>Whether what has been read still stands in the file: a resumed run writes other times even where it repeats the losses.</summary>
    private bool IsSameFile(FileStream file)
    {
        if (file.Length < offset) return false;
        Span<byte> now = stackalloc byte[mark.Length];
        file.Position = offset - mark.Length;
        file.ReadExactly(now);
        return now.SequenceEqual(mark);
    }

    private void ReadMark(FileStream file)
    {
        mark = new byte[Math.Min(offset, MarkBytes)];
        file.Position = offset - mark.Length;
        if (file.ReadAtLeast(mark, mark.Length, throwOnEndOfStream: false) < mark.Length) mark = []; // cut meanwhile: the next look sees that
    }
}

/// <summary>Buckets of a range.</summary>
/// <param name="Series">The buckets.</param>
/// <param name="Names">Of their columns.</param>
/// <param name="First">First bucket.</param>
/// <param name="End">Behind the last bucket.</param>
/// <param name="IsWhole">Whether these are all, or those since the cursor; the first of them may be one that was sent before.</param>
/// <param name="Cursor">To ask for what comes next; empty where there is none.</param>
internal readonly record struct RunRange(RunSeries Series, SeriesNames Names, int First, int End, bool IsWhole, string Cursor);

/// <summary>Where a run stands, by its metrics.</summary>
internal sealed record RunState
{
    /// <summary>The last step.</summary>
    public long Step { get; init; }

    /// <summary>Tokens trained.</summary>
    public long Tokens { get; init; }

    /// <summary>Seconds of training steps.</summary>
    public double Seconds { get; init; }

    /// <summary>The last value of each series.</summary>
    public required IReadOnlyDictionary<string, double> Last { get; init; }

    /// <summary>How training ended, as it said itself: finished, stopped, diverged or failed; null where it said nothing.</summary>
    public string? End { get; init; }

    /// <summary>Why; null where nothing was said.</summary>
    public string? Reason { get; init; }

    /// <summary>When the file was written last; null where there is none.</summary>
    public DateTimeOffset? Written { get; init; }

    /// <summary>Share of the file that has been read; 1 where nothing but half a line is left.</summary>
    public double Read { get; init; }

    /// <summary>Bytes of the file.</summary>
    public long Bytes { get; init; }

    /// <summary>Lines that are no metrics.</summary>
    public long DamagedLines { get; init; }

    /// <summary>Steps with loads of all experts.</summary>
    public int ExpertSteps { get; init; }

    /// <summary>The last of them.</summary>
    public long? LastExpertStep { get; init; }
}

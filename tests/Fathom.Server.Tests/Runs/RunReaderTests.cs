// The reader of metrics on files that grow, are cut, are damaged, or are huge.
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Fathom.Server.Runs;
using Fathom.Testing;
using Xunit;

namespace Fathom.Server.Tests;

/// <summary>Tests that measure the memory of the process, or its time: nothing else runs beside them.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class AloneCollection
{
    public const string Name = "Alone";
}

[Collection(AloneCollection.Name)]
public sealed class RunReaderTests(ITestOutputHelper output)
{
    [Fact]
    public void A_file_that_grows_is_followed_and_half_a_line_waits_for_its_end()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("metrics.jsonl");
        var reader = new RunReader(path);
        Assert.Equal((0L, null), (Advance(reader).Step, Advance(reader).Written));

        File.WriteAllText(path, RunFiles.Steps(1, 3));
        Assert.Equal(3, Advance(reader).Step);
        (string cursor, long[] steps, bool whole) = Range(reader);
        Assert.Equal([1, 2, 3], steps);
        Assert.True(whole);

        // A line in three pieces, cut in the middle of a number and just before its end.
        string line = RunFiles.Step(4, 2.125);
        int half = line.IndexOf("2.125", StringComparison.Ordinal) + 2;
        File.AppendAllText(path, line[..half]);
        Assert.Equal((3L, 1.0), (Advance(reader).Step, Advance(reader).Read));
        File.AppendAllText(path, line[half..^1]);
        Assert.Equal(3, Advance(reader).Step);
        File.AppendAllText(path, "\n" + RunFiles.Validation(4, 2.5));
        RunState state = Advance(reader);
        Assert.Equal((4L, 400L, 2.0, 0L), (state.Step, state.Tokens, state.Seconds, state.DamagedLines));
        Assert.Equal((2.125, 2.5, 1.5), (state.Last["loss"], state.Last["val_loss"], state.Last["load_imbalance"]));

        // From the cursor on: the last bucket again, since it may have been half full, and the new one.
        (string next, steps, whole) = Range(reader, cursor);
        Assert.Equal([3, 4], steps);
        Assert.False(whole);
        (_, steps, whole) = Range(reader, next);
        Assert.Equal([4], steps);
        Assert.False(whole);
        (_, steps, whole) = Range(reader, "another-1.0.3");
        Assert.Equal([1, 2, 3, 4], steps);
        Assert.True(whole);
    }

    [Fact]
    public void A_file_cut_back_by_a_resume_is_read_anew_even_when_it_has_grown_longer_meanwhile()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("metrics.jsonl");
        File.WriteAllText(path, RunFiles.Steps(1, 20));
        var reader = new RunReader(path);
        Advance(reader);
        (string cursor, _, _) = Range(reader);

        // Cut to step 12 and seen so.
        string kept = RunFiles.Steps(1, 12);
        File.WriteAllText(path, kept);
        Assert.Equal(12, Advance(reader).Step);
        (cursor, long[] steps, bool whole) = Range(reader, cursor);
        Assert.Equal((12, true), (steps.Length, whole));

        // Cut and grown past where the reader was between two looks: only the bytes tell.
        File.WriteAllText(path, RunFiles.Steps(1, 8) + string.Concat(Enumerable.Range(9, 30).Select(i => RunFiles.Step(i, 77))));
        RunState state = Advance(reader);
        Assert.Equal((38L, 77.0, 19.0), (state.Step, state.Last["loss"], state.Seconds));
        (_, steps, whole) = Range(reader, cursor);
        Assert.Equal((38, true), (steps.Length, whole));

        File.Delete(path);
        Assert.Equal((0L, 0L), (Advance(reader).Step, Advance(reader).Bytes));
    }

    [Fact]
    public void Damage_is_counted_and_left_out()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("metrics.jsonl");
        string[] bad =
        [
            "not json", "{}", "[1,2]", "{\"step\":\"3\"}", "{\"step\":-3,\"loss\":1}", "{\"step\":3,\"loss\":1", "{\"step\":3,\"loss\":1}}", "{\"step\":1e99}", "\u0000\u0001\u0002", "{\"step\":3,\"loss\":NaN}",
            "{\"step\":2,\"loss\":" + new string('[', 3000) + "}", "{\"step\":4,\"expert_load\":[[1,2",
        ];
        byte[] invalid = [(byte)'{', 0xFF, 0xFE, (byte)'"', (byte)'\n'];
        using (FileStream file = File.Create(path))
        {
            file.Write(Encoding.UTF8.GetBytes(RunFiles.Steps(1, 3)));
            foreach (string line in bad) file.Write(Encoding.UTF8.GetBytes(line + "\n"));
            file.Write(invalid);
            file.Write(Encoding.UTF8.GetBytes("\n\n" + RunFiles.Steps(4, 6)));
            file.Write(Encoding.UTF8.GetBytes(RunFiles.Step(2) + """{"step":7,"loss":null,"new":{"a":[1]},"note":"x","own_number":8}""" + "\n"));
        }

        var reader = new RunReader(path);
        RunState state = Advance(reader);
        output.WriteLine($"{state.DamagedLines} lines are damaged of {bad.Length + 2}; step {state.Step}");
        Assert.Equal(bad.Length + 2, state.DamagedLines); // and the bytes that are no UTF-8, and a step that lies back
        Assert.Equal((7L, 8.0, 10.0 / 6), (state.Step, state.Last["own_number"], state.Last["loss"]));
        Assert.Equal([1, 2, 3, 4, 5, 6, 7], Range(reader).Steps);
    }

    [Fact]
    public void Overlong_lines_are_passed_over_and_too_many_names_left_out()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("metrics.jsonl");
        using (var text = new StreamWriter(path))
        {
            text.Write(RunFiles.Step(1));
            text.Write("{\"step\":2,\"x\":\"");
            for (int i = 0; i < 40; i++) text.Write(new string('a', 1 << 20));
            text.Write("\"}\n");
            text.Write(RunFiles.Step(3));
            for (int i = 0; i < 200; i++) text.Write($$"""{"step":{{4 + i}},"name{{i}}":1}""" + "\n");
        }

        var reader = new RunReader(path);
        RunState state = Advance(reader);
        Assert.Equal((203L, SeriesNames.Most), (state.Step, state.Last.Count));
        Assert.Equal(202, Range(reader).Steps.Length);
    }

    [Fact]
    public void A_million_lines_take_bounded_memory_and_keep_their_peaks_and_a_narrow_range_its_steps()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("metrics.jsonl");
        const int Lines = 1_000_000, Peak = 654_321;
        using (var text = new StreamWriter(path, false, Encoding.ASCII, 1 << 20))
        {
            for (int step = 1; step <= Lines; step++)
                text.Write(string.Create(CultureInfo.InvariantCulture, $"{{\"step\":{step},\"tokens\":{step * 10L},\"loss\":{(step == Peak ? 99 : 2)},\"lr\":0.25,\"seconds\":0.5}}\n"));
        }

        var reader = new RunReader(path);
        long before = GC.GetTotalMemory(forceFullCollection: true);
        long begun = Stopwatch.GetTimestamp();
        int looks = 0;
        RunState state;
        do
        {
            long budget = 8 << 20;
            state = reader.Advance(ref budget);
            looks++;
            Assert.True(budget > -JsonLines.LongestLine);
        }
        while (state.Read < 1);
        double seconds = Stopwatch.GetElapsedTime(begun).TotalSeconds;
        long held = GC.GetTotalMemory(forceFullCollection: true) - before;
        (string cursor, long[] steps, _) = Range(reader);
        output.WriteLine($"{state.Bytes / 1e6:F0} MB in {looks} looks, {seconds:F2} s; {held / 1e3:F0} kB are held; {steps.Length} buckets");
        Assert.True(held < state.Bytes / 4, $"{held} bytes are held");
        Assert.InRange(steps.Length, RunReader.MostBuckets / 2 - 1, RunReader.MostBuckets);
        Assert.Equal((Lines, Lines * 10L, Lines * 0.5), ((int)state.Step, state.Tokens, state.Seconds));
        Assert.Equal(99f, Largest(reader, 0, Lines));

        // Narrow ranges come from the file again, a step a bucket.
        begun = Stopwatch.GetTimestamp();
        (_, long[] narrow, bool whole) = Range(reader, null, Peak - 100, Peak + 100);
        Assert.Equal((201, Peak - 100L, Peak + 100L, true), (narrow.Length, narrow[0], narrow[^1], whole));
        Assert.Equal((Peak - 100) * 0.5, reader.Read(Peak - 100, Peak + 100, 1000, null, r => r.Series[0].Seconds));
        output.WriteLine($"a range of 201 steps twice in {Stopwatch.GetElapsedTime(begun).TotalMilliseconds:F0} ms");
        Assert.Equal(99f, Largest(reader, Peak - 3000, Peak + 3000));
        Assert.InRange(Range(reader, null, Peak - 3000, Peak + 3000).Steps.Length, 500, 1001);

        File.AppendAllText(path, RunFiles.Step(Lines + 1));
        Advance(reader);
        (_, steps, whole) = Range(reader, cursor);
        Assert.Equal((false, Lines + 1L), (whole, steps[^1]));
        Assert.InRange(steps.Length, 1, 2);
    }

    [Fact]
    public void Joined_buckets_hold_least_largest_mean_and_number()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("metrics.jsonl");
        int lines = RunReader.MostBuckets * 3;
        var text = new StringBuilder();
        for (int step = 1; step <= lines; step++)
        {
            text.Append(RunFiles.Step(step, step % 7));
            if (step % 10 == 0) text.Append(RunFiles.Validation(step, step));
        }

        File.WriteAllText(path, text.ToString());
        var reader = new RunReader(path);
        Advance(reader);
        reader.Read(0, lines, 2000, null, range =>
        {
            int loss = Index(range, "loss"), validation = Index(range, "val_loss");
            int seen = 0;
            for (int b = range.First; b < range.End; b++)
            {
                RunSeries.Bucket bucket = range.Series[b];
                long[] steps = [.. Enumerable.Range((int)bucket.First, (int)(bucket.Last - bucket.First + 1)).Select(i => (long)i)];
                RunSeries.Value value = range.Series.At(loss, b)!.Value;
                Assert.Equal((steps.Min(s => s % 7), steps.Max(s => s % 7), steps.Average(s => s % 7), steps.Length), ((long)value.Least, (long)value.Largest, value.Mean, value.Number));
                long[] validated = [.. steps.Where(s => s % 10 == 0)];
                Assert.Equal(validated.Length, range.Series.At(validation, b)?.Number ?? 0);
                if (validated.Length > 0) Assert.Equal(validated.Average(), range.Series.At(validation, b)!.Value.Mean);
                Assert.Equal((bucket.Last * 100, bucket.Last * 0.5), (bucket.Tokens, bucket.Seconds));
                seen += steps.Length;
            }

            output.WriteLine($"{range.End - range.First} buckets of {1 << range.Series.Shift} steps");
            Assert.Equal(lines, seen);
            return true;
        });
    }

    [Fact]
    public void Loads_are_found_by_step_and_by_layer()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("metrics.jsonl");
        var text = new StringBuilder();
        for (int step = 1; step <= 50; step++) text.Append(RunFiles.Step(step) + (step % 10 == 0 ? RunFiles.Loads(step) : ""));
        File.WriteAllText(path, text.ToString());
        var reader = new RunReader(path);
        Assert.Equal((5, 50L, 0L), (Advance(reader).ExpertSteps, Advance(reader).LastExpertStep, Advance(reader).DamagedLines));

        (ExpertSnapshot? newest, IReadOnlyList<long> steps) = reader.ReadExperts(null, 500);
        Assert.Equal([10, 20, 30, 40, 50], steps);
        Assert.Equal((50L, 50L, 50L), (newest!.Step, newest.Load[0][0], newest.Load[1][3]));
        Assert.Equal([1, 3], newest.Layers);
        Assert.Equal([-0.5, 0.25], newest.Bias![0]);
        Assert.Equal(20, reader.ReadExperts(29, 500).Snapshot!.Step);
        Assert.Equal(10, reader.ReadExperts(3, 500).Snapshot!.Step);
        Assert.Equal([10, 30, 50], reader.ReadExperts(null, 3).Steps);

        IReadOnlyList<(long Step, long[] Load)> layer = reader.ReadLayer(3, 200);
        Assert.Equal([10, 20, 30, 40, 50], layer.Select(l => l.Step));
        Assert.Equal([5, 6, 7, 40], layer[3].Load);
        Assert.Empty(reader.ReadLayer(2, 200));
    }

    [Fact]
    public void Of_very_many_loads_every_second_one_is_forgotten_and_the_newest_never()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("metrics.jsonl");
        var reader = new RunReader(path);
        const int Many = 20_000;
        File.WriteAllText(path, string.Concat(Enumerable.Range(1, Many).Select(i => RunFiles.Loads(i))));
        RunState state = Advance(reader);
        output.WriteLine($"{state.ExpertSteps} of {Many} are known");
        Assert.InRange(state.ExpertSteps, 1000, 4096);
        Assert.Equal(Many, state.LastExpertStep);
        IReadOnlyList<long> steps = reader.ReadExperts(null, 500).Steps;
        Assert.Equal((500, 1L, Many), (steps.Count, steps[0], steps[^1]));
        Assert.Equal(steps.Order().Distinct(), steps);
        Assert.Equal(12345, reader.ReadExperts(12345, 1).Snapshot!.Step, 16.0);
    }

    private static RunState Advance(RunReader reader)
    {
        long budget = long.MaxValue;
        return reader.Advance(ref budget);
    }

    private static (string Cursor, long[] Steps, bool Whole) Range(RunReader reader, string? cursor = null, long from = 0, long to = long.MaxValue) => reader.Read(from, to, 1000, cursor, range =>
        (range.Cursor, Enumerable.Range(range.First, range.End - range.First).Select(i => range.Series[i].Last).ToArray(), range.IsWhole));

    private static float Largest(RunReader reader, long from, long to) => reader.Read(from, to, 1000, null, range =>
        Enumerable.Range(range.First, range.End - range.First).Max(b => range.Series.At(Index(range, "loss"), b)?.Largest ?? 0));

    private static int Index(RunRange range, string name) => Enumerable.Range(0, range.Names.Count).First(i => range.Names[i] == name);
}

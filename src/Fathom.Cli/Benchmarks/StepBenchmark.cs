// Where the time of a decode step goes, operator by operator, and what each must take at least: its multiplications at the measured peak
// of the team or its bytes at the measured read bandwidth, whichever is longer. The floor of a model whose active weights lie in the
// last-level cache can be undercut. The whole is timed without the marks.
using System.Diagnostics;
using Fathom.Compute.Cpu;
using Fathom.Inference;
using Fathom.Model;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>A decode step of the engine, for several numbers of streams.</summary>
internal static class StepBenchmark
{
    private const int Cached = 128;
    private static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(0.4);

    /// <summary>Rows for the preset `small` with random weights in BF16, and for experts and dense layers that have to be read from memory.</summary>
    public static IEnumerable<BenchmarkRow> Run(Sampling sampling) => OfSmall(sampling).Concat(OfExperts(sampling)).Concat(OfDense(sampling));

    private static IEnumerable<BenchmarkRow> OfExperts(Sampling sampling)
    {
        using var checkpoint = new RandomCheckpoint(RandomCheckpoint.Experts(sampling.Quick ? 3 : 6));
        string folder = checkpoint.Folder(DType.BF16), name = $"{Short(checkpoint.FileBytes(DType.BF16))}B of experts";
        foreach (int streams in (int[])[1, 32])
        {
            MachinePeaks peaks = sampling.MeasurePeaks();
            using var step = new Step(LoadedModel.Open(sampling.Device, folder).Model, streams);
            double whole = step.Seconds(sampling.Quick ? 10 : 40);
            yield return new BenchmarkRow($"step of {streams} streams, {name}", whole * 1e3, "ms") { Note = Invariant($"{streams / whole:F0} tokens/s") };
            foreach (BenchmarkRow row in Breakdown(sampling, folder, streams, peaks)) yield return row;
        }
    }

    private static IEnumerable<BenchmarkRow> OfDense(Sampling sampling)
    {
        using var checkpoint = new RandomCheckpoint(RandomCheckpoint.Dense(sampling.Quick ? 3 : 5));
        foreach (DType format in (DType[])[DType.BF16, DType.F8E4M3])
        {
            string folder = checkpoint.Folder(format), name = $"{Short(checkpoint.FileBytes(format))}B dense in {(format == DType.BF16 ? "BF16" : "FP8")}";
            using var step = new Step(LoadedModel.Open(sampling.Device, folder).Model, 1);
            yield return new BenchmarkRow($"step of 1 streams, {name}", step.Seconds(sampling.Quick ? 10 : 40) * 1e3, "ms");
            foreach (BenchmarkRow row in Breakdown(sampling, folder, 1, sampling.MeasurePeaks())) yield return row;
        }
    }

    private static IEnumerable<BenchmarkRow> OfSmall(Sampling sampling)
    {
        using var checkpoint = new RandomCheckpoint(ModelPresets.Get("small") with { NumNextnPredictLayers = 0 });
        string folder = checkpoint.Folder(DType.BF16);
        foreach (int streams in (int[])[1, 2, 4, 8, 16, 32])
        {
            MachinePeaks peaks = sampling.MeasurePeaks();
            DeepSeekModel model = LoadedModel.Open(sampling.Device, folder).Model;
            using var step = new Step(model, streams);
            double whole = step.Seconds(sampling.Quick ? 40 : 160);
            yield return new BenchmarkRow($"step of {streams} streams, small", whole * 1e3, "ms") { Note = Invariant($"{streams / whole:F0} tokens/s") };
            if (streams is not (1 or 32)) continue;
            foreach (BenchmarkRow row in Breakdown(sampling, folder, streams, peaks)) yield return row;
        }
    }

    private static List<BenchmarkRow> Breakdown(Sampling sampling, string folder, int streams, MachinePeaks peaks)
    {
        var marks = new List<long>();
        using var recorder = new RecordingDevice(sampling.Device, () =>
        {
            marks.Add(Stopwatch.GetTimestamp());
            return marks.Count - 1;
        });
        using var step = new Step(LoadedModel.Open(recorder, folder).Model, streams);
        step.Run();
        double[] best = [];
        OperatorCall[] calls = [];
        for (int i = 0; i < 60; i++)
        {
            recorder.Clear();
            marks.Clear();
            step.Run();
            calls = [.. recorder.Calls];
            if (i == 0) best = [.. calls.Select(_ => double.PositiveInfinity)];
            for (int c = 0; c < calls.Length; c++) best[c] = Math.Min(best[c], Stopwatch.GetElapsedTime(marks[calls[c].From], marks[calls[c].To]).TotalSeconds);
        }

        var shares = calls.Select((call, c) => (Call: call, Seconds: best[c]))
            .GroupBy(c => $"{c.Call.Family}.{c.Call.Operator} {c.Call.Cost.Label}")
            .Select(g => (Name: g.Key, Calls: g.Count(), Seconds: g.Sum(c => c.Seconds), Floor: g.Sum(c => c.Call.Cost.Floor(peaks))))
            .OrderByDescending(g => g.Seconds).ToList();
        double sum = shares.Sum(s => s.Seconds), floor = shares.Sum(s => s.Floor);
        var rows = new List<BenchmarkRow> { new($"  operators of {streams} streams, one by one", sum * 1e3, "ms") { Note = Invariant($"{calls.Length} calls, floor {floor * 1e3:F2} ms") } };
        rows.AddRange(shares.Where(s => s.Seconds > sum / 200).Select(s => new BenchmarkRow($"    {s.Name}", s.Seconds * 1e3, "ms")
        {
            Note = Invariant($"{s.Calls} calls, floor {s.Floor * 1e3:F3} ms, {Percent(s.Floor / s.Seconds)}"),
        }));
        return rows;
    }

    /// <summary>A step that can be repeated: the same tokens at the same places.</summary>
    private sealed class Step : IDisposable
    {
        private readonly DeepSeekModel model;
        private readonly LatentCache cache;
        private readonly InferencePass pass;
        private readonly CachedSequence[] sequences;

        public Step(DeepSeekModel model, int streams)
        {
            this.model = model;
            cache = new LatentCache(model.Device, model.Config, streams * Cached, DType.BF16);
            pass = new InferencePass(model.Device, byRow: true);
            sequences = [.. Enumerable.Range(0, streams).Select(_ => new CachedSequence(cache.Pool))];
            foreach (CachedSequence sequence in sequences) sequence.TryGrow(Cached);
        }

        public void Run()
        {
            pass.Clear();
            for (int i = 0; i < sequences.Length; i++) pass.AddDecode(sequences[i], Cached - 1, [(i * 997 + 13) % model.Config.VocabSize], 1);
            model.Infer(pass, cache);
        }

        /// <summary>Least time of a step over several.</summary>
        public double Seconds(int count)
        {
            // Long enough for the run time to compile what it thinks is used often.
            long started = Stopwatch.GetTimestamp();
            while (Stopwatch.GetElapsedTime(started) < WarmUp) Run();
            double best = double.PositiveInfinity;
            for (int i = 0; i < count; i++)
            {
                long start = Stopwatch.GetTimestamp();
                Run();
                best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
            }

            return best;
        }

        public void Dispose()
        {
            foreach (CachedSequence sequence in sequences) sequence.Dispose();
        }
    }
}

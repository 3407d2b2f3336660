// Whether drafts of the MTP module pay: how many are accepted, by place, and tokens a second with none, one and two, on texts that the
// model was not trained on. A draft costs a row more in the model's step and a pass of the module; a step brings one token and the accepted
// ones. Both costs are measured by themselves, so that a loss can be explained: a draft pays where 1 + acceptance is more than the step
// with it over the step without.
using System.Diagnostics;
using Fathom.Inference;
using Fathom.Model;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>Drafting with a trained model.</summary>
/// <param name="model">With an MTP module.</param>
/// <param name="prompts">Beginnings of texts, at least one.</param>
/// <param name="tokens">To generate for each.</param>
/// <param name="runs">Of each row; the fastest counts.</param>
internal sealed class DraftBenchmark(LoadedModel model, IReadOnlyList<int[]> prompts, int tokens, int runs)
{
    private const int MostDrafts = 2, CostSamples = 400;
    private static readonly int[] Streams = [1, 8];
    private static readonly float[] Temperatures = [0, 0.7f, 1];

    /// <summary>All rows: costs first.</summary>
    public IEnumerable<BenchmarkRow> Run()
    {
        foreach (int streams in Streams)
        {
            foreach (BenchmarkRow row in Costs(streams)) yield return row;
        }

        Measure(Streams[^1], 1, MostDrafts, always: true); // compiles
        foreach (int streams in Streams)
        {
            foreach (float temperature in Temperatures)
            {
                Outcome none = Measure(streams, temperature, 0, always: false);
                yield return Row(none, "no drafts", none);
                for (int drafts = 1; drafts <= MostDrafts; drafts++) yield return Row(Measure(streams, temperature, drafts, always: true), drafts == 1 ? "1 draft" : $"{drafts} drafts", none);
                yield return Row(Measure(streams, temperature, 1, always: false), "1 draft, where it pays", none);
            }
        }
    }

    private static BenchmarkRow Row(Outcome outcome, string drafts, Outcome none)
    {
        string accepted = outcome.Acceptance.Length == 0 ? "" : "; accepted " + string.Join(", ", outcome.Acceptance.Select(Percent));
        string temperature = outcome.Temperature == 0 ? "greedy" : Invariant($"temperature {outcome.Temperature}");
        return new BenchmarkRow($"{outcome.Streams} stream{(outcome.Streams == 1 ? "" : "s")}, {temperature}, {drafts}", outcome.TokensPerSecond, "tokens/s")
        {
            Note = Invariant($"{outcome.TokensPerSecond / none.TokensPerSecond:F2} x; {outcome.StepSeconds * 1e3:F2} ms a step{accepted}"),
        };
    }

    private Outcome Measure(int streams, float temperature, int drafts, bool always)
    {
        int context = prompts.Max(p => p.Length) + tokens + 1;
        using var engine = new InferenceEngine(
            model, new EngineOptions { ContextTokens = context, CacheTokens = 2L * streams * (context + BlockPool.BlockSize), DraftTokens = drafts, DraftAlways = always });
        double best = 0;
        for (int run = 0; run < runs; run++)
        {
            Task<TimedStream>[] running = [.. Enumerable.Range(0, streams).Select(i => EngineLoad.Generate(engine, Request(run * streams + i, temperature)))];
            best = Math.Max(best, EngineLoad.TokensPerSecond(running));
        }

        EngineStatistics statistics = engine.Statistics;
        double[] acceptance = [.. statistics.DraftedTokens.Zip(statistics.AcceptedTokens, (drafted, accepted) => drafted == 0 ? 0 : (double)accepted / drafted)];
        return new Outcome(streams, temperature, best, statistics.StepSeconds / statistics.Steps, acceptance);
    }

    private GenerationRequest Request(int number, float temperature) => new()
    {
        Prompt = prompts[number % prompts.Count],
        Sampling = new SamplingOptions { Temperature = temperature, Seed = (ulong)number, MaxNewTokens = tokens, StopAtEos = false },
    };

    /// <summary>What the parts of a step take, for some streams: the model with one, two and three rows of each, and a pass of the module.</summary>
    private List<BenchmarkRow> Costs(int streams)
    {
        var cache = new LatentCache(model.Model.Device, model.Model.Config, 2L * streams * BlockPool.BlockSize, DType.BF16, 1);
        var pass = new InferencePass(model.Model.Device, byRow: true) { KeepsHidden = true };
        var module = new InferencePass(model.Model.Device, byRow: true);
        CachedSequence[] sequences = [.. Enumerable.Range(0, streams).Select(_ => new CachedSequence(cache.Pool))];
        foreach (CachedSequence sequence in sequences) sequence.TryGrow(BlockPool.BlockSize);
        int[] text = [.. prompts.SelectMany(p => p)];
        string name = $"{streams} stream{(streams == 1 ? "" : "s")}";
        double[] steps = new double[MostDrafts + 2];
        var rows = new List<BenchmarkRow>();
        for (int count = 1; count <= MostDrafts + 1; count++)
        {
            int each = count;
            steps[count] = Median(i => Step(pass, i, each), null);
            rows.Add(new BenchmarkRow($"{name}: a step with {count} row{(count == 1 ? "" : "s")} of each", steps[count] * 1e3, "ms") { Note = Invariant($"{steps[count] / steps[1]:F2} x of one row") });
        }

        double draft = Median(i => Module(i), i => Step(pass, i, 1));
        rows.Add(new BenchmarkRow($"{name}: a pass of the module", draft * 1e3, "ms")
        {
            Note = Invariant($"one draft pays from {Percent((steps[2] + draft) / steps[1] - 1)} accepted"),
        });
        foreach (CachedSequence sequence in sequences) sequence.Dispose();
        return rows;

        void Step(InferencePass into, int number, int each)
        {
            into.Clear();
            for (int s = 0; s < streams; s++)
            {
                int[] ids = [.. Enumerable.Range(0, each).Select(i => text[(number * 31 + s * 7 + i) % text.Length])];
                into.AddDecode(sequences[s], BlockPool.BlockSize - each, ids, each);
            }

            model.Model.Infer(into, cache);
        }

        void Module(int number)
        {
            module.Clear();
            for (int s = 0; s < streams; s++) module.AddDecode(sequences[s], BlockPool.BlockSize - 1, [text[(number * 17 + s * 5) % text.Length]], 1, s);
            model.Model.InferMtp(module, pass.Hidden, cache);
        }
    }

    private static double Median(Action<int> work, Action<int>? before)
    {
        double[] seconds = new double[CostSamples];
        for (int i = -CostSamples; i < CostSamples; i++)
        {
            before?.Invoke(i + CostSamples);
            long start = Stopwatch.GetTimestamp();
            work(i + CostSamples);
            if (i >= 0) seconds[i] = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        return seconds.Order().ElementAt(CostSamples / 2);
    }

    /// <summary>What a configuration brought.</summary>
    private sealed record Outcome(int Streams, float Temperature, double TokensPerSecond, double StepSeconds, double[] Acceptance);
}

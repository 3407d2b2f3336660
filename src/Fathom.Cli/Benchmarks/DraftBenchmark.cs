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
/// <param name="runs">Rounds in which rows that are compared take turns; of each the fastest counts.</param>
internal sealed class DraftBenchmark(LoadedModel model, IReadOnlyList<int[]> prompts, int tokens, int runs)
{
    private const int MostDrafts = 2, CostSteps = 40, CostRounds = 40;
    private static readonly int[] Streams = [1, 8];
    private static readonly float[] Temperatures = [0, 0.7f, 1];

    /// <summary>All rows: costs first.</summary>
    public IEnumerable<BenchmarkRow> Run()
    {
        foreach (int streams in Streams)
        {
            foreach (BenchmarkRow row in Costs(streams)) yield return row;
        }

        foreach (int streams in Streams)
        {
            foreach (float temperature in Temperatures)
            {
                foreach (BenchmarkRow row in Compare(streams, temperature)) yield return row;
            }
        }
    }

    /// <summary>No drafts, one, two, and one where the engine finds that it pays.</summary>
    private List<BenchmarkRow> Compare(int streams, float temperature)
    {
        (string Name, int Drafts, bool Always)[] kinds = [("no drafts", 0, false), ("1 draft", 1, true), ("2 drafts", 2, true), ("1 draft where it pays", 1, false)];
        int context = prompts.Max(p => p.Length) + tokens + 1;
        InferenceEngine[] engines = [.. kinds.Select(kind => new InferenceEngine(
            model, new EngineOptions { ContextTokens = context, CacheTokens = 2L * streams * (context + BlockPool.BlockSize), DraftTokens = kind.Drafts, DraftAlways = kind.Always }))];
        double[] best = new double[kinds.Length];
        for (int round = -1; round < runs; round++)
        {
            for (int k = 0; k < kinds.Length; k++)
            {
                InferenceEngine engine = engines[k];
                double speed = EngineLoad.TokensPerSecond([.. Enumerable.Range(0, streams).Select(i => EngineLoad.Generate(engine, Request(Math.Max(0, round) * streams + i, temperature)))]);
                if (round >= 0) best[k] = Math.Max(best[k], speed); // the first round compiles
            }
        }

        var rows = new List<BenchmarkRow>();
        for (int k = 0; k < kinds.Length; k++)
        {
            EngineStatistics statistics = engines[k].Statistics;
            IEnumerable<string> shares = statistics.DraftedTokens.Zip(statistics.AcceptedTokens, (drafted, accepted) => drafted == 0 ? "none tried" : Percent((double)accepted / drafted));
            rows.Add(new BenchmarkRow($"{Name(streams)}, {(temperature == 0 ? "greedy" : Invariant($"temperature {temperature}"))}, {kinds[k].Name}", best[k], "tokens/s")
            {
                Note = Invariant($"{best[k] / best[0]:F2} x") + (kinds[k].Drafts == 0 ? "" : "; accepted " + string.Join(", ", shares)),
            });
            engines[k].Dispose();
        }

        return rows;
    }

    private static string Name(int streams) => streams == 1 ? "1 stream" : $"{streams} streams";

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
        var parts = new Action<int>[] { i => Step(pass, i, 1), i => Step(pass, i, 2), i => Step(pass, i, 3), Module };
        double[] best = [.. parts.Select(_ => double.PositiveInfinity)];
        for (int round = -CostRounds; round < CostRounds; round++)
        {
            for (int p = 0; p < parts.Length; p++)
            {
                double seconds = Seconds(parts[p], (round + CostRounds) * CostSteps);
                if (round >= 0) best[p] = Math.Min(best[p], seconds);
            }
        }

        foreach (CachedSequence sequence in sequences) sequence.Dispose();
        string name = Name(streams);
        return
        [
            new BenchmarkRow($"{name}: a step with a row of each", best[0] * 1e3, "ms"),
            new BenchmarkRow($"{name}: a step with 2 rows of each", best[1] * 1e3, "ms") { Note = Invariant($"{best[1] / best[0]:F2} x") },
            new BenchmarkRow($"{name}: a step with 3 rows of each", best[2] * 1e3, "ms") { Note = Invariant($"{best[2] / best[0]:F2} x") },
            new BenchmarkRow($"{name}: a pass of the module with a row of each", best[3] * 1e3, "ms")
            {
                Note = Invariant($"{best[3] / best[0]:F2} x; one draft pays from {Percent((best[1] + best[3]) / best[0] - 1)} accepted"),
            },
        ];

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

    /// <summary>Mean seconds of some calls, with different tokens.</summary>
    private static double Seconds(Action<int> work, int first)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = first; i < first + CostSteps; i++) work(i);
        return Stopwatch.GetElapsedTime(start).TotalSeconds / CostSteps;
    }
}

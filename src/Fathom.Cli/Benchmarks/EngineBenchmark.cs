// Many streams at once: a step reads the weights once for all of them, so 32 streams should bring many times the tokens of one. A long
// prompt must not hold the others up for longer than a step, and a prompt that begins like one before should cost what is new in it.
using System.Diagnostics;
using Fathom.Inference;
using Fathom.Model;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>Tokens a second of one stream and of many, the delay by a long prompt, and the first token behind a known prefix.</summary>
internal static class EngineBenchmark
{
    private const int Streams = 32, Context = 4608, LongPrompt = 4000, Prefix = 2000;

    /// <summary>Rows for the preset `small` with random weights in BF16.</summary>
    public static IEnumerable<BenchmarkRow> Run(Sampling sampling)
    {
        using var checkpoint = new RandomCheckpoint(ModelPresets.Get("small") with { MaxPositionEmbeddings = Context, NumNextnPredictLayers = 0 });
        LoadedModel model = LoadedModel.Open(sampling.Device, checkpoint.Folder(DType.BF16));
        using var engine = new InferenceEngine(model, new EngineOptions { ContextTokens = Context, CacheTokens = 16 * Context });
        int vocabulary = model.Model.Config.VocabSize, tokens = sampling.Quick ? 48 : 128;
        Generate(engine, Request(vocabulary, 16, 8, 0)).Wait();

        double alone = TokensPerSecond([Generate(engine, Request(vocabulary, 64, tokens, 1))]);
        double together = TokensPerSecond([.. Enumerable.Range(0, Streams).Select(i => Generate(engine, Request(vocabulary, 64, tokens, 10 + (ulong)i)))]);
        yield return new BenchmarkRow("engine, small, one stream", alone, "tokens/s");
        yield return new BenchmarkRow($"engine, small, {Streams} streams", together, "tokens/s");
        yield return new BenchmarkRow($"engine, {Streams} streams over one", together / alone, "x", new Goal(6, AtLeast: true, "≥ 6 x"));

        Task<Stream>[] running = [.. Enumerable.Range(0, 8).Select(i => Generate(engine, Request(vocabulary, 64, 4 * tokens, 100 + (ulong)i)))];
        Thread.Sleep(TimeSpan.FromSeconds(0.5));
        long calmUntil = Stopwatch.GetTimestamp();
        EngineStatistics before = engine.Statistics;
        Stream prompt = Generate(engine, Request(vocabulary, LongPrompt, 1, 200)).Result;
        EngineStatistics after = engine.Statistics;
        double step = (after.StepSeconds - before.StepSeconds) / (after.Steps - before.Steps);
        double worst = running.Max(r => r.Result.LongestGap(calmUntil, prompt.Ended)), calm = running.Max(r => r.Result.LongestGap(0, calmUntil));
        yield return new BenchmarkRow($"longest gap of 8 streams beside {LongPrompt} tokens", worst * 1e3, "ms") { Note = Invariant($"{calm * 1e3:F0} ms without, {step * 1e3:F0} ms a step with it") };

        double cold = Generate(engine, Request(vocabulary, Prefix + 40, 1, 300)).Result.FirstSeconds;
        double warm = Enumerable.Range(1, 3).Min(i => Generate(engine, Request(vocabulary, Prefix + 40, 1, 300, own: (ulong)i)).Result.FirstSeconds);
        yield return new BenchmarkRow($"first token, {Prefix} tokens known of {Prefix + 40}", warm * 1e3, "ms") { Note = Invariant($"{cold * 1e3:F0} ms without") };
        yield return new BenchmarkRow("first token, without the prefix over with it", cold / warm, "x", new Goal(5, AtLeast: true, "≥ 5 x"));
    }

    /// <summary>The prompt's first tokens follow from one seed, the last forty from another.</summary>
    private static GenerationRequest Request(int vocabulary, int length, int tokens, ulong seed, ulong own = 0)
    {
        var random = new Philox(seed, "benchmark prompt");
        var ownRandom = new Philox(own, "benchmark question");
        int common = Math.Max(0, length - 40);
        return new GenerationRequest
        {
            Prompt = [.. Enumerable.Range(0, length).Select(i => (int)(i < common ? random : ownRandom).Integer((ulong)i, vocabulary))],
            Sampling = new SamplingOptions { Seed = seed, MaxNewTokens = tokens, StopAtEos = false },
        };
    }

    private static async Task<Stream> Generate(InferenceEngine engine, GenerationRequest request)
    {
        long submitted = Stopwatch.GetTimestamp();
        var times = new List<long>();
        await foreach (GenerationPiece piece in engine.Submit(request).ConfigureAwait(false))
        {
            for (int i = 0; i < piece.Tokens.Count; i++) times.Add(Stopwatch.GetTimestamp());
        }

        return new Stream(submitted, times);
    }

    /// <summary>From the last first token to the first last one, while all of them run.</summary>
    private static double TokensPerSecond(Task<Stream>[] tasks)
    {
        Task.WaitAll(tasks);
        long start = tasks.Max(t => t.Result.Times[0]), end = tasks.Min(t => t.Result.Times[^1]);
        return tasks.Sum(t => t.Result.Times.Count(time => time > start && time <= end)) / Stopwatch.GetElapsedTime(start, end).TotalSeconds;
    }

    /// <summary>When the tokens of a stream came.</summary>
    private sealed record Stream(long Submitted, List<long> Times)
    {
        public long Ended => Times[^1];

        public double FirstSeconds => Stopwatch.GetElapsedTime(Submitted, Times[0]).TotalSeconds;

        public double LongestGap(long from, long until)
        {
            double longest = 0;
            for (int i = 1; i < Times.Count; i++)
            {
                if (Times[i] >= from && Times[i - 1] <= until) longest = Math.Max(longest, Stopwatch.GetElapsedTime(Times[i - 1], Times[i]).TotalSeconds);
            }

            return longest;
        }
    }
}

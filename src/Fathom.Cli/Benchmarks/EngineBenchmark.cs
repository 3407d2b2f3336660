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
    private const int Streams = 32, OtherStreams = 8, Context = 4608, LongPrompt = 4000, Prefix = 2000;

    /// <summary>Rows for the preset `small` and for models larger than the caches, dense and of experts, with random weights in BF16.</summary>
    public static IEnumerable<BenchmarkRow> Run(Sampling sampling)
    {
        using var checkpoint = new RandomCheckpoint(ModelPresets.Get("small") with { MaxPositionEmbeddings = Context, NumNextnPredictLayers = 0 });
        LoadedModel model = LoadedModel.Open(sampling.Device, checkpoint.Folder(DType.BF16));
        var options = new EngineOptions { ContextTokens = Context, CacheTokens = 16 * Context };
        using var engine = new InferenceEngine(model, options);
        int vocabulary = model.Model.Config.VocabSize, tokens = sampling.Quick ? 96 : 256;
        foreach (BenchmarkRow row in OneAndMany(engine, "small", 64, tokens, sampling.Quick ? 2 : 5)) yield return row;
        foreach (BenchmarkRow row in Large(RandomCheckpoint.Dense(layers: 3), "dense").Concat(Large(RandomCheckpoint.Experts(layers: 6), "of experts"))) yield return row;
        yield return Delay(model, options, vocabulary, 6 * tokens);

        double cold = EngineLoad.Generate(engine, Request(vocabulary, Prefix + 40, 1, 300)).Result.FirstSeconds;
        double warm = Enumerable.Range(1, 3).Min(i => EngineLoad.Generate(engine, Request(vocabulary, Prefix + 40, 1, 300, own: (ulong)i)).Result.FirstSeconds);
        yield return new BenchmarkRow($"first token, {Prefix} tokens known of {Prefix + 40}", warm * 1e3, "ms") { Note = Invariant($"{cold * 1e3:F0} ms without") };
        yield return new BenchmarkRow("first token, without the prefix over with it", cold / warm, "x", new Goal(5, AtLeast: true, "≥ 5 x"));

        IEnumerable<BenchmarkRow> Large(ModelConfig config, string name)
        {
            using var large = new RandomCheckpoint(config);
            using var other = new InferenceEngine(LoadedModel.Open(sampling.Device, large.Folder(DType.BF16)), new EngineOptions { ContextTokens = 256, CacheTokens = 64 * 256 });
            foreach (BenchmarkRow row in OneAndMany(other, $"{Short(large.FileBytes(DType.BF16))}B {name}", 16, sampling.Quick ? 24 : 48, sampling.Quick ? 1 : 3)) yield return row;
        }
    }

    /// <summary>One stream and many in turn, several times; of each the fastest.</summary>
    private static IEnumerable<BenchmarkRow> OneAndMany(InferenceEngine engine, string name, int prompt, int tokens, int runs)
    {
        int vocabulary = engine.Model.Model.Config.VocabSize;
        Together(24, Streams); // compiles what a step needs
        double alone = 0, together = 0;
        for (int run = 0; run < runs; run++)
        {
            alone = Math.Max(alone, Together(tokens, 1));
            together = Math.Max(together, Together(tokens, Streams));
        }

        yield return new BenchmarkRow($"engine, {name}, one stream", alone, "tokens/s");
        yield return new BenchmarkRow($"engine, {name}, {Streams} streams", together, "tokens/s");
        yield return new BenchmarkRow($"engine, {name}, {Streams} streams over one", together / alone, "x", new Goal(6, AtLeast: true, "≥ 6 x"));

        double Together(int count, int streams) => EngineLoad.TokensPerSecond(
            [.. Enumerable.Range(0, streams).Select(i => EngineLoad.Generate(engine, Request(vocabulary, prompt, count, 10 + (ulong)i)))]);
    }

    /// <summary>
    /// How much later than usual the latest token of other streams comes while a long prompt is read, over the time of a chunk: the longest
    /// step of an engine that has had no other long prompt.
    /// </summary>
    private static BenchmarkRow Delay(LoadedModel model, EngineOptions options, int vocabulary, int tokens)
    {
        using var engine = new InferenceEngine(model, options);
        Task<TimedStream>[] running = [.. Enumerable.Range(0, OtherStreams).Select(i => EngineLoad.Generate(engine, Request(vocabulary, 64, tokens, 100 + (ulong)i)))];
        Thread.Sleep(TimeSpan.FromSeconds(0.5));
        long calmUntil = Stopwatch.GetTimestamp();
        TimedStream prompt = EngineLoad.Generate(engine, Request(vocabulary, LongPrompt, 1, 200)).Result;
        double chunk = engine.Statistics.LongestStepSeconds;
        TimedStream[] streams = Task.WhenAll(running).Result;
        if (streams.Any(s => s.Ended < prompt.Ended)) throw new InvalidOperationException($"streams of {tokens} tokens ended before a prompt of {LongPrompt} was read");
        long calmFrom = streams.Max(s => s.Times[0]);
        double usual = streams.SelectMany(s => s.Gaps(calmFrom, calmUntil)).Average(); // not the median: a reader may meet several at once
        double longest = streams.Max(s => s.Gaps(calmUntil, prompt.Ended).Max());
        return new BenchmarkRow($"delay of {OtherStreams} streams by {LongPrompt} tokens, in chunks", (longest - usual) / chunk, "x", new Goal(1, AtLeast: false, "≤ 1 x"))
        {
            Note = Invariant($"longest gap {longest * 1e3:F1} ms, usually {usual * 1e3:F1} ms; longest step with a chunk {chunk * 1e3:F1} ms"),
        };
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
}

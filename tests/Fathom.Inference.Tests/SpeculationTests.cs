// Drafts may change how fast a text comes, never the text: neither greedy nor sampled, nor when memory runs short.
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class SpeculationTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(1, 4096, PrefixReuse.Prompts, "cpu")]
    [InlineData(3, 4096, PrefixReuse.Prompts, "cpu")]
    [InlineData(2, 640, PrefixReuse.None, "cpu")]
    [InlineData(2, 640, PrefixReuse.Prompts, "cpu")]
    [InlineData(1, 4096, PrefixReuse.Prompts, "cuda")]
    [InlineData(2, 640, PrefixReuse.Prompts, "cuda")]
    public async Task Texts_are_the_same_with_drafts_and_without(int drafts, int cacheTokens, PrefixReuse reuse, string deviceName)
    {
        using Compute.Device device = TestDevices.Open(deviceName);
        LoadedModel model = TestModels.Loaded(device, TestModels.Config(vocabulary: 4, mtpModules: 1));
        GenerationRequest[] requests = [.. Enumerable.Range(0, 30).Select(i => Varied(TestModels.Request((ulong)i, 4) with { Priority = i % 3 }, i))];
        var options = new EngineOptions { ContextTokens = 512, CacheTokens = 8192, Reuse = PrefixReuse.None };
        Answer[] expected;
        GenerationRequest[] again = [.. requests.Select(r => r.Constraint is null ? r : r with { Constraint = new EveryOther() })];
        using (var plain = new InferenceEngine(model, options)) expected = await Task.WhenAll(requests.Select(r => TestModels.Run(plain, r)));
        using var drafting = new InferenceEngine(model, options with { DraftTokens = drafts, CacheTokens = cacheTokens, Reuse = reuse });
        Answer[] answers = await Task.WhenAll(again.Select(r => TestModels.Run(drafting, r)));
        EngineStatistics statistics = drafting.Statistics;
        output.WriteLine($"accepted {string.Join(", ", statistics.AcceptedTokens.Zip(statistics.DraftedTokens, (a, d) => $"{a} of {d}"))}; {statistics.Steps} steps, {statistics.Preemptions} preemptions");
        for (int i = 0; i < requests.Length; i++) expected[i].AssertEqual(answers[i], i);
        Assert.Equal(statistics.Blocks, statistics.FreeBlocks);
        Assert.All(statistics.AcceptedTokens, a => Assert.True(a > 0));
        Assert.Equal(statistics.AcceptedTokens.Sum(), answers.Sum(a => a.Result.AcceptedTokens));
    }

    [Fact]
    public async Task Drafts_stop_where_they_do_not_pay_unless_they_are_to_be_measured()
    {
        // Other weights than the model's own foresee nothing, and a pass of the module takes as long as the model's: drafts never pay.
        const int Vocabulary = 330;
        using var device = new CpuDevice(2);
        LoadedModel model = TestModels.Loaded(device, TestModels.Config(vocabulary: Vocabulary, mtpModules: 1));
        var request = new GenerationRequest { Prompt = TestModels.Tokens(3, Vocabulary, 5), Sampling = new SamplingOptions { Seed = 5, MaxNewTokens = 400, StopAtEos = false } };
        var options = new EngineOptions { ContextTokens = 512, DraftTokens = 1, Clock = new SteadyClock() };
        using var free = new InferenceEngine(model, options);
        using var told = new InferenceEngine(model, options with { DraftAlways = true });
        Answer first = await TestModels.Run(free, request), second = await TestModels.Run(told, request);
        first.AssertEqual(second, 0);
        EngineStatistics stopped = free.Statistics, always = told.Statistics;
        output.WriteLine($"400 tokens: {stopped.Drafts} steps with drafts where the engine may stop, {always.Drafts} where it may not ({always.AcceptedTokens[0]} accepted); longest step {always.LongestStepSeconds * 1e3:F2} ms of {always.StepSeconds * 1e3:F0}");
        Assert.InRange(stopped.Drafts, 48, 60);
        Assert.InRange(always.Drafts, 400 - always.AcceptedTokens[0] - 2, 400);
        Assert.InRange(always.LongestStepSeconds, always.StepSeconds / always.Steps, always.StepSeconds);
    }

    /// <summary>A millisecond passes between two looks, whatever the machine does.</summary>
    private sealed class SteadyClock : TimeProvider
    {
        private long looks;

        public override long TimestampFrequency => 1000;

        public override long GetTimestamp() => ++looks;
    }

    // Some choose from the logits as they are, all drafted rows at once; others by what was chosen before, row by row.
    private static GenerationRequest Varied(GenerationRequest request, int i) => (i % 4) switch
    {
        0 => request,
        1 => request with { Sampling = request.Sampling with { LogProbs = null } },
        2 => request with { Sampling = request.Sampling with { LogProbs = null, FrequencyPenalty = 0.1f, RepetitionPenalty = 1.1f, MinNewTokens = 5 } },
        _ => request with { Constraint = new EveryOther() },
    };

    /// <summary>Token 3 in no two places beside each other.</summary>
    private sealed class EveryOther : ITokenConstraint
    {
        private int last;

        public bool IsComplete => false;

        public void Mask(Span<ulong> allowed)
        {
            if (last == 3) allowed[0] &= ~8ul;
        }

        public void Accept(int token)
        {
            Assert.False(last == 3 && token == 3);
            last = token;
        }
    }

    // 64 texts of three tokens, each as often as the product of its conditional probabilities says.
    [Fact]
    public async Task Sampled_texts_follow_the_models_distribution()
    {
        const int Vocabulary = 4, Samples = 6000;
        using var device = new CpuDevice(2);
        LoadedModel model = TestModels.Loaded(device, TestModels.Config(vocabulary: Vocabulary, mtpModules: 1));
        int[] prompt = TestModels.Tokens(9, Vocabulary, 2);
        var expected = new double[64];
        using (var session = new SequenceLogits(model.Model, 64))
        {
            for (int text = 0; text < expected.Length; text++)
            {
                int[] tokens = [text / 16, text / 4 % 4, text % 4];
                expected[text] = 1;
                for (int i = 0; i < 3; i++)
                {
                    session.Truncate(0);
                    float[] logits = session.Prefill([.. prompt, .. tokens[..i]]).ToArray();
                    expected[text] *= Math.Exp(logits[tokens[i]]) / logits.Sum(l => Math.Exp(l));
                }
            }
        }

        using var engine = new InferenceEngine(model, new EngineOptions { ContextTokens = 64, DraftTokens = 2, MostWaiting = Samples });
        Answer[] answers = await Task.WhenAll(Enumerable.Range(0, Samples).Select(i => TestModels.Run(
            engine, new GenerationRequest { Prompt = prompt, Sampling = new SamplingOptions { Seed = (ulong)i, MaxNewTokens = 3 } })));
        double chiSquare = 0;
        foreach (IGrouping<int, Answer> group in answers.GroupBy(a => a.Ids[0] * 16 + a.Ids[1] * 4 + a.Ids[2]))
            chiSquare += Math.Pow(group.Count() - expected[group.Key] * Samples, 2) / (expected[group.Key] * Samples);
        chiSquare += Enumerable.Range(0, 64).Where(t => answers.All(a => a.Ids[0] * 16 + a.Ids[1] * 4 + a.Ids[2] != t)).Sum(t => expected[t] * Samples);
        EngineStatistics statistics = engine.Statistics;
        output.WriteLine($"chi-square {chiSquare:F1} with 63 degrees of freedom (99.9 % below 103.4), {statistics.AcceptedTokens.Sum()} of {statistics.DraftedTokens.Sum()} drafted tokens accepted");
        Assert.Equal(1, expected.Sum(), 6);
        Assert.True(statistics.AcceptedTokens[0] > Samples / 20);
        Assert.True(chiSquare < 103.4);
    }

    [Fact]
    public void Drafting_stops_where_it_costs_more_than_it_brings_and_goes_on_where_it_pays()
    {
        var policy = new DraftPolicy();
        Assert.Equal(0, Run(policy, 10, acceptance: 0.8, draftedSeconds: 1.2));
        int off = Run(policy, 32, acceptance: 0.3, draftedSeconds: 1.6);
        output.WriteLine($"of 1000 steps of 32 sequences {off} without the module");
        Assert.True(off > 900);
        Assert.Equal(DraftMode.Draft, policy.Next(10));

        // Machines stand still at times: in steps of one kind or the other, and for long.
        Assert.InRange(Run(new DraftPolicy(), 32, acceptance: 0.3, draftedSeconds: 1.6, stall: (7, true)), 901, 1000);
        Assert.InRange(Run(new DraftPolicy(), 32, acceptance: 0.3, draftedSeconds: 1.6, stall: (3, false)), 901, 1000);
        Assert.Equal(0, Run(new DraftPolicy(), 10, acceptance: 0.8, draftedSeconds: 1.2, stall: (7, true)));
        Assert.Equal(0, Run(new DraftPolicy(), 10, acceptance: 0.8, draftedSeconds: 1.2, stall: (3, false)));

        // Steps without the module, after which it is tried again.
        int steps = 0;
        while (policy.Next(32) == DraftMode.Off) steps++;
        Assert.InRange(steps, 1, DraftPolicy.StepsOff);

        static int Run(DraftPolicy policy, int sequences, double acceptance, double draftedSeconds, (int Every, bool OfDrafted)? stall = null)
        {
            int off = 0;
            var steps = new int[2];
            DraftMode last = DraftMode.Off;
            for (int i = 0; i < 1000; i++)
            {
                bool drafted = last == DraftMode.Draft;
                double seconds = drafted ? draftedSeconds : 1;
                if (stall is var (every, ofDrafted) && ofDrafted == drafted && ++steps[drafted ? 1 : 0] % every == 1) seconds += 250;
                policy.Observe(drafted, sequences, (int)(sequences * 100 * (drafted ? 1 + acceptance : 1)) / 100, seconds, 0);
                last = policy.Next(sequences);
                if (last == DraftMode.Off) off++;
            }

            return off;
        }
    }

    [Fact]
    public void A_model_without_the_module_says_so()
    {
        using var device = new CpuDevice(1);
        LoadedModel model = TestModels.Loaded(device);
        string message = Assert.Throws<FathomException>(() => new InferenceEngine(model, new EngineOptions { DraftTokens = 1 })).Message;
        Assert.Contains("MTP", message, StringComparison.Ordinal);
    }
}

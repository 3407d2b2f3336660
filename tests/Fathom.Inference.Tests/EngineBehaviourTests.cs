// What a request asks for, and what an engine does when things go wrong.
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Fathom.Text;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class EngineBehaviourTests : IDisposable
{
    private readonly ITestOutputHelper output;
    private readonly CpuDevice device = new(2);
    private readonly Tokenizer tokenizer = BpeTrainer.Train(["the cat sat on the mat and the dog sat on the cat"], new BpeTrainerOptions { VocabularySize = 320 });
    private readonly LoadedModel model;

    public EngineBehaviourTests(ITestOutputHelper output)
    {
        this.output = output;
        model = new LoadedModel("test model", TestModels.Random(device, TestModels.Config(vocabulary: 330)), tokenizer, null, [tokenizer.EosId!.Value]);
    }

    public void Dispose() => device.Dispose();

    [Theory]
    [InlineData("the cat sat on the mat", "sat on", "the cat ")]
    [InlineData("the cat sat on the mat", "t s", "the ca")]
    [InlineData("the cat 🐈 sat", "🐈", "the cat ")]
    [InlineData("the cat 🐈 sat", "dog", "the cat 🐈 sat")]
    [InlineData("the the", "the the", "")]
    public async Task A_stop_sequence_is_found_across_tokens_and_never_shown(string said, string stop, string expected)
    {
        using var engine = new InferenceEngine(model);
        Answer answer = await TestModels.Run(engine, Saying(said, new SamplingOptions { StopSequences = ["nowhere", stop] }));
        output.WriteLine($"\"{answer.Text}\" from {answer.Tokens.Count} tokens, stopped at \"{answer.Result.StopSequence}\"");
        Assert.Equal(expected, answer.Text);
        Assert.Equal(FinishReason.Stop, answer.Result.Reason);
        Assert.Equal(expected == said ? null : stop, answer.Result.StopSequence);
    }

    [Fact]
    public async Task An_end_token_ends_the_text_unless_it_is_ignored()
    {
        int[] said = [.. tokenizer.Encode("the cat"), tokenizer.EosId!.Value, .. tokenizer.Encode(" sat")];
        using var engine = new InferenceEngine(model);
        Answer ended = await TestModels.Run(engine, Saying(said, new SamplingOptions()));
        Answer ignored = await TestModels.Run(engine, Saying(said, new SamplingOptions { StopAtEos = false }));
        Answer kept = await TestModels.Run(engine, Saying(said, new SamplingOptions { StopAtEos = false }) with { KeepSpecialTokens = true });
        Assert.Equal(("the cat", tokenizer.EosId), (ended.Text, ended.Result.EndToken));
        Assert.Equal(("the cat sat", null), (ignored.Text, ignored.Result.EndToken));
        Assert.Equal(tokenizer.Decode(said), kept.Text);
        Assert.Equal(said.Length, ignored.Result.NewTokens);
    }

    [Fact]
    public async Task No_end_token_comes_before_the_least_number_of_tokens()
    {
        var sampling = new SamplingOptions { Temperature = 0, MaxNewTokens = 20, LogitBias = new Dictionary<int, float> { [tokenizer.EosId!.Value] = 100 } };
        using var engine = new InferenceEngine(model);
        Assert.Equal(1, (await TestModels.Run(engine, new GenerationRequest { Prompt = [5], Sampling = sampling })).Result.NewTokens);
        Assert.Equal(8, (await TestModels.Run(engine, new GenerationRequest { Prompt = [5], Sampling = sampling with { MinNewTokens = 7 } })).Result.NewTokens);
    }

    // The definition, computed here from the model's own logits, token by token.
    [Theory]
    [InlineData(0, 0, 1)]
    [InlineData(1.5, 0, 1)]
    [InlineData(0, 1.5, 1)]
    [InlineData(0, 0, 1.8)]
    [InlineData(-1, 0.5, 0.7)]
    public async Task Penalties_biases_and_log_probabilities_are_those_of_their_definitions(float presence, float frequency, float repetition)
    {
        int[] prompt = TestModels.Tokens(20, 330, 4);
        var sampling = new SamplingOptions
        {
            Temperature = 0,
            MaxNewTokens = 40,
            StopAtEos = false,
            PresencePenalty = presence,
            FrequencyPenalty = frequency,
            RepetitionPenalty = repetition,
            LogitBias = new Dictionary<int, float> { [prompt[3]] = 2, [17] = 1.5f },
            LogProbs = 4,
        };
        using var engine = new InferenceEngine(model);
        Answer answer = await TestModels.Run(engine, new GenerationRequest { Prompt = prompt, Sampling = sampling });
        using var session = new SequenceLogits(model.Model, 128);
        float[] logits = session.Prefill(prompt).ToArray();
        var counts = new int[330];
        double worst = 0;
        foreach (GeneratedToken token in answer.Tokens)
        {
            float[] adjusted = [.. logits];
            adjusted[prompt[3]] += 2;
            adjusted[17] += 1.5f;
            for (int v = 0; v < 330; v++)
            {
                if (counts[v] > 0 || prompt.Contains(v)) adjusted[v] = adjusted[v] > 0 ? adjusted[v] / repetition : adjusted[v] * repetition;
                adjusted[v] -= frequency * counts[v] + (counts[v] > 0 ? presence : 0);
            }

            Assert.True(adjusted.Max() - adjusted[token.Id] < 1e-3, $"token {token.Id} is not the most likely");
            double logSum = Math.Log(logits.Sum(l => Math.Exp(l)));
            int[] best = [.. Enumerable.Range(0, 330).OrderByDescending(v => logits[v]).Take(4)];
            worst = Math.Max(worst, Math.Abs(token.LogProb - (logits[token.Id] - logSum)));
            for (int i = 0; i < 4; i++) worst = Math.Max(worst, Math.Abs(token.Alternatives[i].LogProb - (logits[best[i]] - logSum)));
            counts[token.Id]++;
            logits = session.Decode(token.Id).ToArray();
        }

        output.WriteLine($"{counts.Count(c => c > 0)} different tokens of {answer.Tokens.Count}; log-probabilities differ by at most {worst:E2}");
        Assert.Equal(40, answer.Tokens.Count);
        Assert.True(worst < 1e-3); // one pass sums by row, the other as it is fastest
    }

    [Fact]
    public async Task What_a_constraint_forbids_is_not_said_and_its_end_is_the_texts()
    {
        var requests = Enumerable.Range(0, 20).Select(i => new GenerationRequest
        {
            Prompt = TestModels.Tokens(10, 330, (ulong)i),
            Sampling = new SamplingOptions { Seed = (ulong)i, MaxNewTokens = 100 },
            Constraint = new OneOf(tokenizer, ["the cat", "the dog", "the mat sat"]),
        });
        using var engine = new InferenceEngine(model);
        Answer[] answers = await Task.WhenAll(requests.Select(r => TestModels.Run(engine, r)));
        output.WriteLine(string.Join(", ", answers.GroupBy(a => a.Text).Select(g => $"{g.Count()} x {g.Key}")));
        Assert.All(answers, a => Assert.Contains(a.Text, (string[])["the cat", "the dog", "the mat sat"]));
        Assert.All(answers, a => Assert.Equal(FinishReason.Stop, a.Result.Reason));
        Assert.True(answers.Select(a => a.Text).Distinct().Count() > 1);
    }

    [Fact]
    public async Task A_constraint_that_fails_ends_its_own_request_alone()
    {
        using var engine = new InferenceEngine(model);
        GenerationRequest good = TestModels.Request(3, 330), broken = TestModels.Request(5, 330) with { Constraint = new Broken() };
        GenerationRequest nothing = TestModels.Request(6, 330) with { Constraint = new OneOf(tokenizer, []) };
        Answer alone = await TestModels.Run(engine, good);
        Generation failing = engine.Submit(broken), empty = engine.Submit(nothing);
        Answer beside = await TestModels.Run(engine, good);
        alone.AssertEqual(beside, 0);
        GenerationResult result = await failing.Completion;
        Assert.Equal(FinishReason.Failed, result.Reason);
        Assert.Contains("broken on purpose", result.Error, StringComparison.Ordinal);
        Assert.Contains("forbid", (await empty.Completion).Error, StringComparison.Ordinal);
        await Assert.ThrowsAsync<FathomException>(() => failing.ReadToEndAsync());
        Assert.Equal(engine.Statistics.Blocks, engine.Statistics.FreeBlocks);
    }

    [Fact]
    public async Task Cancelling_frees_everything_within_a_step()
    {
        using var engine = new InferenceEngine(model, new EngineOptions { ContextTokens = 512, MostRunning = 4 });
        using var cancellation = new CancellationTokenSource();
        GenerationRequest[] requests = [.. Enumerable.Range(0, 12).Select(i => new GenerationRequest { Prompt = TestModels.Tokens(100, 330, (ulong)i), Sampling = new SamplingOptions { MaxNewTokens = 400, StopAtEos = false } })];
        Generation[] generations = [.. requests.Select((r, i) => engine.Submit(r, i < 6 ? cancellation.Token : default))];
        await using (IAsyncEnumerator<GenerationPiece> first = generations[0].GetAsyncEnumerator()) Assert.True(await first.MoveNextAsync());
        cancellation.Cancel();
        for (int i = 6; i < 12; i++) generations[i].Dispose();
        GenerationResult[] results = await Task.WhenAll(generations.Select(g => g.Completion));
        Assert.All(results, r => Assert.Equal(FinishReason.Cancelled, r.Reason));
        EngineStatistics statistics = engine.Statistics;
        Assert.Equal((0, 0, statistics.Blocks), (statistics.Running, statistics.Waiting, statistics.FreeBlocks));
        Assert.Equal(12, statistics.Finished[FinishReason.Cancelled]);
        Assert.Equal(FinishReason.Length, (await TestModels.Run(engine, TestModels.Request(2, 330))).Result.Reason);
    }

    [Fact]
    public async Task A_full_queue_refuses_and_a_draining_engine_finishes()
    {
        var engine = new InferenceEngine(model, new EngineOptions { ContextTokens = 512, MostRunning = 2, MostWaiting = 3 });
        GenerationRequest request = new() { Prompt = [1, 2, 3], Sampling = new SamplingOptions { MaxNewTokens = 300, StopAtEos = false } };
        Generation[] taken = [.. Enumerable.Range(0, 5).Select(_ => engine.Submit(request))];
        Assert.Contains("5 requests", Assert.Throws<EngineBusyException>(() => engine.Submit(request)).Message, StringComparison.Ordinal);
        Task drained = engine.DrainAsync();
        Assert.Contains("shutting down", Assert.Throws<EngineBusyException>(() => engine.Submit(request)).Message, StringComparison.Ordinal);
        await drained;
        Assert.All(taken, g => Assert.Equal(FinishReason.Length, g.Completion.Result.Reason));
        engine.Dispose();
        Assert.Throws<ObjectDisposedException>(() => engine.Submit(request));
    }

    [Fact]
    public async Task A_drain_that_is_cut_cancels_and_so_does_disposal()
    {
        var engine = new InferenceEngine(model);
        GenerationRequest request = new() { Prompt = [1, 2, 3], Sampling = new SamplingOptions { MaxNewTokens = 450, StopAtEos = false } };
        Generation[] taken = [.. Enumerable.Range(0, 5).Select(_ => engine.Submit(request))];
        await engine.DrainAsync(new CancellationToken(canceled: true));
        Assert.All(taken, g => Assert.Equal(FinishReason.Cancelled, g.Completion.Result.Reason));
        engine.Dispose();
        var other = new InferenceEngine(model);
        Generation last = other.Submit(request);
        other.Dispose();
        Assert.Equal(FinishReason.Cancelled, (await last.Completion).Reason);
    }

    [Fact]
    public async Task A_found_prefix_is_not_computed_and_changes_nothing()
    {
        int[] prefix = TestModels.Tokens(400, 330, 9);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 6).Select(i => new GenerationRequest { Prompt = [.. prefix, .. TestModels.Tokens(5 + i, 330, (ulong)i)], Sampling = new SamplingOptions { Seed = (ulong)i, MaxNewTokens = 30, LogProbs = 0, StopAtEos = false } })];
        using var without = new InferenceEngine(model, new EngineOptions { Reuse = PrefixReuse.None });
        using var with = new InferenceEngine(model);
        for (int i = 0; i < requests.Length; i++)
        {
            Answer expected = await TestModels.Run(without, requests[i]), answer = await TestModels.Run(with, requests[i]);
            expected.AssertEqual(answer, i);
            Assert.Equal(i == 0 ? 0 : 384, answer.Result.CachedTokens);
        }

        Assert.Equal(requests.Sum(r => r.Prompt.Count) - 5 * 384, with.Statistics.PromptTokens);
    }

    [Fact]
    public void Requests_that_cannot_be_served_are_refused_by_name()
    {
        using var engine = new InferenceEngine(model, new EngineOptions { ContextTokens = 100 });
        Refused("empty", new GenerationRequest { Prompt = [] });
        Refused("330", new GenerationRequest { Prompt = [330] });
        Refused("-1", new GenerationRequest { Prompt = [1], Sampling = new SamplingOptions { LogitBias = new Dictionary<int, float> { [-1] = 1 } } });
        Refused("no room", new GenerationRequest { Prompt = new int[100] });
        Refused("presence", new GenerationRequest { Prompt = [1], Sampling = new SamplingOptions { PresencePenalty = 3 } });
        Refused("repetition", new GenerationRequest { Prompt = [1], Sampling = new SamplingOptions { RepetitionPenalty = 0 } });
        Refused("bias", new GenerationRequest { Prompt = [1], Sampling = new SamplingOptions { LogitBias = new Dictionary<int, float> { [1] = float.NaN } } });
        Refused("20", new GenerationRequest { Prompt = [1], Sampling = new SamplingOptions { LogProbs = 21 } });
        using var mute = new InferenceEngine(TestModels.Loaded(device));
        Assert.Contains("tokenizer", Assert.Throws<FathomException>(() => mute.Submit(new GenerationRequest { Prompt = [1], Sampling = new SamplingOptions { StopSequences = ["x"] } })).Message, StringComparison.Ordinal);
        Assert.Contains("cannot hold", Assert.Throws<FathomException>(() => new InferenceEngine(model, new EngineOptions { ContextTokens = 512, CacheTokens = 256 })).Message, StringComparison.Ordinal);

        void Refused(string name, GenerationRequest request) =>
            Assert.Contains(name, Assert.Throws<FathomException>(() => engine.Submit(request)).Message, StringComparison.Ordinal);
    }

    private GenerationRequest Saying(string text, SamplingOptions sampling) => Saying(tokenizer.Encode(text), sampling);

    private static GenerationRequest Saying(int[] ids, SamplingOptions sampling) =>
        new() { Prompt = [1, 2, 3], Sampling = sampling with { MaxNewTokens = 100 }, Constraint = new Script(ids) };

    /// <summary>Certain ids, one after the other.</summary>
    private sealed class Script(int[] ids) : ITokenConstraint
    {
        private int said;

        public bool IsComplete => said == ids.Length;

        public void Mask(Span<ulong> allowed)
        {
            allowed.Clear();
            allowed[ids[said] / 64] = 1ul << ids[said];
        }

        public void Accept(int token) => Assert.Equal(ids[said++], token);
    }

    /// <summary>One of some texts, in whatever tokens.</summary>
    private sealed class OneOf(Tokenizer tokenizer, string[] texts) : ITokenConstraint
    {
        private string said = "";

        public bool IsComplete => texts.Contains(said);

        public void Mask(Span<ulong> allowed)
        {
            for (int v = 0; v < allowed.Length * 64; v++)
            {
                string next = v < tokenizer.VocabularySize ? said + tokenizer.Decode([v], skipSpecial: true) : said;
                if (next == said || !texts.Any(t => t.StartsWith(next, StringComparison.Ordinal))) allowed[v / 64] &= ~(1ul << v);
            }
        }

        public void Accept(int token) => said += tokenizer.Decode([token]);
    }

    private sealed class Broken : ITokenConstraint
    {
        public bool IsComplete => false;

        public void Mask(Span<ulong> allowed) => throw new InvalidOperationException("broken on purpose");

        public void Accept(int token)
        {
        }
    }
}

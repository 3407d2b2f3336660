// What the engine promises: a request's text is its own, whatever shares the steps with it, however memory runs short, whatever was found
// in the cache; and every block comes back.
using Fathom.Compute.Cpu;
using Fathom.Testing;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class EngineTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(512, 64, 8192, PrefixReuse.Prompts)]
    [InlineData(64, 64, 8192, PrefixReuse.None)]
    [InlineData(100, 5, 8192, PrefixReuse.Prompts)]
    [InlineData(256, 64, 640, PrefixReuse.Prompts)] // memory for two or three at a time
    [InlineData(200, 64, 512, PrefixReuse.None)]
    public async Task A_text_is_the_same_alone_and_among_others(int stepTokens, int mostRunning, int cacheTokens, PrefixReuse reuse)
    {
        using var device = new CpuDevice(2);
        LoadedModel model = TestModels.Loaded(device);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 40).Select(i => TestModels.Request((ulong)i))];
        var expected = new Answer[requests.Length];
        var alone = new EngineOptions { ContextTokens = 512, MostRunning = 1, Reuse = PrefixReuse.None, StepTokens = 512 };
        using (var engine = new InferenceEngine(model, alone))
        {
            for (int i = 0; i < requests.Length; i++) expected[i] = await TestModels.Run(engine, requests[i]);
        }

        using var batched = new InferenceEngine(model, alone with { StepTokens = stepTokens, MostRunning = mostRunning, CacheTokens = cacheTokens, Reuse = reuse });
        Answer[] results = await Task.WhenAll(requests.Select(r => TestModels.Run(batched, r)));
        EngineStatistics statistics = batched.Statistics;
        output.WriteLine($"{requests.Length} texts, {statistics.GeneratedTokens} tokens, {statistics.Steps} steps, {statistics.Preemptions} preemptions, {statistics.PrefixHitTokens} of {statistics.PrefixQueriedTokens} prompt tokens found");
        for (int i = 0; i < requests.Length; i++) expected[i].AssertEqual(results[i], i);
        Assert.All(results, r => Assert.Equal(FinishReason.Length, r.Result.Reason));
        Assert.Equal(statistics.Blocks, statistics.FreeBlocks);
        if (reuse != PrefixReuse.None) Assert.True(statistics.PrefixHitTokens > 0);
        if (cacheTokens < 1000) Assert.True(statistics.Preemptions > 0);
    }

    // Logits come over by a copy, and results may lie in BF16: the same engine, whose promise does not depend on either.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task It_is_so_on_a_device_with_memory_of_its_own(bool holdsBFloat16)
    {
        using var device = new SeparateDevice(2, holdsBFloat16);
        LoadedModel model = TestModels.Loaded(device, TestModels.Config(vocabulary: 12, mtpModules: 1));
        GenerationRequest[] requests = [.. Enumerable.Range(0, 12).Select(i => TestModels.Request((ulong)i, 12))];
        var expected = new Answer[requests.Length];
        using (var alone = new InferenceEngine(model, new EngineOptions { MostRunning = 1, Reuse = PrefixReuse.None }))
        {
            for (int i = 0; i < requests.Length; i++) expected[i] = await TestModels.Run(alone, requests[i]);
        }

        using var batched = new InferenceEngine(model, new EngineOptions { ContextTokens = 512, CacheTokens = 640, DraftTokens = 2, StepTokens = 128 });
        Answer[] answers = await Task.WhenAll(requests.Select(r => TestModels.Run(batched, r)));
        for (int i = 0; i < requests.Length; i++) expected[i].AssertEqual(answers[i], i);
        EngineStatistics statistics = batched.Statistics;
        output.WriteLine($"{statistics.GeneratedTokens} tokens, {statistics.Preemptions} preemptions, {statistics.AcceptedTokens.Sum()} drafted tokens accepted");
    }
}

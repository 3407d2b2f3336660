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
    [InlineData(512, 64, 8192, PrefixReuse.Prompts, true)]
    [InlineData(256, 64, 640, PrefixReuse.Prompts, true)]
    public async Task A_text_is_the_same_alone_and_among_others(int stepTokens, int mostRunning, int cacheTokens, PrefixReuse reuse, bool stored = false)
    {
        using var device = new CpuDevice(2);
        LoadedModel model = stored ? TestModels.Stored(device) : TestModels.Loaded(device);
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

    // Latents in codes: blocks are shared, given up and computed again as any others.
    [Fact]
    public async Task It_is_so_with_a_cache_in_FP8()
    {
        using var device = new CpuDevice(2);
        LoadedModel model = TestModels.Loaded(device, TestModels.Config(vocabulary: 12, mtpModules: 1));
        GenerationRequest[] requests = [.. Enumerable.Range(0, 24).Select(i => TestModels.Request((ulong)i, 12))];
        var options = new EngineOptions { ContextTokens = 512, CacheType = Numerics.DType.F8E4M3 };
        var expected = new Answer[requests.Length];
        using (var alone = new InferenceEngine(model, options with { MostRunning = 1, Reuse = PrefixReuse.None }))
        {
            for (int i = 0; i < requests.Length; i++) expected[i] = await TestModels.Run(alone, requests[i]);
        }

        using var batched = new InferenceEngine(model, options with { CacheTokens = 640, DraftTokens = 2, StepTokens = 128 });
        Answer[] answers = await Task.WhenAll(requests.Select(r => TestModels.Run(batched, r)));
        EngineStatistics statistics = batched.Statistics;
        output.WriteLine($"{statistics.GeneratedTokens} tokens, {statistics.Preemptions} preemptions, {statistics.PrefixHitTokens} prompt tokens found, {statistics.Blocks} blocks of {statistics.BytesPerToken} bytes a token");
        for (int i = 0; i < requests.Length; i++) expected[i].AssertEqual(answers[i], i);
        Assert.True(statistics.Preemptions > 0 && statistics.PrefixHitTokens > 0);
        Assert.Equal(4 * (32 + 4 + 16), statistics.BytesPerToken);
    }

    // On a GPU products are chosen by the number of rows, so texts may differ with what runs beside them; everything else holds: one request
    // after the other repeats, all texts end where they should, and every block comes back.
    [Theory]
    [InlineData(Numerics.DType.BF16)]
    [InlineData(Numerics.DType.F8E4M3)]
    public async Task An_engine_on_a_GPU_serves_many_requests(Numerics.DType cache)
    {
        using Compute.Device device = TestDevices.Open("cuda");
        LoadedModel model = TestModels.Loaded(device, TestModels.Config(vocabulary: 12, mtpModules: 1));
        GenerationRequest[] requests = [.. Enumerable.Range(0, 12).Select(i => TestModels.Request((ulong)i, 12))];
        requests = [.. requests.Select((r, i) => r with { Sampling = r.Sampling with { MaxNewTokens = Math.Min(24, r.Sampling.MaxNewTokens), LogProbs = i % 2 == 0 ? 2 : null, FrequencyPenalty = i % 3 == 0 ? 0.2f : 0 } })];
        var options = new EngineOptions { ContextTokens = 512, CacheTokens = 1024, CacheType = cache, StepTokens = 128 };
        using (var alone = new InferenceEngine(model, options with { Reuse = PrefixReuse.None }))
        {
            Answer first = await TestModels.Run(alone, requests[4]);
            first.AssertEqual(await TestModels.Run(alone, requests[4]), 4);
        }

        using var engine = new InferenceEngine(model, options with { DraftTokens = 1 });
        Answer[] answers = await Task.WhenAll(requests.Select(r => TestModels.Run(engine, r)));
        EngineStatistics statistics = engine.Statistics;
        output.WriteLine($"{statistics.GeneratedTokens} tokens in {statistics.Steps} steps, {statistics.Preemptions} preemptions, {statistics.AcceptedTokens.Sum()} of {statistics.DraftedTokens.Sum()} drafts accepted");
        Assert.Equal(requests.Select(r => r.Sampling.MaxNewTokens), answers.Select(a => a.Tokens.Count));
        Assert.All(answers, a => Assert.Equal(FinishReason.Length, a.Result.Reason));
        Assert.Equal(0, statistics.Faults);
        Assert.Equal(statistics.Blocks, statistics.FreeBlocks);
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

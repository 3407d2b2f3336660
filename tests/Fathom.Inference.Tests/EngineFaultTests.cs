// A pass that breaks ends the requests that took part in it, says why, gives all their blocks back, and leaves an engine that works.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class EngineFaultTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(typeof(OutOfMemoryException), "memory")]
    [InlineData(typeof(InvalidOperationException), "InvalidOperationException")]
    public async Task A_broken_pass_ends_its_requests_and_the_engine_goes_on(Type exception, string message)
    {
        using var device = new BreakingDevice();
        LoadedModel model = TestModels.Loaded(device);
        using var engine = new InferenceEngine(model, new EngineOptions { ContextTokens = 512 });
        Answer before = await TestModels.Run(engine, TestModels.Request(3));
        device.Break = (Exception)Activator.CreateInstance(exception)!;
        Generation[] broken = [.. Enumerable.Range(0, 4).Select(i => engine.Submit(TestModels.Request((ulong)i)))];
        GenerationResult[] results = await Task.WhenAll(broken.Select(g => g.Completion));
        device.Break = null;
        output.WriteLine(results[0].Error ?? "");
        Assert.All(results, r => Assert.Equal(FinishReason.Failed, r.Reason));
        Assert.All(results, r => Assert.Contains(message, r.Error, StringComparison.Ordinal));
        EngineStatistics statistics = engine.Statistics;
        Assert.True(statistics.Faults > 0);
        Assert.Equal((0, statistics.Blocks), (statistics.Running, statistics.FreeBlocks));
        before.AssertEqual(await TestModels.Run(engine, TestModels.Request(3)), 3);
    }

    /// <summary>A device whose embedding breaks when told to.</summary>
    private sealed class BreakingDevice : Device
    {
        private readonly CpuDevice inner = new(2);

        public Exception? Break { get; set; }

        public override string Name => inner.Name;

        public override ILinearOperators Linear => inner.Linear;

        public override ILinearOperators LinearByRow => inner.LinearByRow;

        public override ILinearOperators? LinearInBFloat16 => inner.LinearInBFloat16;

        public override IQuantizationOperators Quantization => inner.Quantization;

        public override INormOperators Norm => inner.Norm;

        public override IRotaryOperators Rotary => inner.Rotary;

        public override IAttentionOperators Attention => inner.Attention;

        public override ICacheOperators Cache => inner.Cache;

        public override IRoutingOperators Routing => inner.Routing;

        public override IActivationOperators Activation => inner.Activation;

        public override ILossOperators Loss => inner.Loss;

        public override IEmbeddingOperators Embedding => Break is { } error ? throw error : inner.Embedding;

        public override IOptimizerOperators Optimizer => inner.Optimizer;

        public override IReductionOperators Reduction => inner.Reduction;

        public override ISamplingOperators Sampling => inner.Sampling;

        protected override Tensor AllocateCore(Shape shape, DType dtype) => HostMemory.Allocate(shape, dtype);

        protected override void Dispose(bool disposing)
        {
            if (disposing) inner.Dispose();
        }
    }
}

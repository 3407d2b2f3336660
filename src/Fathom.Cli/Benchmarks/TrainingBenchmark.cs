// A whole training step of the preset `small` at sequence 512: forward, backward, clipping, AdamW, routing bias. FLOPs are the
// model's: nothing is counted for norms, softmax, optimizer or recomputation. The MTP module is computed, so it is counted.
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Text;
using Fathom.Training;

namespace Fathom.Cli.Benchmarks;

/// <summary>Share of the multiply-add peak of a training step, and what it allocates.</summary>
internal static class TrainingBenchmark
{
    private const int SequenceLength = 512, MicroBatch = 4;

    /// <summary>Rows for the step's speed and for its managed allocations.</summary>
    public static IEnumerable<BenchmarkRow> Run(Sampling sampling)
    {
        ModelConfig model = ModelPresets.Get("small");
        var config = new TrainingConfig
        {
            Model = "small",
            Data = new DataConfig(),
            SequenceLength = SequenceLength,
            MicroBatch = MicroBatch,
            BatchSize = Schedule.Constant(MicroBatch),
            Steps = 1_000_000,
        };
        var trainer = new Trainer(sampling.Device, model, config, new RandomTokens(model.VocabSize));
        var size = new ModelSize(model);
        double flops = (double)MicroBatch * SequenceLength * (size.TrainingFlopsPerToken(SequenceLength) + size.MtpTrainingFlopsPerToken(SequenceLength));
        for (int i = 0; i < 3; i++) trainer.Step();
        BenchmarkRow speed = sampling.ArithmeticRate(
            $"training step, small, {MicroBatch} x {SequenceLength} tokens", flops, Goal.Share(0.45), () => trainer.Step());
        yield return speed with { Note = $"{Terminal.Numbers.Short(speed.Value * 1e9 / flops * MicroBatch * SequenceLength)} tokens/s" };

        const int Steps = 4;
        double bytes = (double)Sampling.AllocatedBytes(() => trainer.Step(), Steps) / Steps;
        yield return new BenchmarkRow("managed bytes allocated in a training step", bytes, "bytes", new Goal(0, AtLeast: false, "0"));
    }

    /// <summary>Tokens without meaning: the time of a step depends on them only through the experts' loads.</summary>
    private sealed class RandomTokens(int vocabulary) : ITokenBatches
    {
        private readonly Philox random = new(7, "benchmark tokens");

        public int SequenceLength => TrainingBenchmark.SequenceLength;

        public long SamplesPerEpoch => long.MaxValue;

        public void Fill(long sampleIndex, Span<int> tokens)
        {
            for (int i = 0; i < tokens.Length; i++) tokens[i] = (int)(random.UniformDouble((ulong)(sampleIndex * tokens.Length + i)) * vocabulary);
        }
    }
}

// Decoding one token at a time is bound by reading the weights, prefill by arithmetic: each has its own yardstick. The same model in
// BF16 and in FP8 as stored: half the bytes should be twice the tokens.
using Fathom.Compute;
using Fathom.Inference;
using Fathom.Model;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>Decode, prefill and opening of a model larger than the caches.</summary>
internal static class InferenceBenchmark
{
    private const int Prompt = 512, Warm = 64;

    /// <summary>Rows for opening, decode and prefill.</summary>
    public static IEnumerable<BenchmarkRow> Run(Sampling sampling)
    {
        using var checkpoint = new RandomCheckpoint(RandomCheckpoint.Dense(sampling.Quick ? 3 : 5));
        using Candidate plain = new(sampling.Device, checkpoint, DType.BF16), quantized = new(sampling.Device, checkpoint, DType.F8E4M3);
        Candidate[] both = [plain, quantized];
        foreach (Candidate model in both)
        {
            double opening = sampling.BestSeconds(() => LoadedModel.Open(sampling.Device, checkpoint.Folder(model.Format)));
            yield return new BenchmarkRow($"opening a checkpoint of {model.What}", opening * 1e3, "ms", new Goal(50, AtLeast: false, "≤ 50 ms"));
        }

        ReadSamples samples = sampling.ReadRates((plain.StepBytes, plain.Decode, plain.Weights), (quantized.StepBytes, quantized.Decode, quantized.Weights));
        for (int i = 0; i < both.Length; i++)
        {
            BenchmarkRow row = samples.Row(i, $"decode, batch 1, {both[i].What}", Goal.Share(0.7));
            yield return row with { Note = $"{Short(row.Value * 1e9 / both[i].StepBytes)} tokens/s" };
        }

        yield return new BenchmarkRow("decode, FP8 over BF16", samples.CallsOver(1, quantized.StepBytes, 0, plain.StepBytes), "x", new Goal(1.8, AtLeast: true, "≥ 1.8 x"));

        foreach (Candidate model in both)
        {
            const int Steps = 4;
            double bytes = (double)Sampling.AllocatedBytes(model.Decode, Steps) / Steps, flops = new ModelSize(checkpoint.Config).PrefillFlops(Prompt);
            yield return new BenchmarkRow($"managed bytes allocated in a decode step, {model.Name}", bytes, "bytes", new Goal(0, AtLeast: false, "0"));

            BenchmarkRow prefill = sampling.ArithmeticRate($"prefill, {Prompt} tokens, {model.Name}", flops, Goal.Share(0.5), model.Prefill);
            yield return prefill with { Note = $"{Short(prefill.Value * 1e9 / flops * Prompt)} tokens/s" };
        }
    }

    /// <summary>The model in one format, with a sequence.</summary>
    private sealed class Candidate : IDisposable
    {
        private readonly SequenceLogits session;
        private readonly int[] prompt;

        public Candidate(Device device, RandomCheckpoint checkpoint, DType format)
        {
            (Format, Name) = (format, format == DType.BF16 ? "BF16" : "FP8");
            What = $"{Short(checkpoint.FileBytes(format))}B of {Name}";
            StepBytes = checkpoint.DecodeBytes(format, Warm + 1);
            Weights = checkpoint.Mapped(format);
            session = new SequenceLogits(LoadedModel.Open(device, checkpoint.Folder(format)).Model, 2048, DType.BF16);
            prompt = [.. Enumerable.Range(0, Prompt).Select(i => i * 31 % checkpoint.Config.VocabSize)];
            session.Prefill(prompt.AsSpan(0, Warm));
        }

        public DType Format { get; }

        public string Name { get; }

        public string What { get; }

        public double StepBytes { get; }

        // The pages that the model's tensors lie in.
        public Tensor Weights { get; }

        // After a prefill or another step: one token behind the first ones.
        public void Decode()
        {
            session.Truncate(Warm);
            session.Decode(7);
        }

        public void Prefill()
        {
            session.Truncate(0);
            session.Prefill(prompt);
        }

        public void Dispose() => session.Dispose();
    }
}

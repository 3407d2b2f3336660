// Decoding one token at a time is bound by reading the weights, prefill by arithmetic: each has its own yardstick.
using Fathom.Inference;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks;

/// <summary>Decode, prefill and opening of a model larger than the caches.</summary>
internal static class InferenceBenchmark
{
    private const int Prompt = 512, Warm = 64;

    /// <summary>Rows for opening, decode and prefill.</summary>
    public static IEnumerable<BenchmarkRow> Run(Sampling sampling)
    {
        using var checkpoint = new RandomCheckpoint(sampling.Quick ? 3 : 5);
        string what = Terminal.Numbers.Short(2.0 * new ModelSize(checkpoint.Config).FileParameters) + "B of BF16";

        LoadedModel.Open(sampling.Device, checkpoint.Path);
        double opening = sampling.BestSeconds(() => LoadedModel.Open(sampling.Device, checkpoint.Path));
        yield return new BenchmarkRow($"opening a checkpoint of {what}", opening * 1e3, "ms", new Goal(50, AtLeast: false, "≤ 50 ms"));

        LoadedModel model = LoadedModel.Open(sampling.Device, checkpoint.Path);
        using var session = new GenerationSession(model.Model, 2048, DType.BF16);
        int[] prompt = [.. Enumerable.Range(0, Prompt).Select(i => i * 31 % checkpoint.Config.VocabSize)];

        session.Prefill(prompt.AsSpan(0, Warm));
        BenchmarkRow decode = sampling.Rate($"decode, batch 1, {what}", checkpoint.DecodeBytes(Warm + 1), Yardstick.ReadBandwidth, Goal.Share(0.7), () =>
        {
            session.Decode(7);
            session.Truncate(Warm);
        });
        yield return decode with { Note = $"{Terminal.Numbers.Short(decode.Value * 1e9 / checkpoint.DecodeBytes(Warm + 1))} tokens/s" };

        const int Steps = 4;
        double bytes = (double)Sampling.AllocatedBytes(
            () =>
            {
                session.Decode(7);
                session.Truncate(Warm);
            },
            Steps) / Steps;
        yield return new BenchmarkRow("managed bytes allocated in a decode step", bytes, "bytes", new Goal(0, AtLeast: false, "0"));

        BenchmarkRow prefill = sampling.Rate($"prefill, {Prompt} tokens", new ModelSize(checkpoint.Config).PrefillFlops(Prompt), Yardstick.FmaPeak, Goal.Share(0.5), () =>
        {
            session.Truncate(0);
            session.Prefill(prompt);
        });
        yield return prefill with { Note = $"{Terminal.Numbers.Short(prefill.Value * 1e9 / new ModelSize(checkpoint.Config).PrefillFlops(Prompt) * Prompt)} tokens/s" };
    }
}

// Decoding one token at a time is bound by reading the weights, prefill by arithmetic: each has its own yardstick. The same model in
// BF16 and in FP8 as stored: half the bytes should be twice the tokens.
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
        double plain = 0;
        foreach (DType format in (DType[])[DType.BF16, DType.F8E4M3])
        {
            string name = format == DType.BF16 ? "BF16" : "FP8", what = $"{Terminal.Numbers.Short(checkpoint.FileBytes(format))}B of {name}", folder = checkpoint.Folder(format);
            LoadedModel.Open(sampling.Device, folder);
            double opening = sampling.BestSeconds(() => LoadedModel.Open(sampling.Device, folder));
            yield return new BenchmarkRow($"opening a checkpoint of {what}", opening * 1e3, "ms", new Goal(50, AtLeast: false, "≤ 50 ms"));

            LoadedModel model = LoadedModel.Open(sampling.Device, folder);
            using var session = new SequenceLogits(model.Model, 2048, DType.BF16);
            int[] prompt = [.. Enumerable.Range(0, Prompt).Select(i => i * 31 % checkpoint.Config.VocabSize)];

            session.Prefill(prompt.AsSpan(0, Warm));
            double stepBytes = checkpoint.DecodeBytes(format, Warm + 1);
            BenchmarkRow decode = sampling.Rate($"decode, batch 1, {what}", stepBytes, Yardstick.ReadBandwidth, Goal.Share(0.7), () =>
            {
                session.Decode(7);
                session.Truncate(Warm);
            });
            double tokens = decode.Value * 1e9 / stepBytes;
            yield return decode with { Note = $"{Terminal.Numbers.Short(tokens)} tokens/s" };
            if (format == DType.BF16) plain = tokens;
            else yield return new BenchmarkRow("decode, FP8 over BF16", tokens / plain, "x", new Goal(1.8, AtLeast: true, "≥ 1.8 x"));

            const int Steps = 4;
            double bytes = (double)Sampling.AllocatedBytes(
                () =>
                {
                    session.Decode(7);
                    session.Truncate(Warm);
                },
                Steps) / Steps;
            yield return new BenchmarkRow($"managed bytes allocated in a decode step, {name}", bytes, "bytes", new Goal(0, AtLeast: false, "0"));

            BenchmarkRow prefill = sampling.Rate($"prefill, {Prompt} tokens, {name}", new ModelSize(checkpoint.Config).PrefillFlops(Prompt), Yardstick.FmaPeak, Goal.Share(0.5), () =>
            {
                session.Truncate(0);
                session.Prefill(prompt);
            });
            yield return prefill with { Note = $"{Terminal.Numbers.Short(prefill.Value * 1e9 / new ModelSize(checkpoint.Config).PrefillFlops(Prompt) * Prompt)} tokens/s" };
        }
    }
}

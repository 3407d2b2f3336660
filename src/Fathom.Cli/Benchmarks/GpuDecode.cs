// Decoding with a slice of DeepSeek-V3 at its full width: one token for each of some sequences, all of which have a long context. What must
// be read is the floor: weights once, those of the experts that were chosen, and the cache of every sequence.
using System.Diagnostics;
using Fathom.Compute;
using Fathom.Compute.Cuda;
using Fathom.Compute.Operators;
using Fathom.Model;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>Tokens a second of a slice with random FP8 weights.</summary>
/// <param name="device">The GPU.</param>
/// <param name="ceilings">What the card reaches.</param>
/// <param name="config">The model that the slice is cut from.</param>
/// <param name="samples">Steps that are timed.</param>
internal sealed class GpuDecode(CudaDevice device, GpuCeilings ceilings, ModelConfig config, int samples)
{
    /// <summary>The first dense layer of V3 and four of its expert layers, with embedding and head.</summary>
    public static ModelConfig Slice => ModelPresets.Get("deepseek-v3") with { NumHiddenLayers = 5, FirstKDenseReplace = 1, NumNextnPredictLayers = 0 };

    /// <summary>Rows for 1, 32 and 128 sequences, with products chosen by their number of rows and with those whose rows have bits of their own.</summary>
    /// <param name="context">Tokens that each sequence has in the cache.</param>
    public IEnumerable<GpuTiming> Run(int context)
    {
        var weights = new RandomWeights(device);
        var model = new DeepSeekModel(device, config, weights);
        foreach ((int batch, bool byRow) in ((int, bool)[])[(1, false), (1, true), (32, false), (32, true), (128, false), (128, true)])
        {
            double bytes = weights.SharedBytes + ExpectedExperts(batch) * weights.ExpertBytes
                + (double)batch * context * new ModelSize(config).CacheBytesPerToken();
            double seconds = StepSeconds(model, batch, context, byRow);
            yield return new GpuTiming(
                $"decode of {config.NumHiddenLayers} layers B={batch} S={context} fp8 weights{(byRow ? ", by row" : "")}", seconds, batch * new ModelSize(config).DecodeFlops(context),
                bytes, bytes / 1e12 / ceilings.CopyTerabytes / seconds, null)
            {
                Note = Invariant($"{batch / seconds:N0} tokens/s"),
            };
        }
    }

    /// <summary>Experts of a layer that at least one of so many tokens chooses, where all choices are equally likely.</summary>
    private double ExpectedExperts(int tokens) =>
        config.NRoutedExperts * (1 - Math.Pow(1 - (double)config.NumExpertsPerTok / config.NRoutedExperts, tokens));

    /// <summary>Median time from the tokens of a step to those of the next.</summary>
    private double StepSeconds(DeepSeekModel model, int batch, int context, bool byRow)
    {
        const int Warm = 4;
        var cache = new LatentCache(device, config, (long)batch * (context + BlockPool.BlockSize));
        var operands = new GpuOperands(device);
        for (int l = 0; l < config.NumHiddenLayers; l++) operands.Fill(cache.Layer(l));
        CachedSequence[] sequences = [.. Enumerable.Range(0, batch).Select(_ => new CachedSequence(cache.Pool))];
        foreach (CachedSequence sequence in sequences)
        {
            if (!sequence.TryGrow(context - 1)) throw new InvalidOperationException($"the cache of {cache.Pool.Blocks} blocks is too small");
        }

        var pass = new InferencePass(device, byRow: byRow);
        var chosen = new Mirror(device, new Shape(batch), DType.I32);
        for (int i = 0; i < batch; i++) chosen.Host.AsSpan<int>()[i] = i * 997 % config.VocabSize;
        Tensor greedy = device.Allocate(new Shape(batch, SamplingRule.Bytes), DType.U8, MemoryKind.Workspace);
        double[] seconds = new double[samples];
        for (int step = -Warm; step < samples; step++)
        {
            long start = Stopwatch.GetTimestamp();
            pass.Clear();
            for (int i = 0; i < batch; i++)
            {
                sequences[i].TryGrow(1);
                pass.AddDecode(sequences[i], chosen.Host.AsSpan<int>()[i]);
            }

            device.Sampling.Choose(model.Infer(pass, cache), default, greedy, chosen.Tensor);
            chosen.Pull();
            if (step >= 0) seconds[step] = Stopwatch.GetElapsedTime(start).TotalSeconds;
            foreach (CachedSequence sequence in sequences) sequence.Truncate(context - 1);
        }

        Array.Sort(seconds);
        return seconds[samples / 2];
    }
}

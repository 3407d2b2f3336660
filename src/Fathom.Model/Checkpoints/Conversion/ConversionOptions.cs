using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>What a model is converted to.</summary>
/// <param name="Format">
/// Type of the Linear weights: F8E4M3 or HiF8 in blocks of 128 × 128 with scales, BF16 or F32 without.
/// </param>
public sealed record ConversionOptions(DType Format)
{
    /// <summary>Type of everything that is not quantised (embedding, head, router, norms, eh_proj), where the format is an 8-bit one.</summary>
    public DType Dtype { get; init; } = DType.BF16;

    /// <summary>Whether scales are powers of two; null for as the source has them, and FP32 where it has none.</summary>
    public bool? PowerOfTwoScales { get; init; }

    /// <summary>Which weights of a training checkpoint.</summary>
    public WeightSet Weights { get; init; }

    /// <summary>Most bytes of data in a shard; a single tensor may exceed it.</summary>
    public long ShardBytes { get; init; } = CheckpointWriter.DefaultShardBytes;

    /// <summary>Threads to convert on; 0 for one a processor. The files do not depend on it.</summary>
    public int Threads { get; init; }
}

/// <summary>What a conversion did.</summary>
/// <param name="Source">The model folder that was read.</param>
/// <param name="Folder">The model folder that was written.</param>
/// <param name="Config">Its configuration.</param>
/// <param name="Tensors">Tensors written, scales not counted.</param>
/// <param name="Quantized">How many of them are quantised.</param>
/// <param name="LeftOut">Tensors of the source that are not part of the model: rotary frequencies, unannounced layers.</param>
/// <param name="Shards">Weight files written.</param>
/// <param name="BytesRead">Bytes of weights read.</param>
/// <param name="BytesWritten">Bytes of weights written.</param>
/// <param name="Seconds">Time from the first read to the rename, flushing to the device included.</param>
public sealed record ConversionReport(
    string Source, string Folder, ModelConfig Config, int Tensors, int Quantized, int LeftOut, int Shards, long BytesRead, long BytesWritten, double Seconds);

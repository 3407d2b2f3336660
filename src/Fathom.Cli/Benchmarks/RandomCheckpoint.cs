// A model of random BF16 weights on disk, larger than the caches, so that decoding has to read memory and opening a checkpoint is
// what it is for a real one. Dense layers: every token reads all of it, and the bytes of a step are known exactly.
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks;

/// <summary>A checkpoint in a temporary folder, removed when disposed.</summary>
internal sealed class RandomCheckpoint : IDisposable
{
    /// <summary>Writes the checkpoint.</summary>
    /// <param name="layers">Layers of 44 million parameters.</param>
    /// <exception cref="FathomException">The temporary folder has no room.</exception>
    public RandomCheckpoint(int layers)
    {
        Config = new ModelConfig
        {
            VocabSize = 16384,
            HiddenSize = 2048,
            IntermediateSize = 5632,
            NumHiddenLayers = layers,
            NumAttentionHeads = 16,
            NRoutedExperts = 0,
            NSharedExperts = 0,
            FirstKDenseReplace = layers,
            KvLoraRank = 512,
            QLoraRank = 768,
            MaxPositionEmbeddings = 4096,
            Dtype = DType.BF16,
        }.Validate("benchmark model");
        Path = Directory.CreateTempSubdirectory("fathom-bench-").FullName;
        try
        {
            CheckpointWriter.Write(Path, TensorLayout.Enumerate(Config).Select(t => t.Declare(DType.BF16)), Fill);
            Config.Save(Path);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The model's configuration.</summary>
    public ModelConfig Config { get; }

    /// <summary>The model folder.</summary>
    public string Path { get; }

    /// <summary>Bytes that decoding a token reads at least: all weights but the embedding, and the cache so far.</summary>
    public double DecodeBytes(int context)
    {
        var size = new ModelSize(Config);
        return 2.0 * size.ActiveParametersWithoutEmbedding + (double)size.CacheBytesPerToken() * context;
    }

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(Path, recursive: true);

    private static Tensor Fill(TensorDeclaration declaration)
    {
        Tensor tensor = HostMemory.Allocate(new Shape(declaration.Shape), DType.F32);
        new Philox(1, declaration.Name).FillUniform(tensor.AsSpan<float>());
        foreach (ref float value in tensor.AsSpan<float>()) value = (value - 0.5f) * 0.04f;
        return tensor;
    }
}

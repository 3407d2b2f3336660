// A model of random weights on disk, larger than the caches, so that decoding has to read memory and opening a checkpoint is
// what it is for a real one. The usual one has dense layers: every token reads all of it, and the bytes of a step are known exactly. Its
// vocabulary is small, so that the head, which stays BF16 in an FP8 model, has as small a share as it has of a large model's active weights.
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks;

/// <summary>A checkpoint in a temporary folder, in BF16 and as converted from it, removed when disposed.</summary>
internal sealed class RandomCheckpoint : IDisposable
{
    private readonly string root;

    /// <summary>Writes a checkpoint in BF16.</summary>
    /// <param name="config">Its model.</param>
    /// <exception cref="FathomException">The temporary folder has no room.</exception>
    public RandomCheckpoint(ModelConfig config)
    {
        Config = (config with { Dtype = DType.BF16 }).Validate("benchmark model");
        root = Directory.CreateTempSubdirectory("fathom-bench-").FullName;
        try
        {
            string folder = Path.Combine(root, nameof(DType.BF16));
            Directory.CreateDirectory(folder);
            CheckpointWriter.Write(folder, TensorLayout.Enumerate(Config).Select(t => t.Declare(DType.BF16)), Fill);
            Config.Save(folder);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The model's configuration.</summary>
    public ModelConfig Config { get; }

    /// <summary>The model folder with linear weights in a format: BF16, or what a model is converted to.</summary>
    public string Folder(DType format)
    {
        string folder = Path.Combine(root, format.ToString());
        if (!Directory.Exists(folder)) ModelConverter.Convert(Folder(DType.BF16), folder, new ConversionOptions(format));
        return folder;
    }

    /// <summary>Bytes of all weights in a format.</summary>
    public long FileBytes(DType format) => Bytes(format, _ => true);

    /// <summary>Bytes that decoding a token reads at least: all weights and scales but the embedding, and the cache so far.</summary>
    public double DecodeBytes(DType format, int context) =>
        Bytes(format, name => name != TensorLayout.Embedding) + (double)new ModelSize(Config).CacheBytesPerToken() * context;

    /// <summary>All weights in a format as the bytes that they lie in, mapped.</summary>
    public Tensor Mapped(DType format)
    {
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(Folder(format), "model.safetensors"));
        Tensor first = file.Get(file.Entries.MinBy(entry => entry.Offset)!.Name);
        return new Tensor(first.Address, DType.U8, new Shape(file.Entries.Sum(entry => entry.Bytes)), first.Owner, readOnly: true);
    }

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(root, recursive: true);

    /// <summary>A model of few large experts, half of which each token chooses, above one dense layer.</summary>
    /// <param name="layers">Layers; those of experts have 29 million parameters, of which a token uses 17.</param>
    public static ModelConfig Experts(int layers) => new()
    {
        VocabSize = 4096,
        HiddenSize = 1024,
        IntermediateSize = 4096,
        MoeIntermediateSize = 1024,
        NumHiddenLayers = layers,
        FirstKDenseReplace = 1,
        NumAttentionHeads = 8,
        NRoutedExperts = 8,
        NSharedExperts = 1,
        NumExpertsPerTok = 4,
        NGroup = 1,
        TopkGroup = 1,
        KvLoraRank = 256,
        QLoraRank = 384,
        QkNopeHeadDim = 64,
        QkRopeHeadDim = 32,
        VHeadDim = 64,
        MaxPositionEmbeddings = 4096,
    };

    /// <summary>A model of dense layers.</summary>
    /// <param name="layers">Layers of 44 million parameters.</param>
    public static ModelConfig Dense(int layers) => new()
    {
        VocabSize = 4096,
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
    };

    private long Bytes(DType format, Predicate<string> counted)
    {
        using Checkpoint checkpoint = Checkpoint.Open(Folder(format));
        return checkpoint.Names.Where(name => counted(name)).Sum(name => checkpoint.Entry(name).Bytes);
    }

    private static Tensor Fill(TensorDeclaration declaration)
    {
        Tensor tensor = HostMemory.Allocate(new Shape(declaration.Shape), DType.F32);
        new Philox(1, declaration.Name).FillUniform(tensor.AsSpan<float>());
        foreach (ref float value in tensor.AsSpan<float>()) value = (value - 0.5f) * 0.04f;
        return tensor;
    }
}

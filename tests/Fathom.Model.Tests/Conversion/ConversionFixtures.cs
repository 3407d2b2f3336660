// Models to convert: the quantised golden one, and ones whose weights a test chooses.
using Fathom.Compute;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Model.Tests;

internal static class ConversionFixtures
{
    public static string Golden => Testing.Golden.Fixture("nano-v3-fp8");

    /// <summary>One dense layer whose MLP is [inner, width]: the smallest model with matrices of any chosen shape.</summary>
    public static ModelConfig Dense(int width, int inner, int layers = 1) => new ModelConfig
    {
        VocabSize = 40,
        HiddenSize = width,
        IntermediateSize = inner,
        NumHiddenLayers = layers,
        NumAttentionHeads = 2,
        NRoutedExperts = 0,
        NSharedExperts = 0,
        NumExpertsPerTok = 0,
        FirstKDenseReplace = layers,
        KvLoraRank = 40,
        QLoraRank = 24,
        QkNopeHeadDim = 16,
        QkRopeHeadDim = 8,
        VHeadDim = 16,
        MaxPositionEmbeddings = 64,
    }.Validate("test model");

    /// <summary>Writes a model of normal weights, or of those that a test gives.</summary>
    public static void Write(string folder, ModelConfig config, DType dtype, Func<string, float[]?>? given = null, long shardBytes = long.MaxValue)
    {
        CheckpointWriter.Write(folder, TensorLayout.Enumerate(config).Select(t => t.Declare(dtype)), t => Values(t, given?.Invoke(t.Name)), shardBytes);
        (config with { Dtype = dtype }).Save(folder);
    }

    /// <summary>All bytes of all files of a folder that is whole, by name.</summary>
    public static Dictionary<string, byte[]> Files(string folder)
    {
        Assert.Empty(Directory.GetDirectories(folder));
        return Directory.GetFiles(folder).ToDictionary(f => Path.GetFileName(f), File.ReadAllBytes);
    }

    public static byte[] Bytes(Checkpoint checkpoint, string name)
    {
        var bytes = new byte[checkpoint.Entry(name).Bytes];
        checkpoint.CopyBytes(name, 0, bytes);
        return bytes;
    }

    private static Tensor Values(TensorDeclaration declaration, float[]? given)
    {
        Tensor tensor = HostMemory.Allocate(new Shape(declaration.Shape), DType.F32);
        if (given is null) new Philox(1, declaration.Name).FillNormal(tensor.AsSpan<float>(), 0, 0.05f);
        else given.CopyTo(tensor.AsSpan<float>());
        return tensor;
    }
}

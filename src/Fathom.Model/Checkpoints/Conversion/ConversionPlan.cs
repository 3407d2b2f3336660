// What becomes of every tensor, decided before a byte of data is read. Which tensors are quantised is TensorLayout's rule, that
// of the published checkpoints; this file only compares what is stored with what is wanted. Codes whose blocks and scales are
// already right are copied, so that converting a quantised model adds no error.
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>What is done with a tensor's elements.</summary>
internal enum ConversionStep
{
    /// <summary>The bytes stay; scales of quantised weights are widened to F32.</summary>
    Copy,

    /// <summary>Decoded, scaled and rounded to the new type.</summary>
    Convert,

    /// <summary>Decoded, scaled, and quantised in blocks.</summary>
    Quantize,
}

/// <summary>One tensor of the new checkpoint.</summary>
/// <param name="Name">Its name.</param>
/// <param name="DType">Its new type.</param>
/// <param name="Source">Where its elements come from.</param>
/// <param name="Step">What is done with them.</param>
internal sealed record PlannedTensor(string Name, DType DType, StoredTensor Source, ConversionStep Step)
{
    /// <summary>Whether the new tensor is codes with scales.</summary>
    public bool IsQuantized => DType is DType.F8E4M3 or DType.HiF8;

    /// <summary>Bytes of its elements in the source.</summary>
    public long SourceBytes => Source.Rows * Source.Columns * Source.DType.SizeInBytes();
}

/// <summary>What becomes of every tensor of a model.</summary>
internal sealed class ConversionPlan
{
    private readonly CheckpointReader reader;

    /// <summary>Plans a conversion. Opens every shard, reads no data.</summary>
    /// <exception cref="FathomException">The checkpoint does not fit its configuration; the message names the tensor.</exception>
    public ConversionPlan(ModelConfig source, Checkpoint checkpoint, ConversionOptions options)
    {
        int modules = LayoutCheck.Verify(source, checkpoint);
        reader = new CheckpointReader(checkpoint, source.QuantizationConfig);
        QuantizationConfig? quantization = Quantization(source.QuantizationConfig, options);
        DType dtype = quantization is null ? options.Format : options.Dtype;
        Config = source with { Dtype = dtype, QuantizationConfig = quantization };
        var declarations = new List<TensorDeclaration>();
        var tensors = new List<PlannedTensor>();
        foreach (LayoutTensor tensor in TensorLayout.Enumerate(Config, modules))
        {
            TensorDeclaration[] declared = [.. tensor.Declare(dtype, quantization)];
            declarations.AddRange(declared);

            // A file may lack an MTP module's copies of embedding and head; some engines ask for them.
            string stored = tensor.CopyOf is { } original && !reader.Contains(tensor.Name) ? original : tensor.Name;
            StoredTensor from = reader.Locate(stored);
            tensors.Add(new PlannedTensor(tensor.Name, declared[0].DType, from, StepFor(from, declared[0].DType, source.QuantizationConfig, quantization)));
        }

        (Declarations, Tensors) = (declarations, tensors);
        var read = tensors.Select(t => t.Source.Name).ToHashSet(StringComparer.Ordinal);
        LeftOut = checkpoint.Names.Count(name => !read.Contains(name)
            && !(name.EndsWith(TensorLayout.ScaleSuffix, StringComparison.Ordinal) && read.Contains(name[..^TensorLayout.ScaleSuffix.Length])));
    }

    /// <summary>The new configuration.</summary>
    public ModelConfig Config { get; }

    /// <summary>All tensors of the new files, scales after their weights, in the order of the forward pass.</summary>
    public IReadOnlyList<TensorDeclaration> Declarations { get; }

    /// <summary>What becomes of each, in the same order.</summary>
    public IReadOnlyList<PlannedTensor> Tensors { get; }

    /// <summary>How many tensors of the source are not part of the model.</summary>
    public int LeftOut { get; }

    /// <summary>The scales of a quantised source.</summary>
    public BlockScales ReadScales(PlannedTensor tensor, ByteSource bytes) => reader.ReadScales(tensor.Source, bytes);

    private static QuantizationConfig? Quantization(QuantizationConfig? source, ConversionOptions options)
    {
        if (options.Format is not (DType.F8E4M3 or DType.HiF8)) return null;
        bool powers = options.PowerOfTwoScales ?? (source?.HasPowerOfTwoScales ?? false);
        return new QuantizationConfig(ScaleFormat: powers ? QuantizationConfig.PowersOfTwo : null, WeightType: options.Format);
    }

    private static ConversionStep StepFor(StoredTensor from, DType to, QuantizationConfig? source, QuantizationConfig? wanted)
    {
        if (to is not (DType.F8E4M3 or DType.HiF8)) return from.DType == to ? ConversionStep.Copy : ConversionStep.Convert;
        return from.DType == to && source == wanted && from.MatrixRow % wanted!.BlockRows == 0 ? ConversionStep.Copy : ConversionStep.Quantize;
    }
}

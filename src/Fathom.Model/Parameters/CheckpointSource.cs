// The weights of a model for inference: views of the mapped files, so that opening takes milliseconds and memory holds what is
// read. Only what kernels cannot read in place (F16, FP8 with block scales, stacked experts) is expanded to F32.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Hands layers the tensors of a checkpoint.</summary>
/// <param name="device">Where expanded weights lie.</param>
/// <param name="checkpoint">The files.</param>
/// <param name="config">The model; its quantization_config says how FP8 weights are scaled.</param>
/// <param name="mtpModules">MTP modules that the files really have.</param>
public sealed class CheckpointSource(Device device, Checkpoint checkpoint, ModelConfig config, int mtpModules) : IParameterSource
{
    private readonly CheckpointReader reader = new(checkpoint, config.QuantizationConfig);

    /// <summary>Opens a checkpoint after comparing it with the configuration.</summary>
    /// <exception cref="FathomException">A tensor is missing, misshapen or too much.</exception>
    public CheckpointSource(Device device, Checkpoint checkpoint, ModelConfig config)
        : this(device, checkpoint, config, LayoutCheck.Verify(config, checkpoint))
    {
    }

    /// <inheritdoc/>
    public Parameter Get(string name, Shape shape, ParameterRole role) => new(name, (ScaledTensor)View(name, shape), role);

    /// <inheritdoc/>
    public Parameter GetExperts(string pattern, int experts, Shape shape)
    {
        var views = new ScaledTensor[experts];
        for (int e = 0; e < experts; e++) views[e] = View(Parameter.ExpertName(pattern, e), shape);
        return new Parameter(pattern, new ExpertWeights(views));
    }

    /// <inheritdoc/>
    public bool HasMtpModule(int layer) => layer - config.NumHiddenLayers < mtpModules;

    private Tensor View(string name, Shape shape)
    {
        if (checkpoint.TryGet(name, out SafetensorsEntry? entry) && entry.DType is DType.F32 or DType.BF16) return checkpoint.Get(name);
        Tensor expanded = device.Allocate(shape, DType.F32, MemoryKind.Weights);
        reader.ReadF32(name, expanded);
        return expanded;
    }
}

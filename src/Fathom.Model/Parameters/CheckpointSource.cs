// The weights of a model for inference: views of the mapped files, FP8 and HiF8 with their block scales among them, so that opening
// takes milliseconds and memory holds what is read. Expanded to F32 is only what no kernel reads in place: F16, blocks that are not
// 128 x 128, and codes outside linear layers.
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
    public Parameter Get(string name, Shape shape, ParameterRole role) => new(name, View(name, shape, plain: role != ParameterRole.Linear), role);

    /// <inheritdoc/>
    public Parameter GetExperts(string pattern, int experts, Shape shape)
    {
        var views = new ScaledTensor[experts];
        for (int e = 0; e < experts; e++) views[e] = View(Parameter.ExpertName(pattern, e), shape, plain: false);
        if (views.Any(v => v.DType != views[0].DType || v.Layout != views[0].Layout))
        {
            for (int e = 0; e < experts; e++) views[e] = Expand(Parameter.ExpertName(pattern, e), shape);
        }

        return new Parameter(pattern, new ExpertWeights(views));
    }

    /// <inheritdoc/>
    public bool HasMtpModule(int layer) => layer - config.NumHiddenLayers < mtpModules;

    private ScaledTensor View(string name, Shape shape, bool plain) =>
        reader.TryView(name, out ScaledTensor view) && !(plain && view.Layout != ScaleLayout.None) ? view : Expand(name, shape);

    private Tensor Expand(string name, Shape shape)
    {
        Tensor expanded = device.Allocate(shape, DType.F32, MemoryKind.Weights);
        reader.ReadF32(name, expanded);
        return expanded;
    }
}

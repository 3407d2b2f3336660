// The weights of a model for inference: views of the mapped files, FP8 and HiF8 with their block scales among them, so that opening
// takes milliseconds and memory holds what is read. Expanded to F32 is only what no kernel reads in place: F16, blocks that are not
// 128 x 128, and codes outside linear layers. A device with memory of its own gets the same bytes, each once and straight from the
// mapped file; the matrices of a layer's experts then lie one after another.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Hands layers the tensors of a checkpoint.</summary>
/// <param name="device">Where the weights are to be used.</param>
/// <param name="checkpoint">The files.</param>
/// <param name="config">The model; its quantization_config says how FP8 weights are scaled.</param>
/// <param name="mtpModules">MTP modules that the files really have.</param>
public sealed class CheckpointSource(Device device, Checkpoint checkpoint, ModelConfig config, int mtpModules) : IParameterSource
{
    private readonly CheckpointReader reader = new(checkpoint, config.QuantizationConfig);
    private readonly Staging staging = new(device);

    /// <summary>Opens a checkpoint after comparing it with the configuration.</summary>
    /// <exception cref="FathomException">A tensor is missing, misshapen or too much.</exception>
    public CheckpointSource(Device device, Checkpoint checkpoint, ModelConfig config)
        : this(device, checkpoint, config, LayoutCheck.Verify(config, checkpoint))
    {
    }

    /// <inheritdoc/>
    public Parameter Get(string name, Shape shape, ParameterRole role) => new(name, Resident(View(name, shape, plain: role != ParameterRole.Linear)), role);

    /// <inheritdoc/>
    public Parameter GetExperts(string pattern, int experts, Shape shape)
    {
        var views = new ScaledTensor[experts];
        for (int e = 0; e < experts; e++) views[e] = View(Parameter.ExpertName(pattern, e), shape, plain: false);
        if (views.Any(v => v.DType != views[0].DType || v.Layout != views[0].Layout))
        {
            for (int e = 0; e < experts; e++) views[e] = Expand(Parameter.ExpertName(pattern, e), shape);
        }

        return new Parameter(pattern, device.IsHost || IsResident(views[0]) ? new ExpertWeights(views) : Stack(views));
    }

    /// <inheritdoc/>
    public bool HasMtpModule(int layer) => layer - config.NumHiddenLayers < mtpModules;

    private ScaledTensor View(string name, Shape shape, bool plain) =>
        reader.TryView(name, out ScaledTensor view) && !(plain && view.Layout != ScaleLayout.None) ? view : Expand(name, shape);

    private Tensor Expand(string name, Shape shape)
    {
        Tensor expanded = device.Allocate(shape, DType.F32, MemoryKind.Weights);
        reader.ReadF32(name, staging.Open(expanded));
        staging.Upload(expanded);
        return expanded;
    }

    /// <summary>Whether the device can use a matrix where it lies: it was expanded, not seen in a file.</summary>
    private static bool IsResident(in ScaledTensor matrix) => matrix.Elements.Owner is IDeviceMemory;

    /// <summary>A matrix where the device can use it.</summary>
    private ScaledTensor Resident(in ScaledTensor matrix)
    {
        if (device.IsHost || IsResident(matrix)) return matrix;
        Tensor elements = Copy(matrix.Elements);
        return matrix.Layout == ScaleLayout.None ? elements : new ScaledTensor(elements, Copy(matrix.Scales), matrix.Layout);

        Tensor Copy(Tensor mapped)
        {
            Tensor copy = device.Allocate(mapped.Shape, mapped.DType, MemoryKind.Weights);
            device.Upload(mapped, copy);
            return copy;
        }
    }

    /// <summary>The experts' matrices one after another on the device.</summary>
    private ExpertWeights Stack(ScaledTensor[] experts)
    {
        Tensor elements = Together(e => e.Elements);
        return new ExpertWeights(experts[0].Layout == ScaleLayout.None ? elements : new ScaledTensor(elements, Together(e => e.Scales), experts[0].Layout));

        Tensor Together(Func<ScaledTensor, Tensor> part)
        {
            Tensor first = part(experts[0]), all = device.Allocate(new Shape(experts.Length, first.Shape[0], first.Shape[1]), first.DType, MemoryKind.Weights);
            for (int e = 0; e < experts.Length; e++) device.Upload(part(experts[e]), all.At(e));
            return all;
        }
    }
}

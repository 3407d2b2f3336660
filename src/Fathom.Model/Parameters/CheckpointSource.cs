// The weights of a model for inference: views of the mapped files, so that opening takes milliseconds and memory holds what is
// read. Only types that kernels cannot read in place (F16, FP8 with block scales) are expanded to F32.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Hands layers the tensors of a checkpoint.</summary>
public sealed class CheckpointSource(Device device, Checkpoint checkpoint) : IParameterSource
{
    /// <inheritdoc/>
    public Parameter Get(string name, Shape shape, ParameterRole role) => new(name, View(name, shape), role);

    /// <inheritdoc/>
    public Parameter GetExperts(string pattern, int experts, Shape shape)
    {
        var views = new Tensor[experts];
        for (int e = 0; e < experts; e++) views[e] = View(Parameter.ExpertName(pattern, e), shape);
        return new Parameter(pattern, default, ParameterRole.Matrix, new ExpertWeights(views));
    }

    /// <inheritdoc/>
    public bool HasMtpModule(int layer) => checkpoint.Contains($"model.layers.{layer}.eh_proj.weight");

    private Tensor View(string name, Shape shape)
    {
        Tensor stored = checkpoint.Get(name);
        if (stored.Shape != shape)
            throw new FathomException($"{checkpoint.Path}: {name} is {stored.Shape}, the configuration asks for {shape}");
        if (stored.DType is DType.F32 or DType.BF16) return stored;
        Tensor expanded = device.Allocate(shape, DType.F32, MemoryKind.Weights);
        checkpoint.ReadF32(name, expanded);
        return expanded;
    }
}

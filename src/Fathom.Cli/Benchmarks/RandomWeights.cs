// Weights of the size and types of a published FP8 checkpoint, without the checkpoint: what decoding costs depends on how many bytes are
// read, not on what they say, as long as tokens choose different experts.
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks;

/// <summary>Random weights on a device: linear layers E4M3 in 128x128 blocks, everything else as V3's files have it.</summary>
internal sealed class RandomWeights(Device device) : IParameterSource
{
    private const float Deviation = 0.02f; // as a trained model's: with larger ones scores of the router saturate
    private readonly GpuOperands operands = new(device, Deviation);

    /// <summary>Bytes of the weights that every token reads: all but the embedding and the routed experts.</summary>
    public long SharedBytes { get; private set; }

    /// <summary>Bytes of one expert's matrices, all layers with experts together.</summary>
    public long ExpertBytes { get; private set; }

    /// <inheritdoc/>
    public Parameter Get(string name, Shape shape, ParameterRole role)
    {
        ScaledTensor weight = role switch
        {
            ParameterRole.Linear => operands.Quantized(shape, ScaleLayout.Block),
            ParameterRole.NormWeight or ParameterRole.RoutingBias => Constant(shape, role == ParameterRole.NormWeight ? 1 : 0),
            _ => operands.Normal(shape),
        };
        if (role != ParameterRole.Embedding) SharedBytes += Bytes(weight);
        return new Parameter(name, weight, role);
    }

    /// <inheritdoc/>
    public Parameter GetExperts(string pattern, int experts, Shape shape)
    {
        var weights = new ExpertWeights(operands.Quantized(new Shape(experts, shape[0], shape[1]), ScaleLayout.Block));
        ExpertBytes += Bytes(weights[0]);
        return new Parameter(pattern, weights);
    }

    /// <inheritdoc/>
    public bool HasMtpModule(int layer) => false;

    private static long Bytes(in ScaledTensor weight) => weight.Elements.Bytes + (weight.Layout == ScaleLayout.None ? 0 : weight.Scales.Bytes);

    private Tensor Constant(Shape shape, float value)
    {
        Tensor host = HostMemory.Allocate(shape, DType.F32), tensor = operands.Empty(shape, DType.F32);
        host.AsSpan<float>().Fill(value);
        device.Upload(host, tensor);
        return tensor;
    }
}

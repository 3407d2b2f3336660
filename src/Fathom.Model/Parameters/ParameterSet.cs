// The weights of a model in training: F32 memory of our own, gradients beside them, initial values that depend on seed and name
// only, so that neither threads nor the order of construction change them.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Allocates the parameters that layers ask for, and holds them for the optimizer and for checkpoints.</summary>
public sealed class ParameterSet(Device device) : IParameterSource
{
    private readonly List<Parameter> parameters = [];

    /// <summary>All parameters in the order of construction.</summary>
    public IReadOnlyList<Parameter> All => parameters;

    /// <inheritdoc/>
    public Parameter Get(string name, Shape shape, ParameterRole role)
    {
        var parameter = new Parameter(name, device.Allocate(shape, DType.F32, MemoryKind.Weights), role);
        parameters.Add(parameter);
        return parameter;
    }

    /// <inheritdoc/>
    public Parameter GetExperts(string pattern, int experts, Shape shape)
    {
        Tensor stacked = device.Allocate(new Shape(experts, shape[0], shape[1]), DType.F32, MemoryKind.Weights);
        var parameter = new Parameter(pattern, stacked, ParameterRole.Matrix, new ExpertWeights(stacked));
        parameters.Add(parameter);
        return parameter;
    }

    /// <inheritdoc/>
    public bool HasMtpModule(int layer) => true;

    /// <summary>Gives every trained parameter a gradient of zeros.</summary>
    public void AllocateGradients()
    {
        foreach (Parameter parameter in parameters)
        {
            if (parameter.Role != ParameterRole.RoutingBias)
                parameter.Gradient = device.Allocate(parameter.Value.Shape, DType.F32, MemoryKind.Gradients);
        }
    }

    /// <summary>Normal matrices of a standard deviation, norm weights one, routing biases zero ([P] §4.2).</summary>
    /// <param name="seed">Of the run.</param>
    /// <param name="standardDeviation">initializer_range; the paper uses 0.006.</param>
    public void Initialize(ulong seed, float standardDeviation)
    {
        foreach (Parameter parameter in parameters)
        {
            foreach ((string name, Tensor value) in parameter.CheckpointTensors())
            {
                Span<float> values = value.AsSpan<float>();
                switch (parameter.Role)
                {
                    case ParameterRole.Matrix: new Philox(seed, name).FillNormal(values, 0, standardDeviation); break;
                    case ParameterRole.NormWeight: values.Fill(1); break;
                    default: values.Clear(); break;
                }
            }
        }
    }

    /// <summary>Copies every parameter out of a checkpoint, converting to F32.</summary>
    /// <exception cref="FathomException">A tensor is missing, misshapen or too much.</exception>
    public void Load(Checkpoint checkpoint, ModelConfig config)
    {
        LayoutCheck.Verify(config, checkpoint);
        var reader = new CheckpointReader(checkpoint, config.QuantizationConfig);
        reader.ReadF32([.. parameters.SelectMany(p => p.CheckpointTensors())]);
    }
}

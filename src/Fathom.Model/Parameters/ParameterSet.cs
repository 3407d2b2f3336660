// The weights of a model in training: F32 memory of our own, gradients beside them, initial values that depend on seed and name
// only, so that neither threads nor the order of construction change them.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Allocates the parameters that layers ask for, and holds them for the optimizer and for checkpoints.</summary>
public sealed class ParameterSet(Device device) : IParameterSource
{
    private readonly List<Parameter> parameters = [];
    private bool changed = true;
    private readonly Tensor fault = device.Allocate(new Shape(1), DType.I64, MemoryKind.Inputs);

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
        var parameter = new Parameter(pattern, device.Allocate(new Shape(experts, shape[0], shape[1]), DType.F32, MemoryKind.Weights), ParameterRole.Linear);
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

    /// <summary>Gives every matrix that the recipe multiplies in another format than F32 a copy in that format.</summary>
    public void AllocateOperands(Recipe recipe)
    {
        foreach (Parameter parameter in parameters)
        {
            OperandFormat format = recipe.WeightFormat(parameter.Role);
            if (format != OperandFormat.F32) parameter.SetOperand(format.Take(parameter.Value.Shape, new DeviceSource(device, MemoryKind.WeightCopies)));
        }
    }

    /// <summary>Says that the weights are not those that the copies were made from.</summary>
    public void MarkChanged() => changed = true;

    /// <summary>Makes the copies anew from the weights, where these have changed: once a step.</summary>
    /// <exception cref="FathomException">A weight is not finite; the message names the parameter and the tile.</exception>
    public void RefreshOperands()
    {
        if (!changed) return;
        changed = false;
        foreach (Parameter parameter in parameters)
        {
            if (parameter.Operand.DType == DType.F32) continue;
            if (parameter.Experts is null) Refresh(parameter.Value, parameter.Operand, parameter.Name);
            else
            {
                for (int e = 0; e < parameter.Experts.Count; e++) Refresh(parameter.Value.At(e), parameter.Experts[e], parameter.Name);
            }
        }
    }

    private void Refresh(Tensor value, in ScaledTensor operand, string name)
    {
        fault.AsSpan<long>()[0] = -1;
        device.Quantization.Quantize(value, operand, operand.Layout == ScaleLayout.None ? default : fault);
        if (fault.AsSpan<long>()[0] is var tile and >= 0) throw new FathomException($"tile {tile} of {name} has weights that are not finite");
    }

    /// <summary>Normal matrices of a standard deviation, norm weights one, routing biases zero ([P] §4.2).</summary>
    /// <param name="seed">Of the run.</param>
    /// <param name="standardDeviation">initializer_range; the paper uses 0.006.</param>
    public void Initialize(ulong seed, float standardDeviation)
    {
        MarkChanged();
        foreach (Parameter parameter in parameters)
        {
            foreach ((string name, Tensor value) in parameter.CheckpointTensors())
            {
                Span<float> values = value.AsSpan<float>();
                switch (parameter.Role)
                {
                    case ParameterRole.NormWeight: values.Fill(1); break;
                    case ParameterRole.RoutingBias: values.Clear(); break;
                    default: new Philox(seed, name).FillNormal(values, 0, standardDeviation); break;
                }
            }
        }
    }

    /// <summary>Copies every parameter out of a checkpoint, converting to F32.</summary>
    /// <exception cref="FathomException">A tensor is missing, misshapen or too much.</exception>
    public void Load(Checkpoint checkpoint, ModelConfig config)
    {
        LayoutCheck.Verify(config, checkpoint);
        MarkChanged();
        var reader = new CheckpointReader(checkpoint, config.QuantizationConfig);
        reader.ReadF32([.. parameters.SelectMany(p => p.CheckpointTensors())]);
    }
}

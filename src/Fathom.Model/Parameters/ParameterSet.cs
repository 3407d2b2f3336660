// The weights of a model in training: F32 memory of our own, gradients beside them, initial values that depend on seed and name
// only, so that neither threads nor the order of construction change them.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Allocates the parameters that layers ask for, and holds them for the optimizer and for checkpoints.</summary>
public sealed class ParameterSet(Device device) : IParameterSource
{
    private const long ElementsAtOnce = 64 << 20; // 256 MB that are converted before they are uploaded
    private readonly List<Parameter> parameters = [];
    private Copy[] copies = [];
    private Mirror? faults; // [copies], I64: the first tile of each that is not finite, or -1
    private bool changed = true;

    /// <summary>Where the parameters lie.</summary>
    public Device Device => device;

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

    /// <summary>Gives every trained parameter memory for its gradient.</summary>
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

        copies = [.. parameters.Where(p => p.Operand.DType != DType.F32).SelectMany(CopiesOf)];
        faults = copies.Length > 0 ? new Mirror(device, new Shape(copies.Length), DType.I64) : null;
    }

    /// <summary>Says that the weights are not those that the copies were made from.</summary>
    public void MarkChanged() => changed = true;

    /// <summary>
    /// Makes the copies anew from the weights, where these have changed: once a step. On a device that works beside the processor
    /// nothing is waited for, and <see cref="CheckOperands"/> says later whether all was well.
    /// </summary>
    /// <exception cref="FathomException">A weight is not finite; the message names the parameter and the tile.</exception>
    public void RefreshOperands()
    {
        if (!changed || faults is null) return;
        changed = false;
        faults.Host.AsSpan<long>().Fill(-1);
        faults.Push();
        for (int i = 0; i < copies.Length; i++)
        {
            ref readonly Copy copy = ref copies[i];
            device.Quantization.Quantize(copy.Value, copy.Operand, copy.Operand.Layout == ScaleLayout.None ? default : faults.Tensor.Slice(i, 1));
        }

        if (device.IsHost) CheckOperands();
    }

    /// <summary>Waits for the copies of <see cref="RefreshOperands"/> and looks whether they could be made.</summary>
    /// <exception cref="FathomException">A weight is not finite; the message names the parameter and the tile.</exception>
    public void CheckOperands()
    {
        if (faults is null) return;
        faults.Pull();
        ReadOnlySpan<long> tiles = faults.Host.AsSpan<long>();
        int first = tiles.IndexOfAnyExcept(-1L);
        if (first >= 0) throw new FathomException($"tile {tiles[first]} of {copies[first].Name} has weights that are not finite");
    }

    /// <summary>Normal matrices of a standard deviation, norm weights one, routing biases zero ([P] §4.2).</summary>
    /// <param name="seed">Of the run.</param>
    /// <param name="standardDeviation">initializer_range; the paper uses 0.006.</param>
    public void Initialize(ulong seed, float standardDeviation)
    {
        MarkChanged();
        var staging = new Staging(device);
        foreach (Parameter parameter in parameters)
        {
            foreach ((string name, Tensor value) in parameter.CheckpointTensors())
            {
                Span<float> values = staging.Open(value).AsSpan<float>();
                switch (parameter.Role)
                {
                    case ParameterRole.NormWeight: values.Fill(1); break;
                    case ParameterRole.RoutingBias: values.Clear(); break;
                    default: new Philox(seed, name).FillNormal(values, 0, standardDeviation); break;
                }

                staging.Upload(value);
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
        (string Name, Tensor Value)[] tensors = [.. parameters.SelectMany(p => p.CheckpointTensors())];
        if (device.IsHost) reader.ReadF32(tensors);
        else LoadInPieces(reader, tensors);
    }

    /// <summary>Several tensors at a time are converted in host memory, by several threads, and handed to the device.</summary>
    private void LoadInPieces(CheckpointReader reader, ReadOnlySpan<(string Name, Tensor Value)> tensors)
    {
        var staging = new Staging(device);
        while (tensors.Length > 0)
        {
            long elements = 0;
            int count = 0;
            while (count < tensors.Length && (count == 0 || elements + tensors[count].Value.Elements <= ElementsAtOnce)) elements += tensors[count++].Value.Elements;
            Tensor room = staging.Take(new Shape(elements), DType.F32);
            var views = new (string Name, Tensor Value)[count];
            long at = 0;
            for (int i = 0; i < count; i++)
            {
                (string name, Tensor value) = tensors[i];
                views[i] = (name, room.Slice(at, value.Elements).Reshape(value.Shape));
                at += value.Elements;
            }

            reader.ReadF32(views);
            for (int i = 0; i < count; i++) device.Upload(views[i].Value, tensors[i].Value);
            tensors = tensors[count..];
        }
    }

    /// <summary>The matrices of a parameter with their copies: experts as one matrix where no block of scales then covers two of them.</summary>
    private static IEnumerable<Copy> CopiesOf(Parameter parameter)
    {
        if (parameter.Experts is not { } experts) return [new Copy(parameter.Name, parameter.Value, parameter.Operand)];
        if (parameter.Operand.TryStack(out ScaledTensor stacked)) return [new Copy(parameter.Name, parameter.Value.Reshape(stacked.Shape), stacked)];
        return Enumerable.Range(0, experts.Count).Select(e => new Copy(parameter.Name, parameter.Value.At(e), experts[e]));
    }

    /// <summary>A matrix and its copy as products take it.</summary>
    private readonly record struct Copy(string Name, Tensor Value, ScaledTensor Operand);
}

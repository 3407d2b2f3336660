// Weights for measurements: only what products take, and gradients. One block of normal numbers is repeated over every matrix; their
// rows are no multiples of its length, so that the rows of a matrix differ.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Hands out random operands in the formats of a recipe.</summary>
/// <param name="device">Where they lie.</param>
/// <param name="recipe">Says the formats.</param>
/// <param name="standardDeviation">Of the weights.</param>
internal sealed class RandomParameters(Device device, Recipe recipe, float standardDeviation) : IParameterSource
{
    private const int BlockElements = (4 << 20) - 3;
    private readonly List<Parameter> parameters = [];
    private Tensor block;   // [BlockElements], normal numbers
    private float blockDeviation;
    private Tensor singles; // room for a matrix before it is quantised

    /// <summary>All parameters in the order of construction.</summary>
    public IReadOnlyList<Parameter> All => parameters;

    /// <inheritdoc/>
    public Parameter Get(string name, Shape shape, ParameterRole role)
    {
        ScaledTensor operand = Take(shape, role);
        if (role == ParameterRole.NormWeight) Ones(operand.Elements);
        else if (role != ParameterRole.RoutingBias) Write(operand);
        return Add(new Parameter(name, operand, role));
    }

    /// <inheritdoc/>
    public Parameter GetExperts(string pattern, int experts, Shape shape)
    {
        ScaledTensor stacked = Take(new Shape(experts, shape[0], shape[1]), ParameterRole.Linear);
        for (int e = 0; e < experts; e++) Write(stacked.At(e));
        var parameter = new Parameter(pattern, stacked, ParameterRole.Linear);
        parameter.SetOperand(stacked);
        return Add(parameter);
    }

    /// <inheritdoc/>
    public bool HasMtpModule(int layer) => false;

    /// <summary>Normal numbers into a tensor of F32 or BF16.</summary>
    public void Fill(Tensor tensor, float deviation)
    {
        Tensor values = Normal(tensor.Shape, deviation);
        if (tensor.DType == DType.F32) device.Reduction.Copy(values, tensor);
        else device.Reduction.Convert(values, tensor);
    }

    /// <summary>Quantises the first row of blocks of every weight again, to the same codes.</summary>
    public void WriteAgain()
    {
        foreach (Parameter parameter in parameters)
        {
            if (parameter.Operand.Layout != ScaleLayout.Block) continue;
            ScaledTensor first = parameter.Experts?[0] ?? parameter.Operand;
            Tensor rows = first.Elements.Slice(0, Math.Min(ScaledTensor.TileSize, first.Elements.Rows));
            Write(new ScaledTensor(rows, first.Scales.Slice(0, 1), ScaleLayout.Block));
        }
    }

    private ScaledTensor Take(Shape shape, ParameterRole role) =>
        recipe.On(device.HoldsBFloat16).WeightFormat(role).Take(shape, new DeviceSource(device, MemoryKind.WeightCopies));

    private Parameter Add(Parameter parameter)
    {
        if (parameter.Role != ParameterRole.RoutingBias) parameter.Gradient = device.Allocate(parameter.Operand.Shape, DType.F32, MemoryKind.Gradients);
        parameters.Add(parameter);
        return parameter;
    }

    private void Write(in ScaledTensor operand)
    {
        Tensor values = Normal(operand.Shape, standardDeviation);
        if (operand.Layout == ScaleLayout.None && operand.DType == DType.F32) device.Reduction.Copy(values, operand.Elements);
        else device.Quantization.Quantize(values, operand);
    }

    private void Ones(Tensor vector)
    {
        Tensor host = HostMemory.Allocate(vector.Shape, DType.F32);
        host.AsSpan<float>().Fill(1);
        device.Upload(host, vector);
    }

    private Tensor Normal(Shape shape, float deviation)
    {
        if (block.IsEmpty || blockDeviation != deviation)
        {
            Tensor host = HostMemory.Allocate(new Shape(BlockElements), DType.F32);
            new Philox(1, "random parameters").FillNormal(host.AsSpan<float>(), 0, deviation);
            block = device.Allocate(host.Shape, DType.F32, MemoryKind.Workspace);
            device.Upload(host, block);
            blockDeviation = deviation;
        }

        if (singles.IsEmpty || singles.Elements < shape.Elements) singles = device.Allocate(new Shape(shape.Elements), DType.F32, MemoryKind.Workspace);
        Tensor values = singles.Slice(0, shape.Elements);
        for (long start = 0; start < values.Elements; start += BlockElements)
        {
            long count = Math.Min(BlockElements, values.Elements - start);
            device.Reduction.Copy(block.Slice(0, count), values.Slice(start, count));
        }

        return values.Reshape(shape);
    }
}

// Operands of the accumulation study. The error of a narrow sum depends on what is summed: terms of both signs make a sum that grows
// like the root of its length, terms of one sign one that grows with it, and leave the last bits of the register ever further above
// the terms. Activations of a network lie between: their channels differ widely in size, and some have a mean.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Studies;

/// <summary>What is multiplied.</summary>
public enum OperandKind
{
    /// <summary>Standard normal, one scale a matrix.</summary>
    Normal,

    /// <summary>Uniform in [0, 1), one scale a matrix: every product is positive.</summary>
    Positive,

    /// <summary>
    /// As in a linear layer: activations whose channels differ in size (log-normal) and mean, one in 64 of them twenty times larger,
    /// in 1x128 tiles; normal weights in 128x128 blocks.
    /// </summary>
    Layer,
}

/// <summary>A left operand [M, K] and a right operand [N, K], both in E4M3.</summary>
internal sealed record StudyOperands(ScaledTensor Left, ScaledTensor Right)
{
    private const double ChannelSpread = 0.7, ChannelMean = 0.3, OutlierSize = 20;
    private const int OutlierEvery = 64;

    /// <summary>Draws and quantises operands.</summary>
    public static StudyOperands Draw(Device device, OperandKind kind, int rows, int columns, int depth, ulong seed)
    {
        Tensor left = device.Allocate(new Shape(rows, depth), DType.F32, MemoryKind.Inputs), right = device.Allocate(new Shape(columns, depth), DType.F32, MemoryKind.Inputs);
        Philox leftRandom = new(seed, $"left {kind} {depth}"), rightRandom = new(seed, $"right {kind} {depth}");
        if (kind == OperandKind.Positive)
        {
            leftRandom.FillUniform(left.AsSpan<float>());
            rightRandom.FillUniform(right.AsSpan<float>());
        }
        else
        {
            leftRandom.FillNormal(left.AsSpan<float>(), 0, 1);
            rightRandom.FillNormal(right.AsSpan<float>(), 0, 1);
        }

        if (kind == OperandKind.Layer) ShapeChannels(left, new Philox(seed, $"channels {depth}"));
        return kind == OperandKind.Layer
            ? new StudyOperands(Quantize(device, left, ScaleLayout.RowTile), Quantize(device, right, ScaleLayout.Block))
            : new StudyOperands(Quantize(device, left, ScaleLayout.Tensor), Quantize(device, right, ScaleLayout.Tensor));
    }

    private static void ShapeChannels(Tensor x, Philox random)
    {
        for (int k = 0; k < x.Columns; k++)
        {
            ulong index = 2 * (ulong)k;
            float size = (float)(Math.Exp(ChannelSpread * random.Normal(index)) * (k % OutlierEvery == 0 ? OutlierSize : 1));
            float mean = (float)(ChannelMean * random.Normal(index + 1));
            for (int r = 0; r < x.Rows; r++)
            {
                ref float value = ref x.Row<float>(r)[k];
                value = size * (value + mean);
            }
        }
    }

    private static ScaledTensor Quantize(Device device, Tensor x, ScaleLayout layout)
    {
        var quantized = new ScaledTensor(
            device.Allocate(x.Shape, DType.F8E4M3, MemoryKind.Inputs), device.Allocate(ScaledTensor.ScaleShape(x.Shape, layout), DType.F32, MemoryKind.Inputs), layout);
        device.Quantization.Quantize(x, quantized);
        return quantized;
    }
}

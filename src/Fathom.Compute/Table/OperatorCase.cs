// One row of the operator table. The same row is a correctness test (a device against the reference, outputs poisoned before),
// and a speed test (time, FLOP/s, bytes/s). A new backend passes by running the table.
using Fathom.Numerics;

namespace Fathom.Compute.Table;

/// <summary>How an operand is filled before a run.</summary>
public enum Fill
{
    /// <summary>Normal numbers of standard deviation 1.</summary>
    Normal,

    /// <summary>Normal numbers scaled by 1/√(columns), for weights.</summary>
    Weight,

    /// <summary>Positive numbers between 0.5 and 1.5.</summary>
    Positive,

    /// <summary>NaN everywhere (zero for integers): an output that must be overwritten wholly.</summary>
    Poison,

    /// <summary>Given by <see cref="Operand.Initialize"/>.</summary>
    Custom,
}

/// <summary>An input or output of a case.</summary>
/// <param name="Name">As in the operator's signature.</param>
/// <param name="Shape">Dimensions.</param>
/// <param name="Fill">Contents before the run.</param>
/// <param name="DType">Element type.</param>
/// <param name="Compare">Whether the contents after the run are compared.</param>
/// <param name="PadColumns">Extra columns between rows: the operand is then a strided view.</param>
/// <param name="Initialize">Fills the operand where <see cref="Fill"/> is custom; the second argument is a seeded generator.</param>
public sealed record Operand(
    string Name, Shape Shape, Fill Fill, DType DType = DType.F32, bool Compare = false, int PadColumns = 0,
    Action<Tensor, Random>? Initialize = null);

/// <summary>One operator at one shape.</summary>
public sealed class OperatorCase
{
    /// <summary>Family and operator, as "linear.forward".</summary>
    public required string Name { get; init; }

    /// <summary>What is special about the row: "M=512 N=1408 K=512", "ragged", …</summary>
    public required string Label { get; init; }

    /// <summary>Everything the operator reads or writes, in the order <see cref="Run"/> expects.</summary>
    public required IReadOnlyList<Operand> Operands { get; init; }

    /// <summary>Calls the operator on a device.</summary>
    public required Action<Device, Tensor[]> Run { get; init; }

    /// <summary>Floating-point operations of one run, or 0 where bytes are what counts.</summary>
    public double Flops { get; init; }

    /// <summary>Bytes that must be moved at least.</summary>
    public double Bytes { get; init; }

    /// <summary>Largest allowed |device - reference| relative to the largest |reference| of the operand.</summary>
    public double Tolerance { get; init; } = 2e-6;

    /// <summary>Whether the reference is fast enough to check this row in a test run.</summary>
    public bool Small { get; init; } = true;

    /// <inheritdoc/>
    public override string ToString() => $"{Name} {Label}";

    /// <summary>Allocates and fills the operands; the same seed gives the same contents on every device.</summary>
    public Tensor[] Prepare(Device device, int seed)
    {
        var tensors = new Tensor[Operands.Count];
        for (int i = 0; i < tensors.Length; i++)
        {
            Operand operand = Operands[i];
            tensors[i] = Allocate(device, operand);
            var random = new Random(seed * 1000 + i);
            if (operand.Initialize is { } initialize) initialize(tensors[i], random);
            else FillWith(tensors[i], operand.Fill, random);
        }

        return tensors;
    }

    private static Tensor Allocate(Device device, Operand operand)
    {
        if (operand.PadColumns == 0) return device.Allocate(operand.Shape, operand.DType, MemoryKind.Workspace);
        Shape s = operand.Shape;
        long columns = s.Columns + operand.PadColumns;
        Shape padded = s.Rank switch
        {
            2 => new Shape(s[0], columns),
            3 => new Shape(s[0], s[1], columns),
            _ => throw new ArgumentException($"{operand.Name}: only matrices can be strided"),
        };
        return device.Allocate(padded, operand.DType, MemoryKind.Workspace).ColumnRange(0, s.Columns);
    }

    private static void FillWith(Tensor tensor, Fill fill, Random random)
    {
        for (long r = 0; r < tensor.Rows; r++)
        {
            for (int c = 0; c < tensor.Columns; c++)
            {
                float value = fill switch
                {
                    Fill.Normal => Normal(random),
                    Fill.Weight => Normal(random) / MathF.Sqrt(tensor.Columns),
                    Fill.Positive => 0.5f + random.NextSingle(),
                    _ => float.NaN,
                };
                switch (tensor.DType)
                {
                    case DType.F32: tensor.Row<float>(r)[c] = value; break;
                    case DType.BF16: tensor.Row<ushort>(r)[c] = (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16); break;
                    default: break; // Integers start at zero, as allocated.
                }
            }
        }
    }

    /// <summary>A normal number (Box and Muller), for custom fills.</summary>
    public static float Normal(Random random) =>
        (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
}

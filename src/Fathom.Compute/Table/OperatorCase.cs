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
/// <param name="Initialize">Fills the operand where <see cref="Fill"/> is custom; the second argument is a seeded generator. Always called with host memory.</param>
/// <param name="Activation">Whether it flows between layers, so that a device may hold it in BF16.</param>
/// <param name="InHostMemory">Whether it lies in host memory on every device.</param>
/// <param name="Addend">Whether what it holds before the run is a term of the result, so that its size counts in what is allowed.</param>
public sealed record Operand(
    string Name, Shape Shape, Fill Fill, DType DType = DType.F32, bool Compare = false, int PadColumns = 0,
    Action<Tensor, Random>? Initialize = null, bool Activation = false, bool InHostMemory = false, bool Addend = false);

/// <summary>Which of a case's activations hold BF16 values. On a device that keeps them in F32 they are rounded.</summary>
public enum BFloat16Activations
{
    /// <summary>None: all is F32.</summary>
    None,

    /// <summary>All.</summary>
    All,

    /// <summary>Those that are read, while results are F32: logits of a router or a head.</summary>
    Inputs,

    /// <summary>The results, while what is read is F32: their gradients.</summary>
    Results,
}

/// <summary>One operator at one shape.</summary>
public sealed unsafe class OperatorCase
{
    // What lies between rows.
    private const byte PaddingByte = 0xA5;

    /// <summary>Family and operator, as "linear.forward".</summary>
    public required string Name { get; init; }

    /// <summary>What is special about the row: "M=512 N=1408 K=512", "ragged", …</summary>
    public required string Label { get; init; }

    /// <summary>Everything the operator reads or writes, in the order <see cref="Run"/> expects.</summary>
    public required IReadOnlyList<Operand> Operands { get; init; }

    /// <summary>What is computed before, on the same device: what a backward pass needs of its forward pass.</summary>
    public Action<Device, Tensor[]>? Setup { get; init; }

    /// <summary>Calls the operator on a device.</summary>
    public required Action<Device, Tensor[]> Run { get; init; }

    /// <summary>
    /// The largest term of the sums that results are, from the operands before the run, where terms may cancel and are not operands themselves
    /// (<see cref="Operand.Addend"/>): it counts in what is allowed.
    /// </summary>
    public Func<Tensor[], double>? LargestTerm { get; init; }

    /// <summary>Floating-point operations of one run, or 0 where bytes are what counts.</summary>
    public double Flops { get; init; }

    /// <summary>Bytes that must be moved at least.</summary>
    public double Bytes { get; init; }

    /// <summary>Largest allowed |device - reference| relative to the largest |reference| of the operand.</summary>
    public double Tolerance { get; init; } = 2e-6;

    /// <summary>The same where activations are BF16, besides the rounding of each result.</summary>
    public double RoundedTolerance { get; init; } = 2e-6;

    /// <summary>The same where 8-bit operands are multiplied by tensor cores, whose running sums are shorter than F32.</summary>
    public double NarrowSumTolerance { get; init; }

    /// <summary>Whether a processor may multiply BF16 numbers (<see cref="Device.LinearInBFloat16"/>).</summary>
    public bool InBFloat16 { get; init; }

    /// <summary>Whether the reference is fast enough to check this row in a test run.</summary>
    public bool Small { get; init; } = true;

    /// <inheritdoc/>
    public override string ToString() => $"{Name} {Label}";

    /// <summary>Allocates and fills the operands; the same seed gives the same contents on every device.</summary>
    /// <param name="device">Whose memory the operands lie in.</param>
    /// <param name="seed">Of the random numbers.</param>
    /// <param name="rounded">Which activations hold BF16 values.</param>
    public Tensor[] Prepare(Device device, int seed, BFloat16Activations rounded = BFloat16Activations.None)
    {
        var tensors = new Tensor[Operands.Count];
        for (int i = 0; i < tensors.Length; i++)
        {
            Operand operand = Operands[i];
            bool rounds = Rounds(operand, rounded);
            Shape padded = WithColumns(operand.Shape, operand.Shape.Columns + operand.PadColumns);
            Tensor host = device.IsHost ? device.Allocate(padded, operand.DType, MemoryKind.Workspace) : HostMemory.Allocate(padded, operand.DType);
            if (operand.PadColumns > 0) new Span<byte>(host.Pointer<byte>(), checked((int)host.Bytes)).Fill(PaddingByte);
            Tensor values = operand.PadColumns > 0 ? host.ColumnRange(0, operand.Shape.Columns) : host;
            var random = new Random(seed * 1000 + i);
            if (operand.Initialize is { } initialize) initialize(values, random);
            else FillWith(values, operand.Fill, random);
            if (rounds) Round(values);
            if (!device.IsHost && !operand.InHostMemory)
            {
                if (rounds && device.HoldsBFloat16) host = Narrow(values, padded);
                Tensor there = device.Allocate(padded, host.DType, MemoryKind.Workspace);
                device.Upload(host, there);
                values = operand.PadColumns > 0 ? there.ColumnRange(0, operand.Shape.Columns) : there;
            }

            tensors[i] = values;
        }

        Setup?.Invoke(device, tensors);
        return tensors;
    }

    /// <summary>
    /// How the row is checked on a device: one that holds results in BF16 that way too, and products also with one side in F32, as
    /// router and head have them.
    /// </summary>
    public IReadOnlyList<BFloat16Activations> Variants(Device device) =>
        !device.HoldsBFloat16 || !Operands.Any(o => o.Activation) ? [BFloat16Activations.None]
        : Name.StartsWith("linear.", StringComparison.Ordinal) && !Name.Contains("grouped", StringComparison.Ordinal) ? Enum.GetValues<BFloat16Activations>()
        : [BFloat16Activations.None, BFloat16Activations.All];

    /// <summary>Whether an operand holds BF16 values.</summary>
    public static bool Rounds(Operand operand, BFloat16Activations rounded) => operand.Activation && operand.DType == DType.F32 && rounded switch
    {
        BFloat16Activations.All => true,
        BFloat16Activations.Inputs => !operand.Compare,
        BFloat16Activations.Results => operand.Compare,
        _ => false,
    };

    /// <summary>An operand's contents in host memory, whether a result left the columns between its rows alone.</summary>
    internal static (Tensor Values, bool PaddingIntact) Fetch(Device device, Tensor tensor, int padColumns)
    {
        Tensor host = tensor;
        if (tensor.Owner is IDeviceMemory)
        {
            Shape padded = WithColumns(tensor.Shape, tensor.Columns + padColumns);
            host = HostMemory.Allocate(padded, tensor.DType);
            device.Download(new Tensor(tensor.Address, tensor.DType, padded, tensor.Owner), host);
            if (padColumns > 0) host = host.ColumnRange(0, tensor.Columns);
        }

        int size = tensor.DType.SizeInBytes();
        for (long r = 0; r < host.Rows && padColumns > 0; r++)
        {
            var padding = new ReadOnlySpan<byte>(host.Pointer<byte>() + (r * host.RowStride + host.Columns) * size, padColumns * size);
            if (padding.ContainsAnyExcept(PaddingByte)) return (host, false);
        }

        return (host, true);
    }

    private static Shape WithColumns(Shape s, long columns) => s.Rank switch
    {
        1 => new Shape(columns),
        2 => new Shape(s[0], columns),
        3 => new Shape(s[0], s[1], columns),
        _ => new Shape(s[0], s[1], s[2], columns),
    };

    private static void Round(Tensor tensor)
    {
        for (long r = 0; r < tensor.Rows; r++)
        {
            foreach (ref float value in tensor.Row<float>(r)) value = (float)(BFloat16)value;
        }
    }

    private static Tensor Narrow(Tensor tensor, Shape padded)
    {
        Tensor narrow = HostMemory.Allocate(padded, DType.BF16);
        new Span<byte>(narrow.Pointer<byte>(), checked((int)narrow.Bytes)).Fill(PaddingByte);
        for (long r = 0; r < tensor.Rows; r++)
        {
            Span<float> from = tensor.Row<float>(r);
            Span<ushort> to = narrow.Row<ushort>(r);
            for (int c = 0; c < from.Length; c++) to[c] = ((BFloat16)from[c]).Bits;
        }

        return narrow;
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

// Quantisation meets values that are not finite before any loss does. Each call leaves the number of its first such tile in a slot
// of device memory; only when a step has gone wrong is it looked at which slot came first.
using Fathom.Compute;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;

namespace Fathom.Model;

/// <summary>What an operand is: the role it plays for a parameter.</summary>
/// <param name="Role">"input", "output gradient", …</param>
/// <param name="Parameter">Name of the parameter, or of the place.</param>
/// <param name="Gradient">Whether it is a gradient, whose magnitude has no natural floor.</param>
public readonly record struct OperandName(string Role, string Parameter, bool Gradient = false)
{
    /// <summary>What a tile's largest magnitude is taken for at least.</summary>
    internal float LeastAmax => Gradient ? 1e-30f : TileQuantizer.SmallestAmax;

    /// <inheritdoc/>
    public override string ToString() => $"the {Role} of {Parameter}";
}

/// <summary>First tiles with values that are not finite, in the order of the calls of a step's micro-batches.</summary>
public sealed class FaultLog
{
    private const int Capacity = 1 << 12;
    private readonly Tensor slots;
    private readonly OperandName[] names;
    private int count;
    private string? earlier;

    internal FaultLog(Device device)
    {
        slots = device.Allocate(new Shape(Capacity), DType.I64, MemoryKind.Inputs);
        names = new OperandName[Capacity];
    }

    /// <summary>The first operand that could not be quantised, and its tile; null where there is none.</summary>
    public string? First()
    {
        if (earlier is not null) return earlier;
        ReadOnlySpan<long> tiles = slots.AsSpan<long>();
        for (int i = 0; i < count; i++)
        {
            if (tiles[i] >= 0) return $"tile {tiles[i]} of {names[i]}";
        }

        return null;
    }

    /// <summary>Forgets the steps before.</summary>
    public void Forget() => (count, earlier) = (0, null);

    /// <summary>Begins the next micro-batch of the step.</summary>
    internal void Advance()
    {
        earlier = First();
        count = 0;
    }

    /// <summary>The slot of the next call; none where the log is full.</summary>
    internal Tensor Next(OperandName name)
    {
        if (count == Capacity) return default;
        names[count] = name;
        slots.AsSpan<long>()[count] = -1;
        return slots.Slice(count++, 1);
    }
}

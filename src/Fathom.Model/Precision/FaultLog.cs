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
    /// <summary>What the largest magnitude of a gradient's tile is taken for at least.</summary>
    internal const float LeastOfGradients = 1e-30f;

    /// <summary>What a tile's largest magnitude is taken for at least.</summary>
    internal float LeastAmax => Gradient ? LeastOfGradients : TileQuantizer.SmallestAmax;

    /// <inheritdoc/>
    public override string ToString() => $"the {Role} of {Parameter}";
}

/// <summary>
/// First tiles with values that are not finite, in the order of a micro-batch's calls. The micro-batches of a step ask for the same
/// slots in the same order, and a slot keeps the first tile it was given, so nothing is read between them.
/// </summary>
public sealed class FaultLog
{
    private const int Capacity = 1 << 12;
    private readonly Mirror slots;
    private readonly OperandName[] names;
    private int count, used;

    internal FaultLog(Device device)
    {
        slots = new Mirror(device, new Shape(Capacity), DType.I64);
        names = new OperandName[Capacity];
        used = Capacity;
        Forget();
    }

    /// <summary>The first operand that could not be quantised, and its tile; null where there is none. Waits for the device.</summary>
    public string? First()
    {
        slots.Pull();
        ReadOnlySpan<long> tiles = slots.Host.AsSpan<long>();
        for (int i = 0; i < used; i++)
        {
            if (tiles[i] >= 0) return $"tile {tiles[i]} of {names[i]}";
        }

        return null;
    }

    /// <summary>Forgets the steps before.</summary>
    public void Forget()
    {
        slots.Host.AsSpan<long>()[..used].Fill(-1);
        slots.Push(used);
        (count, used) = (0, 0);
    }

    /// <summary>Begins the next micro-batch of the step.</summary>
    internal void Advance() => count = 0;

    /// <summary>Calls of this micro-batch so far.</summary>
    internal int Count => count;

    /// <summary>A micro-batch with this many calls was replayed: the slots are written as when it was recorded.</summary>
    internal void Replayed(int calls) => used = Math.Max(used, calls);

    /// <summary>The slot of the next call; none where the log is full.</summary>
    internal Tensor Next(OperandName name)
    {
        if (count == Capacity) return default;
        names[count] = name;
        Tensor slot = slots.Tensor.Slice(count++, 1);
        used = Math.Max(used, count);
        return slot;
    }
}

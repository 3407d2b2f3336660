using System.Globalization;
using Fathom.Compute;
using Fathom.Compute.Cuda;
using Fathom.Numerics;

namespace Fathom.Cli.Verbs;

/// <summary>What --device names, before it is opened.</summary>
/// <param name="Gpu">Which GPU, from 0; null for the processor.</param>
internal readonly record struct DeviceChoice(int? Gpu)
{
    private const string Cpu = "cpu", Cuda = "cuda";

    /// <summary>The processor.</summary>
    public static DeviceChoice Processor => default;

    /// <summary>What training's memory depends on there; the GPU need not be here.</summary>
    public DeviceTraits Traits => Gpu is { } ordinal ? CudaInventory.TraitsOf(ordinal) : DeviceTraits.Processor;

    /// <summary>Reads cpu, cuda, or cuda:N.</summary>
    public static bool TryParse(string text, out DeviceChoice choice)
    {
        choice = text == Cuda ? new DeviceChoice(0) : default;
        if (text is Cpu or Cuda) return true;
        string[] parts = text.Split(':');
        if (parts is not [Cuda, { } number] || !int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int ordinal)) return false;
        choice = new DeviceChoice(ordinal);
        return true;
    }

    /// <summary>Memory of the device: what this process may use, or all of a GPU's.</summary>
    /// <exception cref="FathomException">There is no such GPU; the message says why.</exception>
    public long MemoryBytes()
    {
        if (Gpu is not { } ordinal) return GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        if (CudaSystem.Probe(out int count) is { } reason) throw new FathomException($"no GPU can be used: {reason}");
        return ordinal < count
            ? CudaInventory.Gpus()[ordinal].MemoryBytes
            : throw new FathomException($"there is no GPU {ordinal}: this machine has {count}, counted from 0");
    }

    /// <inheritdoc/>
    public override string ToString() => Gpu is { } ordinal ? string.Create(CultureInfo.InvariantCulture, $"{Cuda}:{ordinal}") : Cpu;
}

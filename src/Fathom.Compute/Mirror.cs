using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>
/// A tensor that the processor fills or reads: one copy where it can, one on the device. On a device in host memory both are the same.
/// </summary>
/// <param name="device">Where the other copy lies.</param>
/// <param name="shape">Dimensions.</param>
/// <param name="dtype">Element type.</param>
/// <param name="kind">What it is counted under.</param>
public sealed class Mirror(Device device, Shape shape, DType dtype, MemoryKind kind = MemoryKind.Inputs)
{
    private Tensor host;

    /// <summary>The copy that operators take.</summary>
    public Tensor Tensor { get; } = device.Allocate(shape, dtype, kind);

    /// <summary>The copy that the processor reads and writes.</summary>
    public Tensor Host => device.IsHost ? Tensor : host.IsEmpty ? host = HostMemory.Allocate(shape, dtype) : host;

    /// <summary>Hands what the processor wrote to the device.</summary>
    public void Push()
    {
        if (!device.IsHost) device.Upload(Host, Tensor);
    }

    /// <summary>Hands the first elements of what the processor wrote to the device.</summary>
    /// <param name="elements">How many, in the order of memory.</param>
    public void Push(long elements)
    {
        if (device.IsHost || elements == 0) return;
        Shape all = new(shape.Elements);
        device.Upload(Host.Reshape(all).Slice(0, elements), Tensor.Reshape(all).Slice(0, elements));
    }

    /// <summary>Gets what the device computed, once it has.</summary>
    public void Pull()
    {
        if (!device.IsHost) device.Download(Tensor, Host);
    }

    /// <summary>Gets the first elements of what the device computed, once it has.</summary>
    /// <param name="elements">How many, in the order of memory.</param>
    public void Pull(long elements)
    {
        if (device.IsHost || elements == 0) return;
        Shape all = new(shape.Elements);
        device.Download(Tensor.Reshape(all).Slice(0, elements), Host.Reshape(all).Slice(0, elements));
    }
}

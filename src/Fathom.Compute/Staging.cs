// The processor's way to tensors that lie on a device, one at a time: weights that are drawn or converted, files that are written,
// logits that are sampled from. In host memory it is no way at all, but the tensor itself.
using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>A window of host memory onto tensors of a device, as large as the largest that was seen through it. Not thread-safe.</summary>
/// <param name="device">Where the tensors lie.</param>
public sealed class Staging(Device device)
{
    private Tensor buffer;

    /// <summary>Host memory to fill for a tensor, of its shape and type; <see cref="Upload"/> hands it over. Contents are whatever it held.</summary>
    /// <param name="tensor">Contiguous, on the device.</param>
    public Tensor Open(Tensor tensor) => device.IsHost ? tensor : Take(tensor.Shape, tensor.DType);

    /// <summary>Hands what <see cref="Open"/> gave to the tensor it was opened for.</summary>
    /// <param name="tensor">The same tensor.</param>
    public void Upload(Tensor tensor)
    {
        if (!device.IsHost) device.Upload(Take(tensor.Shape, tensor.DType), tensor);
    }

    /// <summary>A tensor's contents in host memory, valid until the next call.</summary>
    /// <param name="tensor">Contiguous, on the device.</param>
    public Tensor Download(Tensor tensor)
    {
        if (device.IsHost) return tensor;
        Tensor host = Take(tensor.Shape, tensor.DType);
        device.Download(tensor, host);
        return host;
    }

    /// <summary>The window's own memory, as a tensor; contents are whatever it held.</summary>
    public Tensor Take(Shape shape, DType dtype)
    {
        long bytes = shape.Elements * dtype.SizeInBytes();
        if (buffer.IsEmpty || buffer.Bytes < bytes)
        {
            buffer = default; // may be freed before the larger one is taken
            buffer = HostMemory.Allocate(new Shape(bytes), DType.U8);
        }

        return new Tensor(buffer.Address, dtype, shape, buffer.Owner);
    }
}

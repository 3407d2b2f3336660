using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>Where a tensor's rows start, for kernels: the first element and the distance between rows, in elements.</summary>
/// <typeparam name="T">Element type as stored.</typeparam>
internal readonly unsafe struct RowPointers<T>(in Tensor tensor) where T : unmanaged
{
    private readonly T* first = tensor.Pointer<T>();
    private readonly long stride = tensor.RowStride;

    /// <summary>Whether the tensor was left out.</summary>
    public bool IsEmpty => first == null;

    /// <summary>The first element of a row.</summary>
    public T* this[long row]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => first + row * stride;
    }
}

// A typed view of device or mapped memory. A value, so that slicing in a training step allocates nothing; whoever made the
// memory (an allocation, an arena, a mapped file) is held through `Owner`, so a view never outlives it.
using System.Runtime.CompilerServices;
using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>
/// A row-major view: the last dimension is contiguous, and the rows that the leading dimensions enumerate lie
/// <see cref="RowStride"/> elements apart (more than the row's length where the view is a range of columns).
/// </summary>
public readonly unsafe struct Tensor
{
    /// <summary>A view of memory that <paramref name="owner"/> keeps alive.</summary>
    /// <param name="address">First element.</param>
    /// <param name="dtype">Element type.</param>
    /// <param name="shape">Dimensions.</param>
    /// <param name="owner">Whoever frees the memory.</param>
    /// <param name="readOnly">Whether the memory may not be written (a mapped checkpoint).</param>
    public Tensor(nint address, DType dtype, Shape shape, object? owner, bool readOnly = false)
        : this(address, dtype, shape, shape.Columns, owner, readOnly)
    {
    }

    private Tensor(nint address, DType dtype, Shape shape, long rowStride, object? owner, bool readOnly)
    {
        Address = address;
        DType = dtype;
        Shape = shape;
        RowStride = rowStride;
        IsReadOnly = readOnly;
        Owner = owner;
    }

    /// <summary>Address of the first element, in the memory of the tensor's device.</summary>
    public nint Address { get; }

    /// <summary>Element type.</summary>
    public DType DType { get; }

    /// <summary>Dimensions.</summary>
    public Shape Shape { get; }

    /// <summary>Distance between consecutive rows, in elements.</summary>
    public long RowStride { get; }

    /// <summary>Whether writing is forbidden.</summary>
    public bool IsReadOnly { get; }

    /// <summary>Whoever frees the memory; held so that the memory lives as long as its views.</summary>
    public object? Owner { get; }

    /// <summary>Whether this is the default value: no memory at all.</summary>
    public bool IsEmpty => Shape.Rank == 0;

    /// <summary>Product of the leading dimensions.</summary>
    public long Rows => Shape.Rows;

    /// <summary>Size of the last dimension.</summary>
    public long Columns => Shape.Columns;

    /// <summary>Number of elements.</summary>
    public long Elements => Shape.Elements;

    /// <summary>Whether all elements lie next to each other.</summary>
    public bool IsContiguous => RowStride == Columns || Rows <= 1;

    /// <summary>Bytes that the elements take.</summary>
    public long Bytes => Elements * DType.SizeInBytes();

    /// <summary>The same elements under other dimensions.</summary>
    /// <exception cref="ArgumentException">Another number of elements, or rows that are apart and would have to be cut.</exception>
    public Tensor Reshape(Shape shape)
    {
        if (shape.Elements != Elements || (!IsContiguous && shape.Columns != Columns))
            throw new ArgumentException($"cannot view {Shape} (row stride {RowStride}) as {shape}");
        return new Tensor(Address, DType, shape, IsContiguous ? shape.Columns : RowStride, Owner, IsReadOnly);
    }

    /// <summary>Entries <paramref name="start"/> to start + count - 1 of the first dimension.</summary>
    public Tensor Slice(long start, long count)
    {
        long size = Shape[0];
        if (start < 0 || count < 0 || start + count > size)
            throw new ArgumentOutOfRangeException(nameof(start), $"entries {start} to {start + count} of a tensor {Shape}");
        long inner = Shape.Rank == 1 ? 1 : size == 0 ? 0 : Rows / size * RowStride;
        Shape shape = Shape.Rank switch
        {
            1 => new Shape(count),
            2 => new Shape(count, Shape[1]),
            3 => new Shape(count, Shape[1], Shape[2]),
            _ => new Shape(count, Shape[1], Shape[2], Shape[3]),
        };
        long stride = Shape.Rank == 1 ? count : RowStride;
        return new Tensor(Address + (nint)(start * inner * DType.SizeInBytes()), DType, shape, stride, Owner, IsReadOnly);
    }

    /// <summary>One entry of the first dimension, without that dimension (a vector's entry is [1]).</summary>
    public Tensor At(long index)
    {
        Tensor slice = Slice(index, 1);
        return Shape.Rank switch
        {
            1 => slice,
            2 => slice.WithShape(new Shape(Shape[1])),
            3 => slice.WithShape(new Shape(Shape[1], Shape[2])),
            _ => slice.WithShape(new Shape(Shape[1], Shape[2], Shape[3])),
        };
    }

    /// <summary>Columns <paramref name="start"/> to start + count - 1 of every row; the rows stay where they are.</summary>
    public Tensor ColumnRange(long start, long count)
    {
        if (start < 0 || count < 0 || start + count > Columns)
            throw new ArgumentOutOfRangeException(nameof(start), $"columns {start} to {start + count} of a tensor {Shape}");
        Shape shape = Shape.Rank switch
        {
            1 => new Shape(count),
            2 => new Shape(Shape[0], count),
            3 => new Shape(Shape[0], Shape[1], count),
            _ => new Shape(Shape[0], Shape[1], Shape[2], count),
        };
        return new Tensor(Address + (nint)(start * DType.SizeInBytes()), DType, shape, RowStride, Owner, IsReadOnly);
    }

    /// <summary>All elements of a contiguous host tensor as a span.</summary>
    /// <typeparam name="T">The managed type of the elements: float for F32, ushort for BF16 and F16, and so on.</typeparam>
    /// <exception cref="InvalidOperationException">Not contiguous, too long for a span, or an element size that is not T's.</exception>
    public Span<T> AsSpan<T>() where T : unmanaged
    {
        RequireHost();
        if (!IsContiguous || Elements > int.MaxValue || sizeof(T) != DType.SizeInBytes())
            throw new InvalidOperationException($"{this} cannot be seen as one span of {typeof(T).Name}");
        return new Span<T>((void*)Address, (int)Elements);
    }

    /// <summary>One row (of the flattened leading dimensions) of a host tensor as a span.</summary>
    public Span<T> Row<T>(long row) where T : unmanaged
    {
        RequireHost();
        if ((ulong)row >= (ulong)Rows || sizeof(T) != DType.SizeInBytes())
            throw new InvalidOperationException($"row {row} of {this} as {typeof(T).Name}");
        return new Span<T>((byte*)Address + row * RowStride * sizeof(T), checked((int)Columns));
    }

    /// <summary>The first element as a pointer, for kernels.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T* Pointer<T>() where T : unmanaged => (T*)Address;

    /// <inheritdoc/>
    public override string ToString() => IsEmpty ? "empty tensor" : $"{DType} {Shape}";

    private void RequireHost()
    {
        if (Owner is IDeviceMemory) throw new InvalidOperationException($"{this} lies in a device's memory: download it first");
    }

    private Tensor WithShape(Shape shape) =>
        new(Address, DType, shape, shape.Rank == 1 ? shape.Columns : RowStride, Owner, IsReadOnly);
}

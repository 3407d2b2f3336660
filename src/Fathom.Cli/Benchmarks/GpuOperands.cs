// Operands of real sizes on a GPU: random numbers drawn once on the processor and repeated over the tensor, since drawing ten
// gigabytes would take longer than every measurement together. Products do not mind; zeros they would (less power, higher clocks).
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks;

/// <summary>Makes operands for <see cref="GpuBenchmark"/>.</summary>
/// <param name="device">Where they lie.</param>
/// <param name="deviation">Standard deviation of normal numbers.</param>
internal sealed class GpuOperands(Device device, float deviation = 1)
{
    private const int BlockElements = 4 << 20;
    private readonly Dictionary<DType, Tensor> blocks = [];

    /// <summary>Normal numbers.</summary>
    public Tensor Normal(Shape shape, DType dtype = DType.BF16)
    {
        Tensor tensor = device.Allocate(shape, dtype, MemoryKind.Workspace);
        Fill(tensor);
        return tensor;
    }

    /// <summary>Normal numbers into memory that is there.</summary>
    public void Fill(Tensor tensor)
    {
        Tensor flat = tensor.Reshape(new Shape(tensor.Elements)), block = Block(tensor.DType);
        for (long start = 0; start < flat.Elements; start += BlockElements)
        {
            long count = Math.Min(BlockElements, flat.Elements - start);
            device.Reduction.Copy(block.Slice(0, count), flat.Slice(start, count));
        }
    }

    /// <summary>Memory to be overwritten.</summary>
    public Tensor Empty(Shape shape, DType dtype = DType.BF16) => device.Allocate(shape, dtype, MemoryKind.Workspace);

    /// <summary>A quantised matrix, or [E, N, K] of them in 128x128 blocks.</summary>
    public ScaledTensor Quantized(Shape shape, ScaleLayout layout, Tensor rowOffsets = default)
    {
        if (shape.Rank == 3)
        {
            var stacked = new ScaledTensor(Empty(shape, DType.F8E4M3), Empty(ScaledTensor.ScaleShape(shape, layout), DType.F32), layout);
            Tensor one = Normal(new Shape(shape[1], shape[2]));
            for (long e = 0; e < shape[0]; e++) device.Quantization.Quantize(one, stacked.At(e));
            return stacked;
        }

        Shape scales = rowOffsets.IsEmpty
            ? ScaledTensor.ScaleShape(shape, layout)
            : new Shape(ScaledTensor.GroupedTileRows(shape.Rows, (int)rowOffsets.Elements - 1), shape.Columns);
        var quantized = new ScaledTensor(Empty(shape, DType.F8E4M3), Empty(scales, DType.F32), layout);
        device.Quantization.Quantize(Normal(shape), quantized, rowOffsets: rowOffsets);
        return quantized;
    }

    /// <summary>An operand of a weight gradient, in the layout that the device takes.</summary>
    public ScaledTensor OverTokens(Shape shape, long outputs, long inputs, Tensor rowOffsets = default)
    {
        if (device.Traits.TokenLayout(DType.F8E4M3, DType.F32, outputs, inputs) == ScaleLayout.ColumnTile) return Quantized(shape, ScaleLayout.ColumnTile, rowOffsets);
        long tiles = rowOffsets.IsEmpty ? ScaledTensor.Tiles(shape.Rows) : ScaledTensor.GroupedTileRows(shape.Rows, (int)rowOffsets.Elements - 1);
        var quantized = new ScaledTensor(
            Empty(new Shape(shape.Columns, tiles * ScaledTensor.TileSize), DType.F8E4M3), Empty(new Shape(tiles, shape.Columns), DType.F32), ScaleLayout.TransposedColumnTile);
        device.Quantization.QuantizeTransposed(Normal(shape), quantized, rowOffsets: rowOffsets);
        return quantized;
    }

    /// <summary>Integers from the processor.</summary>
    public Tensor Integers(Shape shape, Func<long, int> value)
    {
        Tensor host = HostMemory.Allocate(shape, DType.I32), tensor = Empty(shape, DType.I32);
        Span<int> values = host.AsSpan<int>();
        for (int i = 0; i < values.Length; i++) values[i] = value(i);
        device.Upload(host, tensor);
        return tensor;
    }

    private Tensor Block(DType dtype)
    {
        if (blocks.TryGetValue(dtype, out Tensor known)) return known;
        Tensor host = HostMemory.Allocate(new Shape(BlockElements), DType.F32);
        new Philox(1, "gpu operands").FillNormal(host.AsSpan<float>(), 0, deviation);
        Tensor single = Empty(new Shape(BlockElements), DType.F32);
        device.Upload(host, single);
        if (dtype == DType.F32) return blocks[dtype] = single;
        Tensor narrow = Empty(new Shape(BlockElements), dtype);
        device.Reduction.Convert(single, narrow);
        return blocks[dtype] = narrow;
    }
}

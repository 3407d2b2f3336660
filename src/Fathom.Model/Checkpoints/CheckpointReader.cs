// Weights as singles, whatever the checkpoint stores. Quantised weights are multiplied with their block's scale. Experts that
// are stored stacked ([E, ...], as transformers 5 holds them in memory) are read as single experts.
using System.Diagnostics.CodeAnalysis;
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Reads tensors of a checkpoint into FP32. Safe on any thread.</summary>
/// <param name="checkpoint">Where the weights are.</param>
/// <param name="quantization">How weights are quantised; where null, reading quantised weights is an error.</param>
public sealed class CheckpointReader(Checkpoint checkpoint, QuantizationConfig? quantization = null)
{
    /// <summary>Whether a tensor can be read under this name, be it as such or out of stacked experts.</summary>
    public bool Contains(string name) => checkpoint.Contains(name) || TryFindStacked(name, out _);

    /// <summary>A tensor's dimensions.</summary>
    /// <exception cref="FathomException">There is no such tensor.</exception>
    public long[] ShapeOf(string name)
    {
        if (checkpoint.TryGet(name, out SafetensorsEntry? entry)) return entry.Shape;
        if (!TryFindStacked(name, out StackedExpert? stacked)) throw Missing(name);
        long[] shape = checkpoint.Entry(stacked.Name).Shape;
        return shape.Length == 3 ? [shape[1] / stacked.Parts, shape[2]] : throw NotStacked(stacked.Name, shape);
    }

    /// <summary>Reads a tensor into FP32 memory of the same shape, rows possibly apart.</summary>
    /// <exception cref="FathomException">There is no such tensor, its shape or type is another, or its scale does not fit.</exception>
    public void ReadF32(string name, in Tensor destination)
    {
        if (destination.DType != DType.F32 || destination.IsReadOnly || destination.Owner is IDeviceMemory) throw new ArgumentException($"reading '{name}' needs writable F32 in host memory, not {destination}");
        Tensor source = Find(name, out string stored, out long firstRow);
        if (source.Shape != destination.Shape)
            throw new FathomException($"{checkpoint.Path}: tensor '{name}' has shape {source.Shape}, {destination.Shape} is expected; does config.json belong to these weights?");
        CheckFloat(name, source.DType);
        if (IsScaled(stored, source.DType)) ReadScaled(stored, source, firstRow, destination);
        else ReadPlain(source, destination);
        GC.KeepAlive(source.Owner);
        GC.KeepAlive(destination.Owner);
    }

    /// <summary>Reads a tensor of at most 2^31 - 1 elements into a span.</summary>
    /// <exception cref="FathomException">As above, or the span has another length.</exception>
    public unsafe void ReadF32(string name, Span<float> destination)
    {
        long[] shape = ShapeOf(name);
        if (shape.Length > 4) throw new FathomException($"{checkpoint.Path}: tensor '{name}' has {shape.Length} dimensions; at most four are supported");
        var view = new Shape(shape);
        if (view.Elements != destination.Length)
            throw new FathomException($"{checkpoint.Path}: tensor '{name}' has shape {view}, room for {destination.Length} elements was given");
        fixed (float* pointer = destination) ReadF32(name, new Tensor((nint)pointer, DType.F32, view, null));
    }

    /// <summary>Reads a tensor of at most 2^31 - 1 elements into a new array.</summary>
    /// <exception cref="FathomException">As above.</exception>
    public float[] ReadF32(string name)
    {
        long elements = 1;
        foreach (long size in ShapeOf(name)) elements *= size;
        if (elements > Array.MaxLength / sizeof(float)) throw new FathomException($"{checkpoint.Path}: tensor '{name}' is too large for an array");
        var result = new float[elements];
        ReadF32(name, result);
        return result;
    }

    /// <summary>Reads many tensors, several at a time.</summary>
    /// <exception cref="FathomException">As above; the first failure in the order of the list.</exception>
    public void ReadF32(IReadOnlyList<(string Name, Tensor Destination)> tensors)
    {
        var failures = new FathomException?[tensors.Count];
        Parallel.For(0, tensors.Count, i =>
        {
            try
            {
                ReadF32(tensors[i].Name, tensors[i].Destination);
            }
            catch (FathomException e)
            {
                failures[i] = e;
            }
        });
        if (failures.FirstOrDefault(e => e is not null) is FathomException first) throw new FathomException(first.Message, first);
    }

    /// <summary>A read-only view of a tensor as it is stored, with its scales; nothing is copied, every scale is checked.</summary>
    /// <param name="name">The tensor.</param>
    /// <param name="view">The view.</param>
    /// <returns>
    /// False where no kernel reads it in place: F16, F64, E5M2, blocks that are not 128 × 128, stacked experts that begin within a block.
    /// </returns>
    /// <exception cref="FathomException">There is no such tensor, or its scales do not fit.</exception>
    internal bool TryView(string name, out ScaledTensor view)
    {
        Tensor elements = Find(name, out string stored, out long firstRow);
        view = elements;
        if (elements.DType is DType.F32 or DType.BF16) return true;
        view = default;
        if (elements.DType is not (DType.F8E4M3 or DType.HiF8) || elements.Shape.Rank != 2) return false;
        SafetensorsEntry entry = BlockScales.Find(checkpoint, stored, quantization);
        if (quantization is not { BlockRows: ScaledTensor.TileSize, BlockColumns: ScaledTensor.TileSize }) return false;
        (long matrix, long row) = Math.DivRem(firstRow, checkpoint.Entry(stored).Shape[^2]);
        if (entry.DType is not (DType.F32 or DType.F8E8M0) || row % ScaledTensor.TileSize != 0) return false;
        BlockScales.Read(checkpoint, stored, firstRow, elements.Rows, quantization, checkpoint.CopyBytes);
        Tensor scales = checkpoint.Get(entry.Name);
        if (scales.Shape.Rank == 3) scales = scales.At(matrix);
        scales = scales.Slice(row / ScaledTensor.TileSize, ScaledTensor.Tiles(elements.Rows));
        view = new ScaledTensor(elements, scales, ScaleLayout.Block);
        return true;
    }

    /// <summary>Where a tensor lies; for reading it in pieces.</summary>
    /// <exception cref="FathomException">There is no such tensor, it is no matrix or vector of floats, or its scales do not fit.</exception>
    internal StoredTensor Locate(string name)
    {
        Tensor view = Find(name, out string stored, out long firstRow);
        CheckFloat(name, view.DType);
        bool scaled = IsScaled(stored, view.DType);
        if (scaled) BlockScales.Find(checkpoint, stored, quantization);
        long[] shape = checkpoint.Entry(stored).Shape;
        long matrixRow = shape.Length < 2 ? 0 : firstRow % Math.Max(1, shape[^2]);
        return new StoredTensor(stored, firstRow, matrixRow, view.DType, view.Rows, view.Columns, scaled);
    }

    /// <summary>The scales of a located tensor.</summary>
    /// <exception cref="FathomException">One is not a finite number above 0.</exception>
    internal BlockScales ReadScales(StoredTensor tensor, ByteSource bytes) =>
        BlockScales.Read(checkpoint, tensor.Name, tensor.FirstRow, tensor.Rows, quantization, bytes);

    // E4M3 and HiF8 are always scaled; E5M2 is also met as a plain format.
    private bool IsScaled(string stored, DType type) =>
        type is DType.F8E4M3 or DType.HiF8 || type == DType.F8E5M2 && checkpoint.Contains(stored + TensorLayout.ScaleSuffix);

    private static void ReadPlain(in Tensor source, in Tensor destination)
    {
        const int Piece = 1 << 22;
        bool whole = destination.IsContiguous;
        long rows = whole ? 1 : source.Rows, columns = whole ? source.Elements : source.Columns;
        for (long row = 0; row < rows; row++)
        {
            for (long column = 0; column < columns; column += Piece)
                Convert(source, destination, row, column, (int)Math.Min(Piece, columns - column));
        }
    }

    private void ReadScaled(string stored, in Tensor source, long firstRow, in Tensor destination)
    {
        const int Piece = 1 << 14;
        BlockScales scales = BlockScales.Read(checkpoint, stored, firstRow, source.Rows, quantization, checkpoint.CopyBytes);
        for (long row = 0; row < source.Rows; row++)
        {
            for (long column = 0; column < source.Columns; column += Piece)
                scales.Multiply(row, column, Convert(source, destination, row, column, (int)Math.Min(Piece, source.Columns - column)));
        }
    }

    private static unsafe Span<float> Convert(in Tensor source, in Tensor destination, long row, long column, int count)
    {
        int size = source.DType.SizeInBytes();
        var from = new ReadOnlySpan<byte>((byte*)source.Address + (row * source.RowStride + column) * size, count * size);
        var to = new Span<float>((float*)destination.Address + row * destination.RowStride + column, count);
        NumberFormats.ConvertToSingle(source.DType, from, to);
        return to;
    }

    private Tensor Find(string name, out string stored, out long firstRow)
    {
        (stored, firstRow) = (name, 0);
        if (checkpoint.Contains(name)) return checkpoint.Get(name);
        if (!TryFindStacked(name, out StackedExpert? stacked)) throw Missing(name);
        stored = stacked.Name;
        Tensor all = checkpoint.Get(stored);
        if (all.Shape.Rank != 3 || all.Shape[1] % stacked.Parts != 0) throw NotStacked(stored, checkpoint.Entry(stored).Shape);
        if (stacked.Expert >= all.Shape[0])
            throw new FathomException($"{checkpoint.Path}: '{name}' should be entry {stacked.Expert} of '{stored}', which has {all.Shape[0]}");
        long rows = all.Shape[1] / stacked.Parts;
        firstRow = stacked.Expert * all.Shape[1] + stacked.Part * rows;
        return all.At(stacked.Expert).Slice(stacked.Part * rows, rows);
    }

    // ….experts.7.up_proj.weight: the second half of the rows of entry 7 of ….experts.gate_up_proj; down_proj is whole.
    private bool TryFindStacked(string name, [NotNullWhen(true)] out StackedExpert? result)
    {
        result = null;
        const string Marker = ".mlp.experts.", Suffix = ".weight";
        int marker = name.IndexOf(Marker, StringComparison.Ordinal);
        if (marker < 0 || !name.EndsWith(Suffix, StringComparison.Ordinal)) return false;
        string[] parts = name[(marker + Marker.Length)..^Suffix.Length].Split('.');
        if (parts.Length != 2 || !int.TryParse(parts[0], System.Globalization.NumberStyles.None, null, out int expert)) return false;
        string folder = name[..(marker + Marker.Length)];
        result = parts[1] switch
        {
            "gate_proj" => new StackedExpert(folder + "gate_up_proj", expert, 0, 2),
            "up_proj" => new StackedExpert(folder + "gate_up_proj", expert, 1, 2),
            "down_proj" => new StackedExpert(folder + "down_proj", expert, 0, 1),
            _ => null,
        };
        if (result is not null && !checkpoint.Contains(result.Name)) result = null;
        return result is not null;
    }

    private void CheckFloat(string name, DType type)
    {
        if (type is not (DType.F32 or DType.F64 or DType.F16 or DType.BF16 or DType.F8E4M3 or DType.F8E5M2 or DType.F8E8M0 or DType.HiF8))
            throw new FathomException($"{checkpoint.Path}: tensor '{name}' is {type.SafetensorsName()}, a float type is expected");
    }

    private FathomException Missing(string name) => new($"{checkpoint.Path}: there is no tensor '{name}'");

    private FathomException NotStacked(string name, long[] shape) =>
        new($"{checkpoint.Path}: '{name}' has shape {SafetensorsEntry.FormatShape(shape)}, stacked experts are [experts, rows, columns]");

    private sealed record StackedExpert(string Name, int Expert, int Part, int Parts);
}

// The multipliers of a quantised weight, checked before anything is multiplied with them:
//   w[i, j] = code[i, j] · scale_inv[i / block rows, j / block columns]
// The traps: `scale_inv` is the multiplier, not its inverse; and the last blocks may be partial, so its shape is rounded up.
// Weights may be stacked ([E, rows, columns]); each matrix of the stack has blocks of its own, so a range of rows that starts
// within a matrix may start within a block.
using System.Numerics;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Reads bytes of a tensor.</summary>
/// <param name="name">The tensor.</param>
/// <param name="start">First byte of the tensor.</param>
/// <param name="destination">Receives the bytes.</param>
internal delegate void ByteSource(string name, long start, Span<byte> destination);

/// <summary>The scales of a range of rows of a quantised weight.</summary>
internal sealed class BlockScales
{
    private readonly float[] values; // [row blocks of the range, column blocks]
    private readonly QuantizationConfig blocks;
    private readonly long firstRow;
    private readonly long height;
    private readonly long rowBlocks;
    private readonly int columnBlocks;

    private BlockScales(float[] values, QuantizationConfig blocks, long firstRow, long height, long rowBlocks, int columnBlocks)
    {
        (this.values, this.blocks, this.firstRow, this.height, this.rowBlocks, this.columnBlocks) =
            (values, blocks, firstRow, height, rowBlocks, columnBlocks);
    }

    /// <summary>All scales of the range, [row blocks, column blocks].</summary>
    public ReadOnlySpan<float> Values => values;

    /// <summary>Reads and checks the scales of rows of a stored weight.</summary>
    /// <param name="checkpoint">Where both lie.</param>
    /// <param name="stored">The weight's name.</param>
    /// <param name="firstRow">First row, counted through the stack.</param>
    /// <param name="rows">Number of rows; not beyond the matrix of the first.</param>
    /// <param name="quantization">The block size; null where config.json has no quantization_config, which is an error.</param>
    /// <param name="bytes">Reads bytes of a tensor.</param>
    /// <exception cref="FathomException">No configuration, no scales, or ones of another shape or type, or one that is not above 0.</exception>
    public static BlockScales Read(Checkpoint checkpoint, string stored, long firstRow, long rows, QuantizationConfig? quantization, ByteSource bytes)
    {
        SafetensorsEntry scale = Find(checkpoint, stored, quantization);
        long height = checkpoint.Entry(stored).Shape[^2];
        long rowBlocks = scale.Shape[^2];
        int columnBlocks = checked((int)scale.Shape[^1]);
        if (rows == 0 || columnBlocks == 0) return new BlockScales([], quantization!, firstRow, Math.Max(1, height), rowBlocks, columnBlocks);
        long first = BlockOf(firstRow, height, rowBlocks, quantization!), last = BlockOf(firstRow + rows - 1, height, rowBlocks, quantization!);
        var values = new float[checked((last - first + 1) * columnBlocks)];
        int size = scale.DType.SizeInBytes();
        var encoded = new byte[checked(values.Length * size)];
        bytes(scale.Name, first * columnBlocks * size, encoded);
        NumberFormats.ConvertToSingle(scale.DType, encoded, values);
        for (int i = 0; i < values.Length; i++)
        {
            if (float.IsFinite(values[i]) && values[i] > 0) continue;
            throw new FathomException(
                $"{checkpoint.Path}: '{scale.Name}' is {FormattableString.Invariant($"{values[i]}")} in row {first + i / columnBlocks}, column {i % columnBlocks}; a scale is a finite number above 0, fetch the file again");
        }

        return new BlockScales(values, quantization!, firstRow, height, rowBlocks, columnBlocks);
    }

    /// <summary>The scales' entry, checked against the weight's shape; reads no data.</summary>
    /// <exception cref="FathomException">No configuration, no scales, or ones of another shape or type.</exception>
    public static SafetensorsEntry Find(Checkpoint checkpoint, string stored, QuantizationConfig? quantization)
    {
        SafetensorsEntry weight = checkpoint.Entry(stored);
        string type = weight.DType.SafetensorsName(), name = stored + TensorLayout.ScaleSuffix;
        if (!checkpoint.TryGet(name, out SafetensorsEntry? scale))
            throw new FathomException($"{checkpoint.Path}: '{stored}' is {type} but there is no '{name}' to scale it with; fetch the file again");
        if (quantization is null)
            throw new FathomException($"{checkpoint.Path}: '{stored}' is {type}, but config.json has no quantization_config that says how it is scaled; restore the config.json of these weights");
        if (weight.DType != quantization.WeightType && weight.DType != DType.F8E5M2)
            throw new FathomException($"{checkpoint.Path}: '{stored}' is {type}, but quantization_config in config.json says {quantization.WeightType.SafetensorsName()}; restore the config.json of these weights");
        if (weight.Shape.Length is < 2 or > 4)
            throw new FathomException($"{checkpoint.Path}: '{stored}' is {weight}; block scales belong to matrices");
        long[] expected = [.. weight.Shape[..^2], .. quantization.ScaleShape(weight.Shape[^2], weight.Shape[^1])];
        if (!scale.Shape.AsSpan().SequenceEqual(expected) || scale.DType is not (DType.F32 or DType.BF16 or DType.F16 or DType.F8E8M0))
        {
            throw new FathomException(
                $"{checkpoint.Path}: '{scale.Name}' is {scale}, expected F32 {SafetensorsEntry.FormatShape(expected)} for weights {SafetensorsEntry.FormatShape(weight.Shape)} in blocks of {quantization.BlockRows} x {quantization.BlockColumns}");
        }

        return scale;
    }

    /// <summary>Multiplies decoded codes of a row with their scales.</summary>
    /// <param name="row">Row within the range.</param>
    /// <param name="firstColumn">Column of the first value.</param>
    /// <param name="values">The codes' values; the weights on return.</param>
    public void Multiply(long row, long firstColumn, Span<float> values)
    {
        long block = BlockOf(firstRow + row, height, rowBlocks, blocks) - BlockOf(firstRow, height, rowBlocks, blocks);
        ReadOnlySpan<float> scales = this.values.AsSpan((int)(block * columnBlocks), columnBlocks);
        while (values.Length > 0)
        {
            int count = (int)Math.Min(values.Length, blocks.BlockColumns - firstColumn % blocks.BlockColumns);
            Multiply(values[..count], scales[(int)(firstColumn / blocks.BlockColumns)]);
            values = values[count..];
            firstColumn += count;
        }
    }

    private static void Multiply(Span<float> values, float scale)
    {
        int i = 0;
        for (var vector = new Vector<float>(scale); i + Vector<float>.Count <= values.Length; i += Vector<float>.Count)
            (new Vector<float>(values[i..]) * vector).CopyTo(values[i..]);
        for (; i < values.Length; i++) values[i] *= scale;
    }

    private static long BlockOf(long row, long height, long rowBlocks, QuantizationConfig blocks) =>
        row / height * rowBlocks + row % height / blocks.BlockRows;
}

// The arithmetic of a conversion, for one strip of rows in memory: a strip's bytes depend on its rows alone, so strips may be
// converted in any order by any number of threads. Between the two formats a piece of at most a block passes through FP32 in
// the first-level cache.
using Fathom.Numerics;
using Fathom.Numerics.Quantization;

namespace Fathom.Model;

/// <summary>Converts strips; one for each thread.</summary>
internal sealed class StripConverter
{
    private const int Block = TileQuantizer.TileLength;
    private readonly float[] values = new float[Block * Block];

    /// <summary>Decodes, scales and rounds rows.</summary>
    /// <param name="source">The rows' bytes in <paramref name="from"/>.</param>
    /// <param name="from">Type of the source.</param>
    /// <param name="scales">Multipliers of the source, or null.</param>
    /// <param name="firstRow">First row within the tensor, for the multipliers.</param>
    /// <param name="columns">Elements of a row.</param>
    /// <param name="destination">Receives the rows' bytes in <paramref name="to"/>.</param>
    /// <param name="to">BF16, F16 or F32.</param>
    public void Convert(ReadOnlySpan<byte> source, DType from, BlockScales? scales, long firstRow, long columns, Span<byte> destination, DType to)
    {
        int read = from.SizeInBytes(), written = to.SizeInBytes();
        for (long row = firstRow, column = 0; source.Length > 0;)
        {
            int count = (int)Math.Min(values.Length, scales is null ? source.Length / read : columns - column);
            Span<float> piece = values.AsSpan(0, count);
            NumberFormats.ConvertToSingle(from, source[..(count * read)], piece);
            scales?.Multiply(row, column, piece);
            NumberFormats.ConvertFromSingle(to, piece, destination[..(count * written)]);
            source = source[(count * read)..];
            destination = destination[(count * written)..];
            column += count;
            if (column == columns) (row, column) = (row + 1, 0);
        }
    }

    /// <summary>Decodes, scales and quantises rows in blocks of 128 × 128.</summary>
    /// <param name="source">The rows' bytes in <paramref name="from"/>; the first row begins a block.</param>
    /// <param name="from">Type of the source.</param>
    /// <param name="scales">Multipliers of the source, or null.</param>
    /// <param name="firstRow">First row within the tensor, for the multipliers.</param>
    /// <param name="columns">Elements of a row.</param>
    /// <param name="codes">Receives the rows' codes.</param>
    /// <param name="format">F8E4M3 or HiF8.</param>
    /// <param name="powersOfTwo">Whether scales are rounded up to powers of two.</param>
    /// <param name="newScales">Receives the blocks' scales, [row blocks, column blocks].</param>
    /// <returns>The number of the first block with a value that is not finite, counted in <paramref name="newScales"/>; else -1.</returns>
    public int Quantize(
        ReadOnlySpan<byte> source, DType from, BlockScales? scales, long firstRow, int columns, Span<byte> codes, DType format, bool powersOfTwo, Span<float> newScales)
    {
        int size = from.SizeInBytes(), rows = source.Length / size / columns, number = 0;
        QuantizedFormat quantized = format == DType.HiF8 ? QuantizedFormat.HiF8 : QuantizedFormat.E4M3;
        ScaleKind kind = powersOfTwo ? ScaleKind.PowerOfTwo : ScaleKind.Single;
        for (int row = 0; row < rows; row += Block)
        {
            int height = Math.Min(Block, rows - row);
            for (int column = 0; column < columns; column += Block, number++)
            {
                int width = Math.Min(Block, columns - column);
                for (int i = 0; i < height; i++)
                {
                    Span<float> piece = values.AsSpan(i * Block, width);
                    NumberFormats.ConvertToSingle(from, source.Slice(((row + i) * columns + column) * size, width * size), piece);
                    scales?.Multiply(firstRow + row + i, column, piece);
                }

                int fault = TileQuantizer.QuantizeBlock(
                    values, Block, height, width, codes[(row * columns + column)..], columns, out newScales[number], quantized, kind);
                if (fault != TileQuantizer.AllFinite) return number;
            }
        }

        return -1;
    }
}

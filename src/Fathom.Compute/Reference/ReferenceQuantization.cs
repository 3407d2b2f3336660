using Fathom.Compute.Operators;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="IQuantizationOperators"/>: tile by tile, value by value.</summary>
internal sealed class ReferenceQuantization : IQuantizationOperators
{
    public void Quantize(Tensor x, in ScaledTensor quantized, Tensor fault, Tensor rowOffsets, float leastAmax)
    {
        if (quantized.Layout == ScaleLayout.None)
        {
            for (long r = 0; r < x.Rows; r++) NumberFormats.ConvertSingleToBFloat16(x.Row<float>(r), quantized.Elements.Row<ushort>(r));
            return;
        }

        long scaleColumns = quantized.Scales.Columns;
        foreach (Tile tile in Tiles(quantized.Layout, x.Rows, x.Columns, rowOffsets))
        {
            float largest = 0;
            bool finite = true;
            tile.ForEach((r, c) =>
            {
                float value = MathF.Abs(x.Row<float>(r)[(int)c]);
                finite &= float.IsFinite(value);
                largest = MathF.Max(largest, value);
            });
            float scale = finite ? MathF.Max(largest, leastAmax) / quantized.DType.TileFormat().ScaleTarget() : float.NaN;
            if (quantized.Scales.DType == DType.F8E8M0 && finite) scale = ScaleE8M0.FromSingle(scale);
            if (!finite && !fault.IsEmpty && fault.AsSpan<long>()[0] < 0) fault.AsSpan<long>()[0] = tile.ScaleRow * scaleColumns + tile.ScaleColumn;
            PutScale(quantized.Scales, tile, scale);
            Tensor elements = quantized.Elements;
            tile.ForEach((r, c) => Put(elements, r, c, finite ? x.Row<float>(r)[(int)c] / scale : 0));
        }
    }

    public void Dequantize(in ScaledTensor x, Tensor y, Tensor rowOffsets)
    {
        Tensor elements = x.Elements;
        if (x.Layout == ScaleLayout.None)
        {
            for (long r = 0; r < y.Rows; r++) NumberFormats.ConvertBFloat16ToSingle(elements.Row<ushort>(r), y.Row<float>(r));
            return;
        }

        foreach (Tile tile in Tiles(x.Layout, y.Rows, y.Columns, rowOffsets))
        {
            float scale = GetScale(x.Scales, tile);
            tile.ForEach((r, c) => y.Row<float>(r)[(int)c] = Get(elements, r, c) * scale);
        }
    }

    public void RoundToBFloat16(Tensor x)
    {
        for (long r = 0; r < x.Rows; r++)
        {
            foreach (ref float value in x.Row<float>(r)) value = (BFloat16)value;
        }
    }

    private static IEnumerable<Tile> Tiles(ScaleLayout layout, long rows, long columns, Tensor rowOffsets)
    {
        const int Size = ScaledTensor.TileSize;
        if (layout == ScaleLayout.Tensor)
        {
            yield return new Tile(0, rows, 0, columns, 0, 0);
            yield break;
        }

        long height = layout == ScaleLayout.RowTile ? 1 : Size, width = layout == ScaleLayout.ColumnTile ? 1 : Size;
        int groups = rowOffsets.IsEmpty ? 1 : (int)rowOffsets.Elements - 1;
        for (int g = 0; g < groups; g++)
        {
            long first = rowOffsets.IsEmpty ? 0 : rowOffsets.GetInt(g), end = rowOffsets.IsEmpty ? rows : rowOffsets.GetInt(g + 1);
            long scaleRow = layout == ScaleLayout.ColumnTile && !rowOffsets.IsEmpty ? first / Size + g : first / height;
            for (long r = first; r < end; r += height, scaleRow++)
            {
                for (long c = 0; c < columns; c += width) yield return new Tile(r, Math.Min(r + height, end), c, Math.Min(c + width, columns), scaleRow, c / width);
            }
        }
    }

    private static void Put(Tensor elements, long row, long column, float value)
    {
        switch (elements.DType)
        {
            case DType.F8E4M3: elements.Row<byte>(row)[(int)column] = Float8E4M3.FromSingle(value, saturate: true).Bits; break;
            case DType.F8E5M2: elements.Row<byte>(row)[(int)column] = Float8E5M2.FromSingle(value, saturate: true).Bits; break;
            case DType.HiF8: elements.Row<byte>(row)[(int)column] = HiFloat8.FromSingle(value, saturate: true).Bits; break;
            case DType.E5M6Pair: PutPair(Pair(elements, row, column), Float12E5M6.FromSingle(value, saturate: true).Bits, column % 2 != 0); break;
            default: throw new ArgumentException($"quantise to {elements}");
        }
    }

    private static float Get(Tensor elements, long row, long column)
    {
        switch (elements.DType)
        {
            case DType.F8E4M3: return Float8E4M3.FromBits(elements.Row<byte>(row)[(int)column]);
            case DType.F8E5M2: return Float8E5M2.FromBits(elements.Row<byte>(row)[(int)column]);
            case DType.HiF8: return HiFloat8.FromBits(elements.Row<byte>(row)[(int)column]);
            case DType.E5M6Pair:
                Span<byte> pair = Pair(elements, row, column);
                return Float12E5M6.FromBits((ushort)((pair[0] | pair[1] << 8 | pair[2] << 16) >> (column % 2 == 0 ? 0 : 12) & 0xFFF));
            default: throw new ArgumentException($"dequantise {elements}");
        }
    }

    private static void PutPair(Span<byte> pair, uint code, bool second)
    {
        uint both = (uint)(pair[0] | pair[1] << 8 | pair[2] << 16);
        both = second ? both & 0xFFF | code << 12 : both & 0xFFF000 | code;
        (pair[0], pair[1], pair[2]) = ((byte)both, (byte)(both >> 8), (byte)(both >> 16));
    }

    private static unsafe Span<byte> Pair(Tensor elements, long row, long column) =>
        new(elements.Pointer<byte>() + 3 * (row * elements.RowStride + column / 2), 3);

    private static void PutScale(Tensor scales, in Tile tile, float scale)
    {
        if (scales.DType == DType.F32) scales.Row<float>(tile.ScaleRow)[(int)tile.ScaleColumn] = scale;
        else scales.Row<byte>(tile.ScaleRow)[(int)tile.ScaleColumn] = (byte)(BitConverter.SingleToUInt32Bits(scale) >> 23);
    }

    private static float GetScale(Tensor scales, in Tile tile)
    {
        if (scales.DType == DType.F32) return scales.Row<float>(tile.ScaleRow)[(int)tile.ScaleColumn];
        byte code = scales.Row<byte>(tile.ScaleRow)[(int)tile.ScaleColumn];
        return code == 255 ? float.NaN : MathF.ScaleB(1, code - 127);
    }

    private readonly record struct Tile(long Row, long EndRow, long Column, long EndColumn, long ScaleRow, long ScaleColumn)
    {
        public void ForEach(Action<long, long> visit)
        {
            for (long r = Row; r < EndRow; r++)
            {
                for (long c = Column; c < EndColumn; c++) visit(r, c);
            }
        }
    }
}

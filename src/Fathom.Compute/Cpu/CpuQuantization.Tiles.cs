// The cuts of quantised matrices and the work on one: a few rows of 1x128 tiles, a strip of 128x1 tiles, a block. Where a tile is not
// finite the tile quantisers stop; it gets a scale that is not a number, and they go on behind it.
using System.Runtime.CompilerServices;
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;

namespace Fathom.Compute.Cpu;

internal sealed unsafe partial class CpuQuantization
{
    /// <summary>How a quantised matrix is cut for the team: rows, strips of 128 rows by 512 columns, or blocks.</summary>
    private readonly struct Plan
    {
        private readonly int* offsets;
        private readonly int groups;
        private readonly int rowsOfTile;
        private readonly int columnTiles;

        public Plan(in ScaledTensor matrix, long rows, long columns, in Tensor rowOffsets)
        {
            (Layout, Format, Rows, Columns) = (matrix.Layout, matrix.DType.TileFormat(), rows, columns);
            (Elements, Scales) = (matrix.Elements, matrix.Scales);
            offsets = rowOffsets.IsEmpty ? null : rowOffsets.Pointer<int>();
            groups = rowOffsets.IsEmpty ? 1 : (int)rowOffsets.Elements - 1;
            rowsOfTile = Layout is ScaleLayout.RowTile or ScaleLayout.Tensor ? (int)Math.Clamp(Ranges.Grain(5 * columns), 1, Math.Max(1, rows)) : Tile;
            columnTiles = Layout switch
            {
                ScaleLayout.ColumnTile => (int)((columns + StripColumns - 1) / StripColumns),
                ScaleLayout.Block => (int)ScaledTensor.Tiles(columns),
                _ => 1,
            };
            long rowTiles = offsets != null ? ScaledTensor.GroupedTileRows(rows, groups) : (rows + rowsOfTile - 1) / rowsOfTile;
            Tiles = checked((int)(rowTiles * columnTiles));
        }

        public ScaleLayout Layout { get; }

        public QuantizedFormat Format { get; }

        public long Rows { get; }

        public long Columns { get; }

        public Tensor Elements { get; }

        public Tensor Scales { get; }

        public int Tiles { get; }

        public ScaleKind Kind => Scales.DType == DType.F8E8M0 ? ScaleKind.PowerOfTwo : ScaleKind.Single;

        /// <summary>Rows and columns of one tile of the team, and the row of its scales.</summary>
        public (long Row, int Rows, long Column, int Columns, long ScaleRow) At(int tile)
        {
            long rowTile = tile / columnTiles, row = rowTile * rowsOfTile, end = Rows;
            if (offsets != null)
            {
                int low = 0, high = groups - 1;
                while (low < high)
                {
                    int middle = (low + high + 1) / 2;
                    if (offsets[middle] / Tile + middle <= rowTile) low = middle;
                    else high = middle - 1;
                }

                row = offsets[low] + (rowTile - offsets[low] / Tile - low) * Tile;
                end = offsets[low + 1];
            }

            int width = columnTiles == 1 ? (int)Columns : Layout == ScaleLayout.Block ? Tile : StripColumns;
            long column = (long)(tile % columnTiles) * width;
            return (row, (int)Math.Clamp(end - row, 0, rowsOfTile), column, (int)Math.Min(width, Columns - column), rowTile);
        }

        public Span<byte> Codes(long row, long column, int columns)
        {
            int size = Elements.DType.SizeInBytes(), pairs = Elements.DType == DType.E5M6Pair ? 2 : 1;
            return new Span<byte>(Elements.Pointer<byte>() + (row * Elements.RowStride + column / pairs) * size, Format.Bytes(columns));
        }

        /// <summary>All codes from a place on, of rows at a stride.</summary>
        public Span<byte> Codes(long row, long column, int rows, int columns, out int stride)
        {
            int size = Elements.DType.SizeInBytes(), pairs = Elements.DType == DType.E5M6Pair ? 2 : 1;
            stride = checked((int)Elements.RowStride * size);
            return new Span<byte>(Elements.Pointer<byte>() + (row * Elements.RowStride + column / pairs) * size, checked((rows - 1) * stride + Format.Bytes(columns)));
        }

        public void PutScales(long row, long column, ReadOnlySpan<float> scales)
        {
            if (Scales.DType == DType.F32)
            {
                scales.CopyTo(new Span<float>(Scales.Pointer<float>() + row * Scales.RowStride + column, scales.Length));
                return;
            }

            byte* to = Scales.Pointer<byte>() + row * Scales.RowStride + column;
            for (int i = 0; i < scales.Length; i++) to[i] = (byte)(BitConverter.SingleToUInt32Bits(scales[i]) >> 23);
        }

        /// <summary>Scales as F32: where they lie, or converted into <paramref name="room"/>.</summary>
        public ReadOnlySpan<float> GetScales(long row, long column, int count, Span<float> room)
        {
            if (Scales.DType == DType.F32) return new ReadOnlySpan<float>(Scales.Pointer<float>() + row * Scales.RowStride + column, count);
            byte* from = Scales.Pointer<byte>() + row * Scales.RowStride + column;
            for (int i = 0; i < count; i++) room[i] = ScaleE8M0.FromBits(from[i]);
            return room[..count];
        }
    }

    private readonly struct QuantizeJob(Plan plan, Tensor x, long* firstFault, float leastAmax, float largest) : ITileJob
    {
        private const int ScalesAtOnce = 1024;

        [SkipLocalsInit]
        public void Run(int tile, int worker)
        {
            (long row, int rows, long column, int columns, long scaleRow) = plan.At(tile);
            if (rows == 0) return;
            Span<float> scales = stackalloc float[ScalesAtOnce];
            switch (plan.Layout)
            {
                case ScaleLayout.RowTile:
                    for (int r = 0; r < rows; r++)
                    {
                        for (int c = 0; c < columns; c += ScalesAtOnce * Tile) RowTiles(row + r, c, Math.Min(ScalesAtOnce * Tile, columns - c), scales);
                    }

                    break;
                case ScaleLayout.ColumnTile:
                    ColumnTiles(row, rows, column, columns, scaleRow, scales);
                    break;
                case ScaleLayout.Block: Block(row, rows, column, columns); break;
                default: OneScale(row, rows, columns, first: tile == 0); break;
            }
        }

        private void Block(long row, int rows, long column, int columns)
        {
            Span<byte> codes = plan.Codes(row, column, rows, columns, out int stride);
            int bad = TileQuantizer.QuantizeBlock(Values(row, column, rows, columns), Stride(x), rows, columns, codes, stride, out float scale, plan.Format, plan.Kind, leastAmax);
            if (bad != TileQuantizer.AllFinite)
            {
                scale = float.NaN;
                for (int r = 0; r < rows; r++) plan.Codes(row + r, column, columns).Clear();
                Report(row / Tile * plan.Scales.Columns + column / Tile);
            }

            plan.PutScales(row / Tile, column / Tile, new ReadOnlySpan<float>(in scale));
        }

        private void OneScale(long row, int rows, int columns, bool first)
        {
            bool finite = float.IsFinite(largest);
            float scale = finite ? TileQuantizer.Scale(largest, plan.Format, plan.Kind, leastAmax) : float.NaN;
            if (!finite) Report(0);
            if (first) plan.PutScales(0, 0, new ReadOnlySpan<float>(in scale));
            for (int r = 0; r < rows; r++)
            {
                if (finite) TileQuantizer.Quantize(Values(row + r, 0, 1, columns), scale, plan.Codes(row + r, 0, columns), plan.Format);
                else plan.Codes(row + r, 0, columns).Clear();
            }
        }

        private void RowTiles(long row, int column, int columns, Span<float> scales)
        {
            int tiles = TileQuantizer.TileCount(columns);
            for (int done = 0; done < tiles;)
            {
                int at = column + done * Tile, left = columns - done * Tile;
                int bad = TileQuantizer.QuantizeRow(Values(row, at, 1, left), plan.Codes(row, at, left), scales[done..tiles], plan.Format, plan.Kind, leastAmax);
                if (bad == TileQuantizer.AllFinite) break;
                int broken = done + bad, start = column + broken * Tile;
                plan.Codes(row, start, Math.Min(Tile, column + columns - start)).Clear();
                scales[broken] = float.NaN;
                Report(row * plan.Scales.Columns + start / Tile);
                done = broken + 1;
            }

            plan.PutScales(row, column / Tile, scales[..tiles]);
        }

        private void ColumnTiles(long row, int rows, long column, int columns, long scaleRow, Span<float> scales)
        {
            for (int done = 0; done < columns;)
            {
                int left = columns - done;
                Span<byte> codes = plan.Codes(row, column + done, rows, left, out int stride);
                int bad = TileQuantizer.QuantizeColumns(
                    Values(row, column + done, rows, left), Stride(x), rows, left, codes, stride, scales[done..columns], CodeOrder.RowMajor, plan.Format, plan.Kind, leastAmax);
                if (bad == TileQuantizer.AllFinite) break;
                // The columns before the broken one are quantised once more, alone: strips stop where they find it.
                if (bad > 0)
                {
                    codes = plan.Codes(row, column + done, rows, bad, out stride);
                    TileQuantizer.QuantizeColumns(
                        Values(row, column + done, rows, bad), Stride(x), rows, bad, codes, stride, scales.Slice(done, bad), CodeOrder.RowMajor, plan.Format, plan.Kind, leastAmax);
                }

                int broken = done + bad;
                for (int r = 0; r < rows; r++) plan.Codes(row + r, column + broken, 1).Clear();
                scales[broken] = float.NaN;
                Report(scaleRow * plan.Scales.Columns + column + broken);
                done = broken + 1;
            }

            plan.PutScales(scaleRow, column, scales[..columns]);
        }

        private ReadOnlySpan<float> Values(long row, long column, int rows, int columns) =>
            new(x.Pointer<float>() + row * x.RowStride + column, checked((int)((rows - 1) * x.RowStride) + columns));

        private void Report(long place)
        {
            long seen = Volatile.Read(ref *firstFault);
            while (place < seen)
            {
                long before = Interlocked.CompareExchange(ref *firstFault, place, seen);
                if (before == seen) return;
                seen = before;
            }
        }
    }

    private static int Stride(in Tensor x) => checked((int)x.RowStride);

    private readonly struct DequantizeJob(Plan plan, Tensor y) : ITileJob
    {
        private const int ScalesAtOnce = 1024;

        [SkipLocalsInit]
        public void Run(int tile, int worker)
        {
            (long row, int rows, long column, int columns, long scaleRow) = plan.At(tile);
            if (rows == 0) return;
            Span<float> room = stackalloc float[ScalesAtOnce];
            switch (plan.Layout)
            {
                case ScaleLayout.RowTile:
                    for (int r = 0; r < rows; r++)
                    {
                        for (int c = 0; c < columns; c += ScalesAtOnce * Tile)
                        {
                            int count = Math.Min(ScalesAtOnce * Tile, columns - c);
                            ReadOnlySpan<float> scales = plan.GetScales(row + r, c / Tile, TileQuantizer.TileCount(count), room);
                            TileQuantizer.DequantizeRow(plan.Codes(row + r, c, count), scales, Values(row + r, c, 1, count), plan.Format);
                        }
                    }

                    break;
                case ScaleLayout.ColumnTile: ColumnTiles(row, rows, column, columns, scaleRow, room); break;
                default: Block(row, rows, column, columns, room); break;
            }
        }

        private void ColumnTiles(long row, int rows, long column, int columns, long scaleRow, Span<float> room)
        {
            Span<byte> codes = plan.Codes(row, column, rows, columns, out int stride);
            ReadOnlySpan<float> scales = plan.GetScales(scaleRow, column, columns, room);
            TileQuantizer.DequantizeColumns(codes, stride, scales, rows, columns, Values(row, column, rows, columns), Stride(y), plan.Format);
        }

        private void Block(long row, int rows, long column, int columns, Span<float> room)
        {
            bool one = plan.Layout == ScaleLayout.Tensor;
            float scale = plan.GetScales(one ? 0 : row / Tile, one ? 0 : column / Tile, 1, room)[0];
            Span<byte> codes = plan.Codes(row, column, rows, columns, out int stride);
            TileQuantizer.DequantizeBlock(codes, stride, scale, rows, columns, Values(row, column, rows, columns), Stride(y), plan.Format);
        }

        private Span<float> Values(long row, long column, int rows, int columns) =>
            new(y.Pointer<float>() + row * y.RowStride + column, checked((int)((rows - 1) * y.RowStride) + columns));
    }
}

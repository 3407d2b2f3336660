// A stack of sizes, with the rules of an arena: chunks that only grow, tensors that never cross from one into the next.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

public sealed partial class MemoryEstimate
{
    /// <summary>What an <see cref="Arena"/> would have in use.</summary>
    private sealed class Stack
    {
        private const long Alignment = 64, LeastChunk = 16 << 20;
        private readonly List<long> chunks = [];
        private int chunk;
        private long used, before;

        /// <summary>The most bytes in use at one time, ends of chunks that were left unused among them.</summary>
        public long Peak { get; private set; }

        /// <summary>Where the stack stands.</summary>
        public (int Chunk, long Used) Position => (chunk, used);

        /// <summary>Takes memory for elements of a type.</summary>
        public void Take(long elements, DType dtype = DType.F32)
        {
            long bytes = (elements * dtype.SizeInBytes() + Alignment - 1) / Alignment * Alignment;
            while (chunk < chunks.Count && used + bytes > chunks[chunk])
            {
                before += chunks[chunk++];
                used = 0;
            }

            if (chunk == chunks.Count) chunks.Add(Math.Max(bytes, LeastChunk));
            used += bytes;
            Peak = Math.Max(Peak, before + used);
        }

        /// <summary>Takes memory for a matrix in a format: elements, then scales.</summary>
        /// <param name="format">The format.</param>
        /// <param name="rows">Rows.</param>
        /// <param name="columns">Columns.</param>
        /// <param name="groups">Groups of rows, for 128x1 tiles over grouped rows; 0 where rows are not grouped.</param>
        public void Take(OperandFormat format, long rows, long columns, int groups = 0)
        {
            Shape shape = new(rows, columns);
            Take(ScaledTensor.ElementShape(shape, format.Elements).Elements, format.Elements);
            if (format.IsPlain) return;
            bool grouped = groups > 0 && format.Layout == ScaleLayout.ColumnTile;
            Take(grouped ? ScaledTensor.GroupedTileRows(rows, groups) * columns : ScaledTensor.ScaleShape(shape, format.Layout).Elements, format.Scales);
        }

        /// <summary>Takes memory for the codes of a matrix in transposed 128x1 tiles, and for their scales.</summary>
        /// <param name="format">The format of codes and scales.</param>
        /// <param name="rows">Rows of the matrix.</param>
        /// <param name="columns">Columns of the matrix.</param>
        /// <param name="groups">Groups of rows; 0 where rows are not grouped.</param>
        public void TakeTransposed(OperandFormat format, long rows, long columns, int groups = 0)
        {
            long tiles = groups > 0 ? ScaledTensor.GroupedTileRows(rows, groups) : ScaledTensor.Tiles(rows);
            Take(columns * tiles * ScaledTensor.TileSize, format.Elements);
            Take(tiles * columns, format.Scales);
        }

        /// <summary>Gives back what was taken since.</summary>
        public void Release((int Chunk, long Used) mark)
        {
            while (chunk > mark.Chunk) before -= chunks[--chunk];
            used = mark.Used;
        }
    }
}

// Quantisation on the worker team: rows of 1x128 tiles, strips of 128x1 tiles, blocks. The arithmetic of a tile is that of
// Fathom.Numerics; here are the cuts, the scales' storage and what happens to a tile that is not finite.
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="IQuantizationOperators"/> on the worker team.</summary>
internal sealed unsafe partial class CpuQuantization(WorkerTeam team) : IQuantizationOperators
{
    private const int Tile = ScaledTensor.TileSize;
    private const int StripColumns = 512;

    public void Quantize(Tensor x, in ScaledTensor quantized, Tensor fault, Tensor rowOffsets, float leastAmax)
    {
        Check("quantise", x, quantized, rowOffsets);
        Require.Writable("quantise", "quantized", quantized.Elements);
        if (x.Elements == 0) return;
        if (quantized.Layout == ScaleLayout.None)
        {
            Ranges.For(team, x.Rows, Ranges.Grain(6 * x.Columns), new NarrowKernel(x, quantized.Elements));
            return;
        }

        long firstFault = long.MaxValue;
        var plan = new Plan(quantized, x.Rows, x.Columns, rowOffsets);
        uint largest = 0;
        if (quantized.Layout == ScaleLayout.Tensor) Ranges.For(team, x.Rows, Ranges.Grain(4 * x.Columns), new LargestKernel(x, &largest));
        team.For(plan.Tiles, new QuantizeJob(plan, x, &firstFault, leastAmax, BitConverter.UInt32BitsToSingle(largest)));
        if (firstFault != long.MaxValue && !fault.IsEmpty && fault.AsSpan<long>()[0] < 0) fault.AsSpan<long>()[0] = firstFault;
    }

    public void Dequantize(in ScaledTensor x, Tensor y, Tensor rowOffsets)
    {
        Check("dequantise", y, x, rowOffsets);
        Require.Writable("dequantise", "y", y);
        if (y.Elements == 0) return;
        if (x.Layout == ScaleLayout.None)
        {
            Ranges.For(team, y.Rows, Ranges.Grain(6 * y.Columns), new WidenKernel(x.Elements, y));
            return;
        }

        var plan = new Plan(x, y.Rows, y.Columns, rowOffsets);
        team.For(plan.Tiles, new DequantizeJob(plan, y));
    }

    public void RoundToBFloat16(Tensor x)
    {
        Require.That(!x.IsEmpty && x.DType == DType.F32, "round to BF16", $"x is {x}, expected F32");
        Require.Writable("round to BF16", "x", x);
        ElementLoop.For(team, x.IsContiguous ? 1 : x.Rows, x.IsContiguous ? x.Elements : x.Columns, new RoundOperation(new(x)));
    }

    private static void Check(string op, in Tensor plain, in ScaledTensor quantized, in Tensor rowOffsets)
    {
        Require.Matrix(op, "the F32 matrix", plain, plain.Rows, plain.Columns);
        Require.That(!quantized.IsEmpty && quantized.Shape.Rows == plain.Rows && quantized.Shape.Columns == plain.Columns, op, $"quantized is {quantized}, expected [{plain.Rows}, {plain.Columns}]");
        if (quantized.Layout == ScaleLayout.None) Require.That(quantized.DType == DType.BF16, op, $"quantized is {quantized}, expected BF16 or scales");
        else Require.That(quantized.DType.TileFormat() != QuantizedFormat.E5M6 || quantized.Layout != ScaleLayout.ColumnTile, op, "E5M6 pairs cannot be cut into 128x1 tiles");
        if (rowOffsets.IsEmpty) return;
        Require.That(rowOffsets.DType == DType.I32 && rowOffsets.Elements > 1 && rowOffsets.IsContiguous, op, $"rowOffsets is {rowOffsets}, expected I32 [G + 1]");
        Require.That(quantized.Layout == ScaleLayout.ColumnTile, op, $"rows are grouped, which needs 128x1 tiles, not {quantized.Layout}");
        Require.That(quantized.Scales.Rows >= ScaledTensor.GroupedTileRows(plain.Rows, (int)rowOffsets.Elements - 1), op, $"scales are {quantized.Scales}, too few for grouped rows");
        ReadOnlySpan<int> offsets = rowOffsets.AsSpan<int>();
        for (int g = 0; g < offsets.Length; g++)
        {
            int least = g == 0 ? 0 : offsets[g - 1];
            Require.That(offsets[g] >= least && offsets[g] <= plain.Rows, op, $"rowOffsets[{g}] is {offsets[g]}, expected {least} to {plain.Rows}");
        }
    }

    private readonly struct NarrowKernel(Tensor x, Tensor y) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long r = start; r < end; r++) NumberFormats.ConvertSingleToBFloat16(x.Row<float>(r), y.Row<ushort>(r));
        }
    }

    private readonly struct WidenKernel(Tensor x, Tensor y) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long r = start; r < end; r++) NumberFormats.ConvertBFloat16ToSingle(x.Row<ushort>(r), y.Row<float>(r));
        }
    }

    private readonly struct LargestKernel(Tensor x, uint* largest) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long r = start; r < end; r++)
            {
                // Bit patterns of magnitudes are ordered as their values are, with infinity and NaN above all.
                uint bits = BitConverter.SingleToUInt32Bits(TileQuantizer.MaxMagnitude(x.Row<float>(r))), seen = Volatile.Read(ref *largest);
                while (bits > seen)
                {
                    uint before = Interlocked.CompareExchange(ref *largest, bits, seen);
                    if (before == seen) break;
                    seen = before;
                }
            }
        }
    }

    private readonly struct RoundOperation(RowPointers<float> x) : IElementOperation
    {
        public void Segment<V>(long row, long start, long end) where V : struct, ISimd<V> => NumberFormats.RoundToBFloat16(new Span<float>(x[row] + start, (int)(end - start)));
    }
}

// What EmulatedGemm computes, one sum at a time: every element of a result has a HopperAccumulator of its own that takes 32 products
// at once and is emptied into FP32 at each promotion.
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="Cpu.Gemm.EmulatedGemm"/>.</summary>
internal sealed class ReferenceEmulatedGemm(Accumulation accumulation, IQuantizationOperators quantization) : ILinearOperators
{
    public void Forward(in ScaledTensor x, in ScaledTensor w, Tensor y, bool accumulate) =>
        Product(Side(x, true), Side(w, true), y, accumulate);

    public void InputGradient(in ScaledTensor dy, in ScaledTensor w, Tensor dx, bool accumulate) =>
        Product(Side(dy, true), Side(w, false), dx, accumulate);

    public void WeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor dw, bool accumulate) =>
        Product(Side(dy, false), Side(x, false), dw, accumulate);

    public void GroupedForward(in ScaledTensor x, Tensor rowOffsets, ExpertWeights w, Tensor y)
    {
        Operand all = Side(x, true);
        for (int e = 0; e < w.Count; e++)
        {
            (int start, int count) = Rows(rowOffsets, e);
            if (count > 0) Product(all.Lines(start, count), Side(w[e], true), y.Slice(start, count), false);
        }
    }

    public void GroupedInputGradient(in ScaledTensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx, bool accumulate)
    {
        Operand all = Side(dy, true);
        for (int e = 0; e < w.Count; e++)
        {
            (int start, int count) = Rows(rowOffsets, e);
            if (count > 0) Product(all.Lines(start, count), Side(w[e], false), dx.Slice(start, count), accumulate);
        }
    }

    public void GroupedWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw, bool accumulate)
    {
        Operand a = Side(dy, false, rowOffsets), b = Side(x, false, rowOffsets);
        for (int e = 0; e < dw.Shape[0]; e++)
        {
            (int start, int count) = Rows(rowOffsets, e);
            if (count > 0 || !accumulate) Product(a.Depth(start, count), b.Depth(start, count), dw.At(e), accumulate);
        }
    }

    private void Product(Operand a, Operand b, Tensor c, bool accumulate)
    {
        for (int m = 0; m < c.Rows; m++)
        {
            for (int n = 0; n < c.Columns; n++)
            {
                float sum = Sum(a.Elements[m], a.Scales[m], b.Elements[n], b.Scales[n], Math.Min(a.ScaleRun, b.ScaleRun), a.SmallestExponent, b.SmallestExponent);
                float before = c.Row<float>(m)[n];
                c.Row<float>(m)[n] = accumulate ? before + sum : sum;
            }
        }
    }

    private float Sum(float[] a, float[] scalesA, float[] b, float[] scalesB, long scaleRun, int smallestA, int smallestB)
    {
        int depth = a.Length, run = (int)accumulation.Run(depth);
        bool scalesLater = accumulation.ScaledRun(depth, scaleRun) > 0;
        float promoted = 0;
        for (int start = 0; start < depth; start += run)
        {
            var accumulator = new HopperAccumulator();
            for (int k = start; k < Math.Min(depth, start + run); k += HopperAccumulator.ProductsPerInstruction)
            {
                int count = Math.Min(HopperAccumulator.ProductsPerInstruction, Math.Min(depth, start + run) - k);
                if (scalesLater) accumulator.Add(a.AsSpan(k, count), b.AsSpan(k, count), smallestA, smallestB);
                else accumulator.Add(Values(a, scalesA, k, count), Values(b, scalesB, k, count));
            }

            promoted = MathF.FusedMultiplyAdd(accumulator.Sum, scalesLater ? scalesA[start] * scalesB[start] : 1, promoted);
        }

        return promoted;
    }

    private static float[] Values(float[] elements, float[] scales, int start, int count) =>
        [.. Enumerable.Range(start, count).Select(k => elements[k] * scales[k])];

    private Operand Side(in ScaledTensor matrix, bool depthAlongColumns, Tensor rowOffsets = default)
    {
        long scaleRun = matrix.Layout switch
        {
            ScaleLayout.None or ScaleLayout.Tensor => long.MaxValue,
            ScaleLayout.RowTile when !depthAlongColumns => 1,
            ScaleLayout.ColumnTile when depthAlongColumns => 1,
            _ => ScaledTensor.TileSize,
        };
        int smallest = matrix.DType switch
        {
            DType.F8E4M3 => -6,
            DType.F8E5M2 => -14,
            _ => int.MinValue,
        };

        // Dequantising ones gives every element's scale.
        Tensor ones = HostMemory.Allocate(matrix.Elements.Shape, matrix.DType), scales = HostMemory.Allocate(matrix.Shape, DType.F32);
        if (matrix.Layout == ScaleLayout.None)
        {
            scales.AsSpan<float>().Fill(1);
        }
        else
        {
            for (long r = 0; r < ones.Rows; r++) NumberFormats.ConvertFromSingle(matrix.DType, Filled(1, (int)ones.Columns), ones.Row<byte>(r));
            quantization.Dequantize(new ScaledTensor(ones, matrix.Scales, matrix.Layout), scales, rowOffsets);
        }

        var elements = new float[matrix.Elements.Rows][];
        for (int r = 0; r < elements.Length; r++)
        {
            elements[r] = new float[matrix.Elements.Columns];
            if (matrix.DType.SizeInBytes() == 1) NumberFormats.ConvertToSingle(matrix.DType, matrix.Elements.Row<byte>(r), elements[r]);
            else for (int c = 0; c < elements[r].Length; c++) elements[r][c] = (float)matrix.Elements.Get(r, c);
        }

        float[][] scaleRows = [.. Enumerable.Range(0, elements.Length).Select(r => scales.Row<float>(r).ToArray())];
        return depthAlongColumns
            ? new Operand(elements, scaleRows, scaleRun, smallest)
            : new Operand(Transposed(elements, matrix.Elements.Columns), Transposed(scaleRows, matrix.Elements.Columns), scaleRun, smallest);
    }

    private static float[] Filled(float value, int count)
    {
        var values = new float[count];
        Array.Fill(values, value);
        return values;
    }

    private static float[][] Transposed(float[][] rows, long columns) =>
        [.. Enumerable.Range(0, (int)columns).Select(c => rows.Select(row => row[c]).ToArray())];

    private static (int Start, int Count) Rows(Tensor rowOffsets, int expert)
    {
        int start = rowOffsets.GetInt(expert);
        return (start, rowOffsets.GetInt(expert + 1) - start);
    }

    /// <summary>Lines of elements and of the scale of each, [lines][depth].</summary>
    private sealed record Operand(float[][] Elements, float[][] Scales, long ScaleRun, int SmallestExponent)
    {
        public Operand Lines(int start, int count) => this with { Elements = Elements[start..(start + count)], Scales = Scales[start..(start + count)] };

        public Operand Depth(int start, int count) => this with
        {
            Elements = [.. Elements.Select(line => line[start..(start + count)])],
            Scales = [.. Scales.Select(line => line[start..(start + count)])],
        };
    }
}

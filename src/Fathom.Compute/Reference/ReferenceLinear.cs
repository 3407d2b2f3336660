using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="ILinearOperators"/>: products of the operands' values.</summary>
internal sealed class ReferenceLinear(IQuantizationOperators quantization) : ILinearOperators
{
    public void Forward(in ScaledTensor scaledX, in ScaledTensor scaledW, Tensor y, bool accumulate)
    {
        Tensor x = Values(scaledX), w = Values(scaledW);
        for (long m = 0; m < y.Rows; m++)
        {
            for (long n = 0; n < y.Columns; n++)
            {
                double sum = 0;
                for (long k = 0; k < x.Columns; k++) sum += x.Get(m, k) * w.Get(n, k);
                y.Put(m, n, sum, accumulate);
            }
        }
    }

    public void InputGradient(in ScaledTensor scaledDy, in ScaledTensor scaledW, Tensor dx, bool accumulate)
    {
        Tensor dy = Values(scaledDy), w = Values(scaledW);
        for (long m = 0; m < dx.Rows; m++)
        {
            for (long k = 0; k < dx.Columns; k++)
            {
                double sum = 0;
                for (long n = 0; n < dy.Columns; n++) sum += dy.Get(m, n) * w.Get(n, k);
                dx.Put(m, k, sum, accumulate);
            }
        }
    }

    public void WeightGradient(in ScaledTensor scaledDy, in ScaledTensor scaledX, Tensor dw, bool accumulate)
    {
        Tensor dy = Values(scaledDy), x = Values(scaledX);
        for (long n = 0; n < dw.Rows; n++)
        {
            for (long k = 0; k < dw.Columns; k++)
            {
                double sum = 0;
                for (long m = 0; m < x.Rows; m++) sum += dy.Get(m, n) * x.Get(m, k);
                dw.Put(n, k, sum, accumulate);
            }
        }
    }

    public void GroupedForward(in ScaledTensor x, Tensor rowOffsets, ExpertWeights w, Tensor y)
    {
        for (int e = 0; e < w.Count; e++)
        {
            (int start, int count) = Rows(rowOffsets, e);
            if (count > 0) Forward(x.Slice(start, count), w[e], y.Slice(start, count), false);
        }
    }

    public void GroupedInputGradient(in ScaledTensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx, bool accumulate)
    {
        for (int e = 0; e < w.Count; e++)
        {
            (int start, int count) = Rows(rowOffsets, e);
            if (count > 0) InputGradient(dy.Slice(start, count), w[e], dx.Slice(start, count), accumulate);
        }
    }

    public void GroupedWeightGradient(in ScaledTensor scaledDy, in ScaledTensor scaledX, Tensor rowOffsets, Tensor dw, bool accumulate)
    {
        Tensor dy = Values(scaledDy, rowOffsets), x = Values(scaledX, rowOffsets);
        for (int e = 0; e < dw.Shape[0]; e++)
        {
            (int start, int count) = Rows(rowOffsets, e);
            if (count > 0 || !accumulate) WeightGradient(dy.Slice(start, count), x.Slice(start, count), dw.At(e), accumulate);
        }
    }

    private Tensor Values(in ScaledTensor matrix, Tensor rowOffsets = default)
    {
        if (matrix.Layout == ScaleLayout.None) return matrix.Elements;
        Tensor values = HostMemory.Allocate(matrix.Shape, DType.F32);
        quantization.Dequantize(matrix, values, matrix.Layout == ScaleLayout.ColumnTile ? rowOffsets : default);
        return values;
    }

    private static (int Start, int Count) Rows(Tensor rowOffsets, int expert)
    {
        int start = rowOffsets.GetInt(expert);
        return (start, rowOffsets.GetInt(expert + 1) - start);
    }
}

using Fathom.Compute.Operators;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="ILinearOperators"/>.</summary>
internal sealed class ReferenceLinear : ILinearOperators
{
    public void Forward(Tensor x, Tensor w, Tensor y, bool accumulate)
    {
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

    public void InputGradient(Tensor dy, Tensor w, Tensor dx, bool accumulate)
    {
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

    public void WeightGradient(Tensor dy, Tensor x, Tensor dw, bool accumulate)
    {
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

    public void GroupedForward(Tensor x, Tensor rowOffsets, ExpertWeights w, Tensor y)
    {
        for (int e = 0; e < w.Count; e++)
        {
            (int start, int count) = Rows(rowOffsets, e);
            if (count > 0) Forward(x.Slice(start, count), w[e], y.Slice(start, count), false);
        }
    }

    public void GroupedInputGradient(Tensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx, bool accumulate)
    {
        for (int e = 0; e < w.Count; e++)
        {
            (int start, int count) = Rows(rowOffsets, e);
            if (count > 0) InputGradient(dy.Slice(start, count), w[e], dx.Slice(start, count), accumulate);
        }
    }

    public void GroupedWeightGradient(Tensor dy, Tensor x, Tensor rowOffsets, Tensor dw)
    {
        for (int e = 0; e < dw.Shape[0]; e++)
        {
            (int start, int count) = Rows(rowOffsets, e);
            if (count > 0) WeightGradient(dy.Slice(start, count), x.Slice(start, count), dw.At(e), true);
        }
    }

    private static (int Start, int Count) Rows(Tensor rowOffsets, int expert)
    {
        int start = rowOffsets.GetInt(expert);
        return (start, rowOffsets.GetInt(expert + 1) - start);
    }
}

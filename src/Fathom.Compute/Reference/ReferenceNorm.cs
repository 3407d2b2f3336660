using Fathom.Compute.Operators;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="INormOperators"/>.</summary>
internal sealed class ReferenceNorm : INormOperators
{
    public void RmsNorm(Tensor x, Tensor weight, float epsilon, Tensor y, Tensor rstd)
    {
        for (long m = 0; m < x.Rows; m++)
        {
            double squares = 0;
            for (long d = 0; d < x.Columns; d++) squares += x.Get(m, d) * x.Get(m, d);
            double r = 1 / Math.Sqrt(squares / x.Columns + epsilon);
            for (long d = 0; d < x.Columns; d++) y.Set(m, d, x.Get(m, d) * r * weight.Get(d));
            if (!rstd.IsEmpty) rstd.Set(m, r);
        }
    }

    public void RmsNormInputGradient(Tensor dy, Tensor x, Tensor weight, Tensor rstd, Tensor dx, Tensor added)
    {
        for (long m = 0; m < x.Rows; m++)
        {
            double r = rstd.Get(m), projection = 0;
            for (long d = 0; d < x.Columns; d++) projection += dy.Get(m, d) * weight.Get(d) * x.Get(m, d);
            projection *= r * r / x.Columns;
            for (long d = 0; d < x.Columns; d++)
                dx.Set(m, d, r * (dy.Get(m, d) * weight.Get(d) - x.Get(m, d) * projection) + (added.IsEmpty ? 0 : added.Get(m, d)));
        }
    }

    public void RmsNormWeightGradient(Tensor dy, Tensor x, Tensor rstd, Tensor dweight, bool accumulate)
    {
        for (long d = 0; d < x.Columns; d++)
        {
            double sum = 0;
            for (long m = 0; m < x.Rows; m++) sum += dy.Get(m, d) * x.Get(m, d) * rstd.Get(m);
            dweight.Put(0, d, sum, accumulate);
        }
    }
}

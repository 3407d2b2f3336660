using Fathom.Compute.Operators;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="IActivationOperators"/>.</summary>
internal sealed class ReferenceActivation : IActivationOperators
{
    public void SwiGlu(Tensor gate, Tensor up, Tensor rowScale, Tensor y)
    {
        for (long m = 0; m < y.Rows; m++)
        {
            double scale = rowScale.IsEmpty ? 1 : rowScale.Get(m);
            for (long i = 0; i < y.Columns; i++) y.Set(m, i, gate.Get(m, i) * Sigmoid(gate.Get(m, i)) * up.Get(m, i) * scale);
        }
    }

    public void SwiGluGradient(Tensor dy, Tensor gate, Tensor up, Tensor rowScale, Tensor dgate, Tensor dup, Tensor drowScale)
    {
        for (long m = 0; m < dy.Rows; m++)
        {
            double scale = rowScale.IsEmpty ? 1 : rowScale.Get(m), dscale = 0;
            for (long i = 0; i < dy.Columns; i++)
            {
                double d = dy.Get(m, i), a = gate.Get(m, i), u = up.Get(m, i), s = Sigmoid(a);
                dscale += d * a * s * u;
                dgate.Set(m, i, d * scale * u * s * (1 + a * (1 - s)));
                dup.Set(m, i, d * scale * a * s);
            }

            if (!drowScale.IsEmpty) drowScale.Set(m, dscale);
        }
    }

    private static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));
}

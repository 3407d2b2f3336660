using Fathom.Compute.Operators;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="IRotaryOperators"/>.</summary>
internal sealed class ReferenceRotary : IRotaryOperators
{
    public void Rotate(Tensor x, int offset, Tensor cos, Tensor sin, Tensor positions, bool inverse)
    {
        long heads = x.Rows / Math.Max(1, positions.Elements);
        for (long row = 0; row < x.Rows; row++)
        {
            int position = positions.GetInt(row / heads);
            for (long p = 0; p < cos.Columns; p++)
            {
                double c = cos.Get(position, p), s = inverse ? -sin.Get(position, p) : sin.Get(position, p);
                double re = x.Get(row, offset + 2 * p), im = x.Get(row, offset + 2 * p + 1);
                x.Set(row, offset + 2 * p, re * c - im * s);
                x.Set(row, offset + 2 * p + 1, re * s + im * c);
            }
        }
    }
}

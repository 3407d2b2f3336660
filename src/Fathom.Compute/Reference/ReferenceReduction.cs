using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="IReductionOperators"/>.</summary>
internal sealed class ReferenceReduction : IReductionOperators
{
    public double SumOfSquares(Tensor x)
    {
        double sum = 0;
        for (long i = 0; i < x.Elements; i++) sum += x.Get(i) * x.Get(i);
        return sum;
    }

    public double Sum(Tensor x)
    {
        double sum = 0;
        for (long i = 0; i < x.Elements; i++) sum += x.Get(i);
        return sum;
    }

    public bool AllFinite(Tensor x)
    {
        for (long i = 0; i < x.Elements; i++)
        {
            if (!double.IsFinite(x.Get(i))) return false;
        }

        return true;
    }

    public void Add(Tensor a, Tensor b, Tensor y)
    {
        for (long i = 0; i < y.Elements; i++) y.Set(i, a.Get(i) + b.Get(i));
    }

    public void Copy(Tensor x, Tensor y)
    {
        for (long r = 0; r < x.Rows; r++) RowBytes(x, r).CopyTo(RowBytes(y, r));
    }

    public void Zero(Tensor x)
    {
        for (long r = 0; r < x.Rows; r++) RowBytes(x, r).Clear();
    }

    public void Convert(Tensor x, Tensor y)
    {
        for (long i = 0; i < x.Elements; i++)
        {
            if (y.DType == DType.F32)
            {
                y.Set(i, x.Get(i));
                continue;
            }

            uint bits = BitConverter.SingleToUInt32Bits((float)x.Get(i));
            bool nan = float.IsNaN((float)x.Get(i));
            uint rounded = nan ? bits | 0x0040_0000 : bits + 0x7FFF + ((bits >> 16) & 1);
            y.Row<ushort>(i / y.Columns)[(int)(i % y.Columns)] = (ushort)(rounded >> 16);
        }
    }

    private static unsafe Span<byte> RowBytes(Tensor x, long row)
    {
        int size = x.DType.SizeInBytes();
        return new Span<byte>((byte*)x.Address + row * x.RowStride * size, checked((int)(x.Columns * size)));
    }
}

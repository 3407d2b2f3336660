// The walk over four weight rows at a time that all products of dots share, whatever their kernel. A weight row is read from memory
// once and meets all rows of activations while it is in the nearest cache.
using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Dot products of rows of activations with four weight rows.</summary>
internal unsafe interface IDotKernels
{
    /// <summary>Bytes of a weight.</summary>
    static abstract int Size { get; }

    /// <summary>Weights are read as numbers that are too small by so many powers of two, and so are the sums.</summary>
    static abstract int Shift { get; }

    /// <summary>sums[j] = x · w_j.</summary>
    /// <param name="depth">Length of the rows.</param>
    /// <param name="x">One row of activations.</param>
    /// <param name="w0">First weight row; the others follow.</param>
    /// <param name="w1">Second.</param>
    /// <param name="w2">Third.</param>
    /// <param name="w3">Fourth.</param>
    /// <param name="sums">[4].</param>
    static abstract void Dot1(nint depth, float* x, byte* w0, byte* w1, byte* w2, byte* w3, float* sums);

    /// <summary>The same for four rows of activations; sums[4 m + j] = x_m · w_j, with the bits that <see cref="Dot1"/> gives.</summary>
    /// <param name="depth">Length of the rows.</param>
    /// <param name="x">First of four rows of activations.</param>
    /// <param name="stride">Elements between them.</param>
    /// <param name="w0">First weight row; the others follow.</param>
    /// <param name="w1">Second.</param>
    /// <param name="w2">Third.</param>
    /// <param name="w3">Fourth.</param>
    /// <param name="sums">[4, 4].</param>
    static abstract void Dot4(nint depth, float* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, float* sums);
}

/// <summary>The walk with one kind of kernel.</summary>
internal static unsafe class Dots<TKernels> where TKernels : struct, IDotKernels
{
    /// <summary>C[m, n] = x[m, :] · B[n, :], or +=, for a range of n.</summary>
    /// <param name="product">B, C and sizes.</param>
    /// <param name="x">First row of activations.</param>
    /// <param name="stride">Elements between them.</param>
    /// <param name="first">First n; the rows from here on are taken four at a time.</param>
    /// <param name="end">Behind the last n.</param>
    /// <param name="layout">Strides of B and C.</param>
    /// <param name="factors">What the sums of each row of activations are multiplied by; null for nothing.</param>
    [SkipLocalsInit]
    public static void Run(in Product product, float* x, nint stride, long first, long end, in ProductLayout layout, double* factors = null)
    {
        nint pitch = (nint)layout.StrideB * TKernels.Size, depth = (nint)product.Depth;
        float* sums = stackalloc float[16];
        for (long n = first; n < end; n += FewRowsPlan.DotRows)
        {
            int rows = (int)Math.Min(FewRowsPlan.DotRows, end - n);
            byte* w0 = product.B + n * pitch;
            byte* w1 = rows > 1 ? w0 + pitch : w0, w2 = rows > 2 ? w1 + pitch : w0, w3 = rows > 3 ? w2 + pitch : w0;
            float* a = x, c = product.C + n;
            long m = 0;
            for (; m + 4 <= product.Rows; a += 4 * stride)
            {
                TKernels.Dot4(depth, a, stride, w0, w1, w2, w3, sums);
                for (int i = 0; i < 4; i++, m++, c += layout.StrideC) Put(sums + 4 * i, c, rows, layout.Accumulate, factors == null ? 1 : factors[m]);
            }

            for (; m < product.Rows; m++, a += stride, c += layout.StrideC)
            {
                TKernels.Dot1(depth, a, w0, w1, w2, w3, sums);
                Put(sums, c, rows, layout.Accumulate, factors == null ? 1 : factors[m]);
            }
        }
    }

    private static void Put(float* sums, float* c, int columns, bool accumulate, double factor)
    {
        for (int j = 0; j < columns; j++)
        {
            float sum = (float)(sums[j] * factor);
            c[j] = accumulate ? c[j] + sum : sum;
        }
    }
}

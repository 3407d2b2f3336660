// The walk over four weight rows at a time that all products of dots share, whatever their kernel. As many rows of activations as the
// first-level cache holds pass over as many weights as the second one holds, so that a weight is read from memory once, and what six
// rows and four weight rows are multiplied from is near. Where reading is the cost, the four rows lie a quarter of the range apart:
// four streams, each without a gap, which the processor's own prefetching follows over the ends of rows and pages. Where many rows pass
// over them, they are neighbours, and the next four are asked for meanwhile. Which rows meet in a kernel changes no bit of them.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Dot products of rows of activations with four weight rows.</summary>
/// <typeparam name="TElement">Element type of the activations.</typeparam>
internal unsafe interface IDotKernels<TElement> where TElement : unmanaged
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
    /// <param name="ahead">How far ahead of what is read the kernel asks for weights, in bytes.</param>
    /// <param name="sums">[4].</param>
    static abstract void Dot1(nint depth, TElement* x, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums);

    /// <summary>The same for two rows of activations; sums[m, j] = x_m · w_j, with the bits that <see cref="Dot1"/> gives.</summary>
    /// <param name="depth">Length of the rows.</param>
    /// <param name="x">First of two rows of activations.</param>
    /// <param name="stride">Elements between them.</param>
    /// <param name="w0">First weight row; the others follow.</param>
    /// <param name="w1">Second.</param>
    /// <param name="w2">Third.</param>
    /// <param name="w3">Fourth.</param>
    /// <param name="ahead">How far ahead of what is read the kernel asks for weights, in bytes.</param>
    /// <param name="sums">[2, 4].</param>
    /// <param name="strideSums">Elements between its rows.</param>
    static abstract void Dot2(nint depth, TElement* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums);

    /// <summary>The same for four rows of activations; sums[m, j] = x_m · w_j, with the bits that <see cref="Dot1"/> gives.</summary>
    /// <param name="depth">Length of the rows.</param>
    /// <param name="x">First of four rows of activations.</param>
    /// <param name="stride">Elements between them.</param>
    /// <param name="w0">First weight row; the others follow.</param>
    /// <param name="w1">Second.</param>
    /// <param name="w2">Third.</param>
    /// <param name="w3">Fourth.</param>
    /// <param name="ahead">How far ahead of what is read the kernel asks for weights, in bytes.</param>
    /// <param name="sums">[4, 4].</param>
    /// <param name="strideSums">Elements between its rows.</param>
    static abstract void Dot4(nint depth, TElement* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums);

    /// <summary>The same for six rows of activations; sums[m, j] = x_m · w_j, with the bits that <see cref="Dot1"/> gives.</summary>
    /// <param name="depth">Length of the rows.</param>
    /// <param name="x">First of six rows of activations.</param>
    /// <param name="stride">Elements between them.</param>
    /// <param name="w0">First weight row; the others follow.</param>
    /// <param name="w1">Second.</param>
    /// <param name="w2">Third.</param>
    /// <param name="w3">Fourth.</param>
    /// <param name="ahead">How far ahead of what is read the kernel asks for weights, in bytes.</param>
    /// <param name="sums">[6, 4].</param>
    /// <param name="strideSums">Elements between its rows.</param>
    static abstract void Dot6(nint depth, TElement* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums);
}

/// <summary>The walk with one kind of kernel.</summary>
internal static unsafe class Dots<TKernels, TElement>
    where TKernels : struct, IDotKernels<TElement>
    where TElement : unmanaged
{
    /// <summary>Rows of activations that pass over the weights together fill about so many bytes: most of a first-level cache.</summary>
    private const long BytesOfRows = 20 << 10;

    /// <summary>Weights that stay in the second-level cache until all rows of activations have met them.</summary>
    private const long BytesOfWeights = 192 << 10;

    private const int MostAtOnce = 6;

    /// <summary>C[m, n] = x[m, :] · B[n, :], or +=, for a range of n.</summary>
    /// <param name="product">B, C and sizes.</param>
    /// <param name="x">First row of activations.</param>
    /// <param name="stride">Elements between them.</param>
    /// <param name="first">First n; the rows from here on are taken four at a time.</param>
    /// <param name="end">Behind the last n.</param>
    /// <param name="layout">Strides of B and C.</param>
    /// <param name="factors">What the sums of each row of activations are multiplied by; null for nothing.</param>
    public static void Run(in Product product, TElement* x, nint stride, long first, long end, in ProductLayout layout, double* factors = null)
    {
        long rows = Math.Max(1, BytesOfRows / Math.Max(1, product.Depth * sizeof(TElement)) / MostAtOnce) * MostAtOnce;
        long columns = Math.Max(1, BytesOfWeights / Math.Max(1, product.Depth * TKernels.Size) / FewRowsPlan.DotRows) * FewRowsPlan.DotRows;
        if (product.Rows <= rows) columns = end - first;
        for (long n = first; n < end; n += columns)
        {
            for (long m = 0; m < product.Rows; m += rows)
            {
                int count = (int)Math.Min(rows, product.Rows - m);
                Pass(product, x + m * stride, count, stride, m, n, Math.Min(n + columns, end), layout, factors);
            }
        }
    }

    /// <summary>Some rows of activations, which stay in the first-level cache, against a range of weight rows.</summary>
    private static void Pass(in Product product, TElement* x, int rows, nint stride, long row, long first, long end, in ProductLayout layout, double* factors)
    {
        long quarter = (end - first) / FewRowsPlan.DotRows, spread = rows <= FewRowsPlan.RowsOfStreams && quarter > 0 ? quarter : 1;
        long four = first + quarter * FewRowsPlan.DotRows, step = spread > 1 ? 1 : FewRowsPlan.DotRows;
        for (long n = first; n < first + quarter * step; n += step) Meet(product, x, rows, stride, row, n, spread, FewRowsPlan.DotRows, layout, factors);
        if (four < end) Meet(product, x, rows, stride, row, four, 1, (int)(end - four), layout, factors);
    }

    /// <summary>The rows of activations against at most four weight rows: n, n + spread, …</summary>
    [SkipLocalsInit]
    private static void Meet(in Product product, TElement* x, int rows, nint stride, long row, long n, long spread, int weights, in ProductLayout layout, double* factors)
    {
        nint pitch = (nint)layout.StrideB * TKernels.Size, between = pitch * (nint)spread, depth = (nint)product.Depth, strideC = (nint)layout.StrideC;
        float* sums = stackalloc float[MostAtOnce * FewRowsPlan.DotRows];
        byte* w0 = product.B + n * pitch;
        byte* w1 = weights > 1 ? w0 + between : w0, w2 = weights > 2 ? w1 + between : w0, w3 = weights > 3 ? w2 + between : w0;
        TElement* a = x;
        float* c = product.C + row * strideC + n;
        nint ahead = rows <= FewRowsPlan.RowsOfStreams ? FewRowsPlan.BytesAhead : FewRowsPlan.DotRows * pitch;
        bool isPlain = weights == FewRowsPlan.DotRows && spread == 1 && factors == null, inPlace = isPlain && !layout.Accumulate;
        nint strideSums = inPlace ? strideC : FewRowsPlan.DotRows;
        for (int m = 0, count; m < rows; m += count, a += count * stride, c += count * strideC)
        {
            float* to = inPlace ? c : sums;
            switch (rows - m)
            {
                case >= 6:
                    TKernels.Dot6(depth, a, stride, w0, w1, w2, w3, ahead, to, strideSums);
                    count = 6;
                    break;
                case >= 4:
                    TKernels.Dot4(depth, a, stride, w0, w1, w2, w3, ahead, to, strideSums);
                    count = 4;
                    break;
                case >= 2:
                    TKernels.Dot2(depth, a, stride, w0, w1, w2, w3, ahead, to, strideSums);
                    count = 2;
                    break;
                default:
                    TKernels.Dot1(depth, a, w0, w1, w2, w3, ahead, to);
                    count = 1;
                    break;
            }

            if (inPlace) continue;
            for (int i = 0; i < count; i++)
            {
                float* four = sums + FewRowsPlan.DotRows * i, at = c + i * strideC;
                if (isPlain) (Vector128.Load(at) + Vector128.Load(four)).Store(at);
                else Put(four, at, weights, (nint)spread, layout.Accumulate, factors == null ? 1 : factors[row + m + i]);
            }
        }
    }

    private static void Put(float* sums, float* c, int columns, nint spread, bool accumulate, double factor)
    {
        Vector128<float> four = Vector128.Load(sums);
        if (factor != 1)
        {
            (Vector128<double> lower, Vector128<double> upper) = Vector128.Widen(four);
            four = Vector128.Narrow(lower * factor, upper * factor);
        }

        if (columns == FewRowsPlan.DotRows && spread == 1)
        {
            (accumulate ? Vector128.Load(c) + four : four).Store(c);
            return;
        }

        for (int j = 0; j < columns; j++) c[j * spread] = accumulate ? c[j * spread] + four[j] : four[j];
    }
}

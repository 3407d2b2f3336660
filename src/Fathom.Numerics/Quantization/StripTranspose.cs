// [rows, 16] singles to [16, rows]: 16x16 squares in registers by two rounds of interleaving within 128-bit lanes and two of exchanging
// lanes, or element by element where the processor has no 512-bit vectors.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Numerics.Quantization;

/// <summary>Transposes the strips of the column tiles.</summary>
internal static class StripTranspose
{
    private const int Width = 16;

    /// <summary>Transposes; rows up to the next multiple of 16 may be read and written.</summary>
    /// <param name="from">[rows, 16].</param>
    /// <param name="rows">Rows.</param>
    /// <param name="to">[16, rows] at a stride.</param>
    /// <param name="stride">Elements from row to row of the result, a multiple of 16.</param>
    public static void Run(ref float from, int rows, ref float to, int stride)
    {
        int row = 0;
        if (Avx512F.IsSupported)
        {
            for (; row < rows; row += Width) Square(ref Unsafe.Add(ref from, row * Width), ref Unsafe.Add(ref to, row), stride);
            return;
        }

        for (; row < rows; row++)
        {
            for (int j = 0; j < Width; j++) Unsafe.Add(ref to, j * stride + row) = Unsafe.Add(ref from, row * Width + j);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)] // also so that it is not called in its unoptimised tier
    private static void Square(ref float from, ref float to, int stride)
    {
        // Four rows at a time: each 128-bit lane becomes a 4x4 square whose lines are columns 4·lane + 0..3.
        Quad(ref from, 0, out Vector512<float> a0, out Vector512<float> a1, out Vector512<float> a2, out Vector512<float> a3);
        Quad(ref from, 4, out Vector512<float> b0, out Vector512<float> b1, out Vector512<float> b2, out Vector512<float> b3);
        Quad(ref from, 8, out Vector512<float> c0, out Vector512<float> c1, out Vector512<float> c2, out Vector512<float> c3);
        Quad(ref from, 12, out Vector512<float> d0, out Vector512<float> d1, out Vector512<float> d2, out Vector512<float> d3);
        Exchange(a0, b0, c0, d0, ref to, stride);
        Exchange(a1, b1, c1, d1, ref Unsafe.Add(ref to, stride), stride);
        Exchange(a2, b2, c2, d2, ref Unsafe.Add(ref to, 2 * stride), stride);
        Exchange(a3, b3, c3, d3, ref Unsafe.Add(ref to, 3 * stride), stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Quad(ref float from, nuint row, out Vector512<float> x0, out Vector512<float> x1, out Vector512<float> x2, out Vector512<float> x3)
    {
        Vector512<float> r0 = Vector512.LoadUnsafe(ref from, row * Width), r1 = Vector512.LoadUnsafe(ref from, (row + 1) * Width);
        Vector512<float> r2 = Vector512.LoadUnsafe(ref from, (row + 2) * Width), r3 = Vector512.LoadUnsafe(ref from, (row + 3) * Width);
        Vector512<double> low01 = Avx512F.UnpackLow(r0, r1).AsDouble(), high01 = Avx512F.UnpackHigh(r0, r1).AsDouble();
        Vector512<double> low23 = Avx512F.UnpackLow(r2, r3).AsDouble(), high23 = Avx512F.UnpackHigh(r2, r3).AsDouble();
        x0 = Avx512F.UnpackLow(low01, low23).AsSingle();
        x1 = Avx512F.UnpackHigh(low01, low23).AsSingle();
        x2 = Avx512F.UnpackLow(high01, high23).AsSingle();
        x3 = Avx512F.UnpackHigh(high01, high23).AsSingle();
    }

    // Lane l of the four is column 4·l + i for rows 0-3, 4-7, 8-11 and 12-15: gathers each column's four lanes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Exchange(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d, ref float to, int stride)
    {
        const byte Lower = 0b_01_00_01_00, Upper = 0b_11_10_11_10, Even = 0b_10_00_10_00, Odd = 0b_11_01_11_01;
        Vector512<float> ab01 = Avx512F.Shuffle4x128(a, b, Lower), ab23 = Avx512F.Shuffle4x128(a, b, Upper);
        Vector512<float> cd01 = Avx512F.Shuffle4x128(c, d, Lower), cd23 = Avx512F.Shuffle4x128(c, d, Upper);
        Avx512F.Shuffle4x128(ab01, cd01, Even).StoreUnsafe(ref to);
        Avx512F.Shuffle4x128(ab01, cd01, Odd).StoreUnsafe(ref Unsafe.Add(ref to, 4 * stride));
        Avx512F.Shuffle4x128(ab23, cd23, Even).StoreUnsafe(ref Unsafe.Add(ref to, 8 * stride));
        Avx512F.Shuffle4x128(ab23, cd23, Odd).StoreUnsafe(ref Unsafe.Add(ref to, 12 * stride));
    }
}

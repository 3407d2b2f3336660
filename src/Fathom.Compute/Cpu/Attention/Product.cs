// C [rows, columns] = (C +) A [rows, depth] B [depth, columns], the one product that all of attention is made of. A is read
// element by element at any two strides, so that a transposed A costs nothing; B and C are row-major. A tile of C stays in
// registers through the whole depth. Every element is summed in order of depth whatever tile it falls into, so a row's result
// does not depend on which rows are computed with it.
using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Attention;

/// <summary>Small matrix products at one vector width.</summary>
internal static unsafe class Product<TSimd, TVector> where TSimd : struct, ISimd<TVector> where TVector : struct
{
    /// <summary>What the number of columns is to be a multiple of.</summary>
    public static int ColumnStep => 2 * TSimd.Count;

    private const int WideTile = 8;

    /// <summary><see cref="Run{TElement}"/> with B in F32.</summary>
    public static void Run(
        int rows, int columns, int depth, float* a, nint aRow, nint aStep, float* b, nint bRow, float* c, nint cRow, bool accumulate) =>
        Run<FormatF32>(rows, columns, depth, a, aRow, aStep, (byte*)b, bRow, c, cRow, accumulate);

    /// <summary>Computes C. Strides are in elements.</summary>
    /// <typeparam name="TElement">Element type of B.</typeparam>
    /// <param name="rows">Rows of A and C.</param>
    /// <param name="columns">Columns of B and C, a multiple of <see cref="ColumnStep"/>.</param>
    /// <param name="depth">Columns of A, rows of B.</param>
    /// <param name="a">[rows, depth].</param>
    /// <param name="aRow">From one row of A to the next.</param>
    /// <param name="aStep">From one column of A to the next.</param>
    /// <param name="b">[depth, columns].</param>
    /// <param name="bRow">From one row of B to the next.</param>
    /// <param name="c">[rows, columns].</param>
    /// <param name="cRow">From one row of C to the next.</param>
    /// <param name="accumulate">Whether the product is added to what C holds.</param>
    public static void Run<TElement>(
        int rows, int columns, int depth, float* a, nint aRow, nint aStep, byte* b, nint bRow, float* c, nint cRow, bool accumulate)
        where TElement : struct, IElementFormat
    {
        Debug.Assert(columns % ColumnStep == 0);
        nint bBytes = bRow * TElement.Size;
        int full = rows - rows % 4;
        for (int n = 0; n < columns && full > 0; n += ColumnStep)
        {
            byte* panel = b + (nint)n * TElement.Size;
            int m = 0;
            if (TSimd.ManyRegisters)
            {
                for (; m + 12 <= full; m += 12)
                    Tile12x2<TElement>(depth, a + m * aRow, aRow, aStep, panel, bBytes, c + m * cRow + n, cRow, accumulate);
            }

            for (; m < full; m += 4)
                Tile4x2<TElement>(depth, a + m * aRow, aRow, aStep, panel, bBytes, c + m * cRow + n, cRow, accumulate);
        }

        for (int m = full; m < rows; m++)
        {
            int n = 0;
            for (; n + WideTile * TSimd.Count <= columns; n += WideTile * TSimd.Count)
                Tile1x8<TElement>(depth, a + m * aRow, aStep, b + (nint)n * TElement.Size, bBytes, c + m * cRow + n, accumulate);
            for (; n < columns; n += ColumnStep)
                Tile1x2<TElement>(depth, a + m * aRow, aStep, b + (nint)n * TElement.Size, bBytes, c + m * cRow + n, accumulate);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile12x2<TElement>(
        int depth, float* a, nint aRow, nint aStep, byte* b, nint bBytes, float* c, nint cRow, bool accumulate)
        where TElement : struct, IElementFormat
    {
        TVector x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, y0, y1, y2, y3, y4, y5, y6, y7, y8, y9, y10, y11;
        int second = TSimd.Count * TElement.Size;
        nint aRow2 = 2 * aRow;
        float* a3 = a + 3 * aRow, a6 = a + 6 * aRow, a9 = a + 9 * aRow;
        float* at = c;
        if (accumulate)
        {
            x0 = TSimd.Load(at);
            y0 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x1 = TSimd.Load(at);
            y1 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x2 = TSimd.Load(at);
            y2 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x3 = TSimd.Load(at);
            y3 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x4 = TSimd.Load(at);
            y4 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x5 = TSimd.Load(at);
            y5 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x6 = TSimd.Load(at);
            y6 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x7 = TSimd.Load(at);
            y7 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x8 = TSimd.Load(at);
            y8 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x9 = TSimd.Load(at);
            y9 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x10 = TSimd.Load(at);
            y10 = TSimd.Load(at + TSimd.Count);
            at += cRow;
            x11 = TSimd.Load(at);
            y11 = TSimd.Load(at + TSimd.Count);
        }
        else
        {
            x0 = x1 = x2 = x3 = x4 = x5 = x6 = x7 = x8 = x9 = x10 = x11 = TSimd.Zero;
            y0 = y1 = y2 = y3 = y4 = y5 = y6 = y7 = y8 = y9 = y10 = y11 = TSimd.Zero;
        }

        for (int k = 0; k < depth; k++)
        {
            TVector b0 = TElement.Load<TSimd, TVector>(b), b1 = TElement.Load<TSimd, TVector>(b + second);
            b += bBytes;
            TVector v;
            v = TSimd.Broadcast(a[0]);
            x0 = TSimd.MultiplyAdd(v, b0, x0);
            y0 = TSimd.MultiplyAdd(v, b1, y0);
            v = TSimd.Broadcast(a[aRow]);
            x1 = TSimd.MultiplyAdd(v, b0, x1);
            y1 = TSimd.MultiplyAdd(v, b1, y1);
            v = TSimd.Broadcast(a[aRow2]);
            x2 = TSimd.MultiplyAdd(v, b0, x2);
            y2 = TSimd.MultiplyAdd(v, b1, y2);
            v = TSimd.Broadcast(a3[0]);
            x3 = TSimd.MultiplyAdd(v, b0, x3);
            y3 = TSimd.MultiplyAdd(v, b1, y3);
            v = TSimd.Broadcast(a3[aRow]);
            x4 = TSimd.MultiplyAdd(v, b0, x4);
            y4 = TSimd.MultiplyAdd(v, b1, y4);
            v = TSimd.Broadcast(a3[aRow2]);
            x5 = TSimd.MultiplyAdd(v, b0, x5);
            y5 = TSimd.MultiplyAdd(v, b1, y5);
            v = TSimd.Broadcast(a6[0]);
            x6 = TSimd.MultiplyAdd(v, b0, x6);
            y6 = TSimd.MultiplyAdd(v, b1, y6);
            v = TSimd.Broadcast(a6[aRow]);
            x7 = TSimd.MultiplyAdd(v, b0, x7);
            y7 = TSimd.MultiplyAdd(v, b1, y7);
            v = TSimd.Broadcast(a6[aRow2]);
            x8 = TSimd.MultiplyAdd(v, b0, x8);
            y8 = TSimd.MultiplyAdd(v, b1, y8);
            v = TSimd.Broadcast(a9[0]);
            x9 = TSimd.MultiplyAdd(v, b0, x9);
            y9 = TSimd.MultiplyAdd(v, b1, y9);
            v = TSimd.Broadcast(a9[aRow]);
            x10 = TSimd.MultiplyAdd(v, b0, x10);
            y10 = TSimd.MultiplyAdd(v, b1, y10);
            v = TSimd.Broadcast(a9[aRow2]);
            x11 = TSimd.MultiplyAdd(v, b0, x11);
            y11 = TSimd.MultiplyAdd(v, b1, y11);
            a += aStep;
            a3 += aStep;
            a6 += aStep;
            a9 += aStep;
        }

        at = c;
        TSimd.Store(x0, at);
        TSimd.Store(y0, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x1, at);
        TSimd.Store(y1, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x2, at);
        TSimd.Store(y2, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x3, at);
        TSimd.Store(y3, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x4, at);
        TSimd.Store(y4, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x5, at);
        TSimd.Store(y5, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x6, at);
        TSimd.Store(y6, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x7, at);
        TSimd.Store(y7, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x8, at);
        TSimd.Store(y8, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x9, at);
        TSimd.Store(y9, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x10, at);
        TSimd.Store(y10, at + TSimd.Count);
        at += cRow;
        TSimd.Store(x11, at);
        TSimd.Store(y11, at + TSimd.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4x2<TElement>(
        int depth, float* a, nint aRow, nint aStep, byte* b, nint bBytes, float* c, nint cRow, bool accumulate)
        where TElement : struct, IElementFormat
    {
        TVector x0, x1, x2, x3, y0, y1, y2, y3;
        int second = TSimd.Count * TElement.Size;
        float* a1 = a + aRow, a2 = a1 + aRow, a3 = a2 + aRow;
        float* c1 = c + cRow, c2 = c1 + cRow, c3 = c2 + cRow;
        if (accumulate)
        {
            x0 = TSimd.Load(c);
            y0 = TSimd.Load(c + TSimd.Count);
            x1 = TSimd.Load(c1);
            y1 = TSimd.Load(c1 + TSimd.Count);
            x2 = TSimd.Load(c2);
            y2 = TSimd.Load(c2 + TSimd.Count);
            x3 = TSimd.Load(c3);
            y3 = TSimd.Load(c3 + TSimd.Count);
        }
        else
        {
            x0 = x1 = x2 = x3 = y0 = y1 = y2 = y3 = TSimd.Zero;
        }

        nint i = 0;
        for (int k = 0; k < depth; k++)
        {
            TVector b0 = TElement.Load<TSimd, TVector>(b), b1 = TElement.Load<TSimd, TVector>(b + second);
            b += bBytes;
            TVector v;
            v = TSimd.Broadcast(a[i]);
            x0 = TSimd.MultiplyAdd(v, b0, x0);
            y0 = TSimd.MultiplyAdd(v, b1, y0);
            v = TSimd.Broadcast(a1[i]);
            x1 = TSimd.MultiplyAdd(v, b0, x1);
            y1 = TSimd.MultiplyAdd(v, b1, y1);
            v = TSimd.Broadcast(a2[i]);
            x2 = TSimd.MultiplyAdd(v, b0, x2);
            y2 = TSimd.MultiplyAdd(v, b1, y2);
            v = TSimd.Broadcast(a3[i]);
            x3 = TSimd.MultiplyAdd(v, b0, x3);
            y3 = TSimd.MultiplyAdd(v, b1, y3);
            i += aStep;
        }

        TSimd.Store(x0, c);
        TSimd.Store(y0, c + TSimd.Count);
        TSimd.Store(x1, c1);
        TSimd.Store(y1, c1 + TSimd.Count);
        TSimd.Store(x2, c2);
        TSimd.Store(y2, c2 + TSimd.Count);
        TSimd.Store(x3, c3);
        TSimd.Store(y3, c3 + TSimd.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1x8<TElement>(int depth, float* a, nint aStep, byte* b, nint bBytes, float* c, bool accumulate)
        where TElement : struct, IElementFormat
    {
        TVector x0, x1, x2, x3, x4, x5, x6, x7;
        int next = TSimd.Count * TElement.Size;
        if (accumulate)
        {
            x0 = TSimd.Load(c);
            x1 = TSimd.Load(c + TSimd.Count);
            x2 = TSimd.Load(c + 2 * TSimd.Count);
            x3 = TSimd.Load(c + 3 * TSimd.Count);
            x4 = TSimd.Load(c + 4 * TSimd.Count);
            x5 = TSimd.Load(c + 5 * TSimd.Count);
            x6 = TSimd.Load(c + 6 * TSimd.Count);
            x7 = TSimd.Load(c + 7 * TSimd.Count);
        }
        else
        {
            x0 = x1 = x2 = x3 = x4 = x5 = x6 = x7 = TSimd.Zero;
        }

        for (int k = 0; k < depth; k++)
        {
            TVector v = TSimd.Broadcast(*a);
            a += aStep;
            x0 = TSimd.MultiplyAdd(v, TElement.Load<TSimd, TVector>(b), x0);
            x1 = TSimd.MultiplyAdd(v, TElement.Load<TSimd, TVector>(b + next), x1);
            x2 = TSimd.MultiplyAdd(v, TElement.Load<TSimd, TVector>(b + 2 * next), x2);
            x3 = TSimd.MultiplyAdd(v, TElement.Load<TSimd, TVector>(b + 3 * next), x3);
            x4 = TSimd.MultiplyAdd(v, TElement.Load<TSimd, TVector>(b + 4 * next), x4);
            x5 = TSimd.MultiplyAdd(v, TElement.Load<TSimd, TVector>(b + 5 * next), x5);
            x6 = TSimd.MultiplyAdd(v, TElement.Load<TSimd, TVector>(b + 6 * next), x6);
            x7 = TSimd.MultiplyAdd(v, TElement.Load<TSimd, TVector>(b + 7 * next), x7);
            b += bBytes;
        }

        TSimd.Store(x0, c);
        TSimd.Store(x1, c + TSimd.Count);
        TSimd.Store(x2, c + 2 * TSimd.Count);
        TSimd.Store(x3, c + 3 * TSimd.Count);
        TSimd.Store(x4, c + 4 * TSimd.Count);
        TSimd.Store(x5, c + 5 * TSimd.Count);
        TSimd.Store(x6, c + 6 * TSimd.Count);
        TSimd.Store(x7, c + 7 * TSimd.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1x2<TElement>(int depth, float* a, nint aStep, byte* b, nint bBytes, float* c, bool accumulate)
        where TElement : struct, IElementFormat
    {
        int second = TSimd.Count * TElement.Size;
        TVector x = accumulate ? TSimd.Load(c) : TSimd.Zero, y = accumulate ? TSimd.Load(c + TSimd.Count) : TSimd.Zero;
        for (int k = 0; k < depth; k++)
        {
            TVector v = TSimd.Broadcast(*a);
            x = TSimd.MultiplyAdd(v, TElement.Load<TSimd, TVector>(b), x);
            y = TSimd.MultiplyAdd(v, TElement.Load<TSimd, TVector>(b + second), y);
            a += aStep;
            b += bBytes;
        }

        TSimd.Store(x, c);
        TSimd.Store(y, c + TSimd.Count);
    }
}

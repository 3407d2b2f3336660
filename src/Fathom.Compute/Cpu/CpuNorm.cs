// RMSNorm in two sweeps over a row that stays in the first-level cache: a sum, then the result. The weight's gradient sums rows in
// pieces that depend on the number of rows alone, and adds the pieces in order.
using System.Runtime.CompilerServices;
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="INormOperators"/> on the worker team.</summary>
internal sealed unsafe class CpuNorm(WorkerTeam team) : INormOperators
{
    public void RmsNorm(Tensor x, Tensor weight, float epsilon, Tensor y, Tensor rstd)
    {
        const string Op = "rms norm";
        Require.Matrix(Op, "x", x, x.Rows, x.Columns);
        Require.Matrix(Op, "y", y, x.Rows, x.Columns);
        Require.Writable(Op, "y", y);
        if (!rstd.IsEmpty) Require.Vector(Op, "rstd", rstd, x.Rows);
        float* w = Weight(Op, weight, x.Columns);
        Ranges.For(team, x.Rows, Ranges.Grain(8 * x.Columns), new ForwardKernel(new(x), w, epsilon, new(y), rstd.Pointer<float>(), x.Columns));
    }

    public void RmsNormInputGradient(Tensor dy, Tensor x, Tensor weight, Tensor rstd, Tensor dx, Tensor added)
    {
        const string Op = "rms norm input gradient";
        Require.Matrix(Op, "dy", dy, x.Rows, x.Columns);
        Require.Matrix(Op, "x", x, x.Rows, x.Columns);
        Require.Vector(Op, "rstd", rstd, x.Rows);
        Require.Matrix(Op, "dx", dx, x.Rows, x.Columns);
        Require.Writable(Op, "dx", dx);
        if (!added.IsEmpty) Require.Matrix(Op, "added", added, x.Rows, x.Columns);
        float* w = Weight(Op, weight, x.Columns);
        var kernel = new InputGradientKernel(new(dy), new(x), w, rstd.Pointer<float>(), new(dx), added.IsEmpty ? default : new(added), x.Columns);
        Ranges.For(team, x.Rows, Ranges.Grain(12 * x.Columns), kernel);
    }

    public void RmsNormWeightGradient(Tensor dy, Tensor x, Tensor rstd, Tensor dweight, bool accumulate)
    {
        const string Op = "rms norm weight gradient";
        Require.Matrix(Op, "dy", dy, x.Rows, x.Columns);
        Require.Matrix(Op, "x", x, x.Rows, x.Columns);
        Require.Vector(Op, "rstd", rstd, x.Rows);
        Require.Vector(Op, "dweight", dweight, x.Columns);
        Require.Writable(Op, "dweight", dweight);
        long rows = x.Rows, columns = x.Columns, pieceRows = PieceRows(rows), pieces = (rows + pieceRows - 1) / pieceRows;
        if (pieces == 0)
        {
            if (!accumulate) dweight.AsSpan<float>().Clear();
            return;
        }

        float* sums = (float*)Scratch.OfJob.Take(pieces * columns * sizeof(float));
        Ranges.For(team, pieces, 1, new PieceKernel(new(dy), new(x), rstd.Pointer<float>(), sums, rows, columns, pieceRows));
        ElementLoop.For(team, 1, columns, new AddPieces(sums, dweight.Pointer<float>(), pieces, columns, accumulate));
    }

    /// <summary>Rows of a piece: 64, or more where that would be more than 64 pieces.</summary>
    private static long PieceRows(long rows) => Math.Max(64, (rows + 63) / 64);

    // A BF16 weight is expanded once a call, so that the kernels know F32 only.
    private static float* Weight(string op, in Tensor weight, long columns)
    {
        Require.Vector(op, "weight", weight, columns, weight.DType == DType.BF16 ? DType.BF16 : DType.F32);
        if (weight.DType == DType.F32) return weight.Pointer<float>();
        ushort* bits = weight.Pointer<ushort>();
        float* expanded = (float*)Scratch.OfJob.Take(columns * sizeof(float));
        for (long i = 0; i < columns; i++) expanded[i] = Scalar.LoadBF16(bits + i).Value;
        return expanded;
    }

    private readonly struct Square(float* x) : ITerm
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public V At<V>(long i) where V : struct, ILanes<V>
        {
            V a = V.Load(x + i);
            return a * a;
        }
    }

    private readonly struct Scaled(float* x, float* w, float r, float* y) : IElementBody
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Apply<V>(long i) where V : struct, ILanes<V> => (V.Load(x + i) * V.Broadcast(r) * V.Load(w + i)).Store(y + i);
    }

    private readonly struct ForwardKernel(RowPointers<float> x, float* w, float epsilon, RowPointers<float> y, float* rstd, long columns)
        : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long m = start; m < end; m++)
            {
                double squares = RowSum.Of<V, Square>(new Square(x[m]), columns);
                float r = (float)(1 / Math.Sqrt(squares / columns + epsilon));
                ElementLoop.Run<V, Scaled>(new Scaled(x[m], w, r, y[m]), 0, columns);
                if (rstd != null) rstd[m] = r;
            }
        }
    }

    private readonly struct Projection(float* dy, float* w, float* x) : ITerm
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public V At<V>(long i) where V : struct, ILanes<V> => V.Load(dy + i) * V.Load(w + i) * V.Load(x + i);
    }

    private readonly struct Gradient(float* dy, float* x, float* w, float r, float projection, float* dx, float* added) : IElementBody
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Apply<V>(long i) where V : struct, ILanes<V>
        {
            V along = V.Load(x + i) * V.Broadcast(projection);
            V gradient = (V.Load(dy + i) * V.Load(w + i) - along) * V.Broadcast(r);
            if (added != null) gradient += V.Load(added + i);
            gradient.Store(dx + i);
        }
    }

    private readonly struct InputGradientKernel(
        RowPointers<float> dy, RowPointers<float> x, float* w, float* rstd, RowPointers<float> dx, RowPointers<float> added, long columns) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long m = start; m < end; m++)
            {
                double projection = RowSum.Of<V, Projection>(new Projection(dy[m], w, x[m]), columns);
                projection *= (double)rstd[m] * rstd[m] / columns;
                var body = new Gradient(dy[m], x[m], w, rstd[m], (float)projection, dx[m], added[m]);
                ElementLoop.Run<V, Gradient>(body, 0, columns);
            }
        }
    }

    private readonly struct WeightedProduct(float* dy, float* x, float r, float* sum, bool first) : IElementBody
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Apply<V>(long i) where V : struct, ILanes<V>
        {
            V term = V.Load(x + i) * V.Broadcast(r);
            (first ? term * V.Load(dy + i) : V.MultiplyAdd(term, V.Load(dy + i), V.Load(sum + i))).Store(sum + i);
        }
    }

    private readonly struct PieceKernel(
        RowPointers<float> dy, RowPointers<float> x, float* rstd, float* sums, long rows, long columns, long pieceRows) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long piece = start; piece < end; piece++)
            {
                long first = piece * pieceRows, last = Math.Min(rows, first + pieceRows);
                for (long m = first; m < last; m++)
                {
                    var body = new WeightedProduct(dy[m], x[m], rstd[m], sums + piece * columns, m == first);
                    ElementLoop.Run<V, WeightedProduct>(body, 0, columns);
                }
            }
        }
    }

    private readonly struct AddPieces(float* sums, float* dweight, long pieces, long columns, bool accumulate) : IElementOperation
    {
        public void Segment<V>(long row, long start, long end) where V : struct, ISimd<V> =>
            ElementLoop.Run<V, Body>(new Body(sums, dweight, pieces, columns, accumulate), start, end);

        private readonly struct Body(float* sums, float* dweight, long pieces, long columns, bool accumulate) : IElementBody
        {
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public void Apply<V>(long i) where V : struct, ILanes<V>
            {
                V sum = V.Load(sums + i);
                for (long piece = 1; piece < pieces; piece++) sum += V.Load(sums + piece * columns + i);
                if (accumulate) sum = V.Load(dweight + i) + sum;
                sum.Store(dweight + i);
            }
        }
    }
}

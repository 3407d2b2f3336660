// Sums, fills and copies at the speed of memory. Sums run in F64 over pieces of fixed size, and the pieces are added in order.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="IReductionOperators"/> on the worker team.</summary>
internal sealed unsafe class CpuReduction(WorkerTeam team) : IReductionOperators
{
    private const long PieceElements = 64 << 10;

    public double SumOfSquares(Tensor x) => SumPieces<Squares>("sum of squares", x);

    public double Sum(Tensor x) => SumPieces<Identity>("sum", x);

    public bool AllFinite(Tensor x)
    {
        Require.That(!x.IsEmpty && x.DType == DType.F32, "all finite", "x is not F32");
        if (x.Elements == 0) return true;
        bool flat = x.IsContiguous;
        long rows = flat ? 1 : x.Rows, columns = flat ? x.Elements : x.Columns;
        int found = 0;
        long segments = (columns + PieceElements - 1) / PieceElements;
        Ranges.For(team, rows * segments, Ranges.Grain(4 * columns), new FiniteKernel(new(x), columns, segments, &found));
        return found == 0;
    }

    public void Add(Tensor a, Tensor b, Tensor y)
    {
        Require.Matrix("add", "a", a, y.Rows, y.Columns);
        Require.Matrix("add", "b", b, y.Rows, y.Columns);
        Require.Matrix("add", "y", y, y.Rows, y.Columns);
        Require.Writable("add", "y", y);
        bool flat = a.IsContiguous && b.IsContiguous && y.IsContiguous;
        ElementLoop.For(team, flat ? 1 : y.Rows, flat ? y.Elements : y.Columns, new AddOperation(new(a), new(b), new(y)));
    }

    public void Copy(Tensor x, Tensor y)
    {
        Require.Matrix("copy", "y", y, x.Rows, x.Columns, x.DType);
        Require.Writable("copy", "y", y);
        Blocks(x, y, x.IsContiguous && y.IsContiguous);
    }

    public void Zero(Tensor x)
    {
        Require.That(!x.IsEmpty, "zero", "x is an empty tensor");
        Require.Writable("zero", "x", x);
        Blocks(default, x, x.IsContiguous);
    }

    public void Convert(Tensor x, Tensor y)
    {
        DType other = x.DType == DType.F32 ? DType.BF16 : DType.F32;
        if (x.DType is not (DType.F32 or DType.BF16) || (y.DType != DType.F32 && y.DType != DType.BF16))
            Require.That(false, "convert", $"from {x} to {y}, expected F32 and BF16");
        Require.Matrix("convert", "y", y, x.Rows, x.Columns, y.DType == x.DType ? x.DType : other);
        Require.Writable("convert", "y", y);
        bool flat = x.IsContiguous && y.IsContiguous;
        long rows = flat ? 1 : x.Rows, columns = flat ? x.Elements : x.Columns;
        if (x.DType == y.DType) Blocks(x, y, flat);
        else if (y.DType == DType.F32) ElementLoop.For(team, rows, columns, new ExpandOperation(new(x), new(y)));
        else ElementLoop.For(team, rows, columns, new RoundOperation(new(x), new(y)));
    }

    private double SumPieces<TMoment>(string op, Tensor x) where TMoment : struct, IMoment
    {
        Require.Vector(op, "x", x, x.IsEmpty ? 0 : x.Elements);
        long pieces = (x.Elements + PieceElements - 1) / PieceElements;
        double* sums = (double*)Scratch.OfJob.Take(pieces * sizeof(double));
        Ranges.For(team, pieces, 1, new SumKernel<TMoment>(x.Pointer<float>(), x.Elements, sums));
        double total = 0;
        for (long i = 0; i < pieces; i++) total += sums[i];
        return total;
    }

    private void Blocks(Tensor source, Tensor destination, bool flat)
    {
        long size = destination.DType.SizeInBytes();
        long rows = flat ? 1 : destination.Rows, bytes = (flat ? destination.Elements : destination.Columns) * size;
        long segments = (bytes + PieceElements - 1) / PieceElements;
        Ranges.For(team, rows * segments, Ranges.Grain(bytes), new BlockKernel(
            (byte*)source.Address, source.RowStride * size, (byte*)destination.Address, destination.RowStride * size, bytes, segments));
    }

    /// <summary>What a sum adds for each element, in F64.</summary>
    private interface IMoment
    {
        static abstract V Add<V>(V sum, V x) where V : struct, ISimd<V>;

        static abstract double Of(double x);
    }

    private readonly struct Identity : IMoment
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static V Add<V>(V sum, V x) where V : struct, ISimd<V> => V.AddF64(sum, x);

        public static double Of(double x) => x;
    }

    private readonly struct Squares : IMoment
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static V Add<V>(V sum, V x) where V : struct, ISimd<V> => V.MultiplyAddF64(x, x, sum);

        public static double Of(double x) => x * x;
    }

    private readonly struct SumKernel<TMoment>(float* x, long count, double* sums) : IRangeKernel where TMoment : struct, IMoment
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long piece = start; piece < end; piece++)
            {
                float* p = x + piece * PieceElements;
                float* last = x + Math.Min(count, (piece + 1) * PieceElements);
                V lower = V.Broadcast(0), upper = lower, lower2 = lower, upper2 = lower;
                for (; p + 2 * V.Count <= last; p += 2 * V.Count)
                {
                    (V a, V b) = V.Widen(V.Load(p));
                    (V c, V d) = V.Widen(V.Load(p + V.Count));
                    lower = TMoment.Add(lower, a);
                    upper = TMoment.Add(upper, b);
                    lower2 = TMoment.Add(lower2, c);
                    upper2 = TMoment.Add(upper2, d);
                }

                double sum = V.SumF64(V.AddF64(V.AddF64(lower, upper), V.AddF64(lower2, upper2)));
                for (; p < last; p++) sum += TMoment.Of(*p);
                sums[piece] = sum;
            }
        }
    }

    // 0 · x is 0 for finite x and NaN otherwise, and NaN survives a sum.
    private readonly struct TimesZero(float* x) : ITerm
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public V At<V>(long column) where V : struct, ILanes<V> => V.Load(x + column) * V.Broadcast(0);
    }

    private readonly struct FiniteKernel(RowPointers<float> x, long columns, long segments, int* found) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long unit = start; unit < end; unit++)
            {
                long first = unit % segments * PieceElements;
                var term = new TimesZero(x[unit / segments] + first);
                if (RowSum.Of<V, TimesZero>(term, Math.Min(PieceElements, columns - first)) != 0) Volatile.Write(ref *found, 1);
            }
        }
    }

    private readonly struct AddOperation(RowPointers<float> a, RowPointers<float> b, RowPointers<float> y) : IElementOperation
    {
        public void Segment<V>(long row, long start, long end) where V : struct, ISimd<V> =>
            ElementLoop.Run<V, Body>(new Body(a[row], b[row], y[row]), start, end);

        private readonly struct Body(float* a, float* b, float* y) : IElementBody
        {
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public void Apply<V>(long i) where V : struct, ILanes<V> => (V.Load(a + i) + V.Load(b + i)).Store(y + i);
        }
    }

    private readonly struct ExpandOperation(RowPointers<ushort> x, RowPointers<float> y) : IElementOperation
    {
        public void Segment<V>(long row, long start, long end) where V : struct, ISimd<V> =>
            ElementLoop.Run<V, ExpandBF16>(new ExpandBF16(x[row], y[row]), start, end);
    }

    private readonly struct RoundOperation(RowPointers<float> x, RowPointers<ushort> y) : IElementOperation
    {
        public void Segment<V>(long row, long start, long end) where V : struct, ISimd<V> =>
            ElementLoop.Run<V, Body>(new Body(x[row], y[row]), start, end);

        private readonly struct Body(float* x, ushort* y) : IElementBody
        {
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public void Apply<V>(long i) where V : struct, ILanes<V> => V.Load(x + i).StoreBF16(y + i);
        }
    }

    private readonly struct BlockKernel(byte* source, long sourceStride, byte* destination, long stride, long bytes, long segments)
        : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long unit = start; unit < end; unit++)
            {
                long row = unit / segments, first = unit % segments * PieceElements;
                nuint length = (nuint)Math.Min(PieceElements, bytes - first);
                byte* to = destination + row * stride + first;
                if (source == null) NativeMemory.Clear(to, length);
                else NativeMemory.Copy(source + row * sourceStride + first, to, length);
            }
        }
    }
}

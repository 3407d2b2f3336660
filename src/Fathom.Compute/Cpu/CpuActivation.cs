// SwiGLU: one sweep over the operands, the exponential inline, so that it runs at the speed of memory.
using System.Runtime.CompilerServices;
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="IActivationOperators"/> on the worker team.</summary>
internal sealed unsafe class CpuActivation(WorkerTeam team) : IActivationOperators
{
    public void SwiGlu(Tensor gate, Tensor up, Tensor rowScale, Tensor y)
    {
        const string Op = "swiglu";
        Require.Matrix(Op, "gate", gate, y.Rows, y.Columns);
        Require.Matrix(Op, "up", up, y.Rows, y.Columns);
        Require.Matrix(Op, "y", y, y.Rows, y.Columns);
        Require.Writable(Op, "y", y);
        if (!rowScale.IsEmpty) Require.Vector(Op, "rowScale", rowScale, y.Rows);
        bool flat = rowScale.IsEmpty && gate.IsContiguous && up.IsContiguous && y.IsContiguous;
        var operation = new Forward(new(gate), new(up), rowScale.Pointer<float>(), new(y));
        ElementLoop.For(team, flat ? 1 : y.Rows, flat ? y.Elements : y.Columns, operation);
    }

    public void SwiGluGradient(Tensor dy, Tensor gate, Tensor up, Tensor rowScale, Tensor dgate, Tensor dup, Tensor drowScale)
    {
        const string Op = "swiglu gradient";
        Require.Matrix(Op, "dy", dy, dy.Rows, dy.Columns);
        Require.Matrix(Op, "gate", gate, dy.Rows, dy.Columns);
        Require.Matrix(Op, "up", up, dy.Rows, dy.Columns);
        Require.Matrix(Op, "dgate", dgate, dy.Rows, dy.Columns);
        Require.Matrix(Op, "dup", dup, dy.Rows, dy.Columns);
        Require.Writable(Op, "dgate", dgate);
        Require.Writable(Op, "dup", dup);
        if (!rowScale.IsEmpty) Require.Vector(Op, "rowScale", rowScale, dy.Rows);
        if (!drowScale.IsEmpty) Require.Vector(Op, "drowScale", drowScale, dy.Rows);
        var kernel = new BackwardKernel(
            new(dy), new(gate), new(up), rowScale.Pointer<float>(), new(dgate), new(dup), drowScale.Pointer<float>(), dy.Columns);
        Ranges.For(team, dy.Rows, Ranges.Grain(20 * dy.Columns), kernel);
    }

    private readonly struct Forward(RowPointers<float> gate, RowPointers<float> up, float* rowScale, RowPointers<float> y)
        : IElementOperation
    {
        public void Segment<V>(long row, long start, long end) where V : struct, ISimd<V> =>
            ElementLoop.Run<V, Body>(new Body(gate[row], up[row], rowScale == null ? 1 : rowScale[row], y[row]), start, end);

        private readonly struct Body(float* gate, float* up, float scale, float* y) : IElementBody
        {
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public void Apply<V>(long i) where V : struct, ILanes<V>
            {
                V a = V.Load(gate + i);
                (a * VectorMath.Sigmoid(a) * V.Load(up + i) * V.Broadcast(scale)).Store(y + i);
            }
        }
    }

    // The term of the row scale's gradient; the two large gradients are written on the way.
    private readonly struct Backward(float* dy, float* gate, float* up, float scale, float* dgate, float* dup) : ITerm
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public V At<V>(long i) where V : struct, ILanes<V>
        {
            V a = V.Load(gate + i), u = V.Load(up + i), d = V.Load(dy + i), one = V.Broadcast(1);
            V s = VectorMath.Sigmoid(a), silu = a * s, scaled = d * V.Broadcast(scale);
            V slope = s * V.MultiplyAdd(a, one - s, one);
            (scaled * u * slope).Store(dgate + i);
            (scaled * silu).Store(dup + i);
            return d * silu * u;
        }
    }

    private readonly struct BackwardKernel(
        RowPointers<float> dy, RowPointers<float> gate, RowPointers<float> up, float* rowScale,
        RowPointers<float> dgate, RowPointers<float> dup, float* drowScale, long columns) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long m = start; m < end; m++)
            {
                var term = new Backward(dy[m], gate[m], up[m], rowScale == null ? 1 : rowScale[m], dgate[m], dup[m]);
                double sum = RowSum.Of<V, Backward>(term, columns);
                if (drowScale != null) drowScale[m] = (float)sum;
            }
        }
    }
}

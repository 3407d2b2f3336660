// Rows of the table out, gradients back in. The gradient is cut by columns, not by tokens: every tile walks all tokens in order, so
// a token that occurs often is summed in the order of its places whichever thread does it.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="IEmbeddingOperators"/> on the worker team.</summary>
internal sealed unsafe class CpuEmbedding(WorkerTeam team) : IEmbeddingOperators
{
    public void Forward(Tensor ids, Tensor table, Tensor y)
    {
        const string Op = "embedding";
        Require.Matrix(Op, "table", table, table.Rows, y.Columns, table.DType == DType.BF16 ? DType.BF16 : DType.F32);
        Require.Matrix(Op, "y", y, ids.Elements, y.Columns);
        Require.Vector(Op, "ids", ids, ids.Elements, DType.I32);
        Require.Writable(Op, "y", y);
        var kernel = new ForwardKernel(ids.Pointer<int>(), table, table.Rows, new(y), y.Columns);
        Ranges.For(team, ids.Elements, Ranges.Grain(8 * y.Columns), kernel);
    }

    public void WeightGradient(Tensor ids, Tensor dy, Tensor dtable)
    {
        const string Op = "embedding weight gradient";
        Require.Matrix(Op, "dy", dy, ids.Elements, dtable.Columns);
        Require.Vector(Op, "ids", ids, ids.Elements, DType.I32);
        Require.Matrix(Op, "dtable", dtable, dtable.Rows, dy.Columns);
        Require.Writable(Op, "dtable", dtable);
        CheckIds(Op, ids.AsSpan<int>(), dtable.Rows);
        if (dy.Elements == 0) return;
        var kernel = new GradientKernel(ids.Pointer<int>(), ids.Elements, new(dy), new(dtable));
        Ranges.For(team, dy.Columns, ColumnsOfTile(dy.Columns, team.Size), kernel);
    }

    /// <summary>Columns of a tile: whole cache lines, at least two tiles a thread where the row is wide enough. No sum is cut by it.</summary>
    private static long ColumnsOfTile(long columns, int threads) => Math.Max(64, (columns / (2 * threads) + 15) / 16 * 16);

    private static void CheckIds(string op, ReadOnlySpan<int> ids, long vocabulary)
    {
        for (int i = 0; i < ids.Length; i++)
        {
            if ((uint)ids[i] >= vocabulary) OutsideVocabulary(op, ids[i], i, vocabulary);
        }
    }

    private static void OutsideVocabulary(string op, int id, long place, long vocabulary) =>
        Require.That(false, op, $"token id {id} at place {place} is outside the vocabulary of {vocabulary}");

    private readonly struct ForwardKernel(int* ids, Tensor table, long vocabulary, RowPointers<float> y, long columns) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long m = start; m < end; m++)
            {
                long id = ids[m];
                if ((ulong)id >= (ulong)vocabulary) OutsideVocabulary("embedding", ids[m], m, vocabulary);
                if (table.DType == DType.F32) NativeMemory.Copy(table.Pointer<float>() + id * table.RowStride, y[m], (nuint)(columns * sizeof(float)));
                else ElementLoop.Run<V, ExpandBF16>(new ExpandBF16(table.Pointer<ushort>() + id * table.RowStride, y[m]), 0, columns);
            }
        }
    }

    private readonly struct AddTo(float* x, float* y) : IElementBody
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Apply<V>(long i) where V : struct, ILanes<V> => (V.Load(y + i) + V.Load(x + i)).Store(y + i);
    }

    private readonly struct GradientKernel(int* ids, long tokens, RowPointers<float> dy, RowPointers<float> dtable) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long m = 0; m < tokens; m++) ElementLoop.Run<V, AddTo>(new AddTo(dy[m], dtable[ids[m]]), start, end);
        }
    }
}

// Drives operations that compute each element from the elements at the same place of other tensors: over rows where any operand
// is strided, over one long row where none is. Long rows are cut into segments, short ones share a tile.
using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>An operation over tensors: hands the pointers of one row to its <see cref="IElementBody"/>.</summary>
internal interface IElementOperation
{
    /// <summary>Computes elements <paramref name="start"/> to <paramref name="end"/> - 1 of a row.</summary>
    void Segment<V>(long row, long start, long end) where V : struct, ISimd<V>;
}

/// <summary>An operation within one row.</summary>
internal interface IElementBody
{
    /// <summary>Computes the elements from <paramref name="i"/> on, one vector of them.</summary>
    void Apply<V>(long i) where V : struct, ILanes<V>;
}

/// <summary>The one loop that all element-wise operations share.</summary>
internal static class ElementLoop
{
    private const long SegmentElements = 16 << 10;

    /// <summary>Applies the operation to every element.</summary>
    /// <param name="team">The threads.</param>
    /// <param name="rows">Rows; one where all operands are contiguous and hence one long row.</param>
    /// <param name="columns">Elements of a row.</param>
    /// <param name="operation">What to compute.</param>
    public static void For<TOperation>(WorkerTeam team, long rows, long columns, TOperation operation)
        where TOperation : struct, IElementOperation
    {
        long segments = (columns + SegmentElements - 1) / SegmentElements;
        long grain = Math.Max(1, SegmentElements / Math.Max(1, columns));
        Ranges.For(team, rows * segments, grain, new Kernel<TOperation>(operation, columns, segments));
    }

    /// <summary>Applies a body to elements start to end - 1: whole vectors, then what is left one by one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Run<V, TBody>(TBody body, long start, long end) where V : struct, ISimd<V> where TBody : struct, IElementBody
    {
        long i = start;
        for (; i + V.Count <= end; i += V.Count) body.Apply<V>(i);
        for (; i < end; i++) body.Apply<Scalar>(i);
    }

    private readonly struct Kernel<TOperation>(TOperation operation, long columns, long segments) : IRangeKernel
        where TOperation : struct, IElementOperation
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long unit = start; unit < end; unit++)
            {
                long first = unit % segments * SegmentElements;
                operation.Segment<V>(unit / segments, first, Math.Min(columns, first + SegmentElements));
            }
        }
    }
}

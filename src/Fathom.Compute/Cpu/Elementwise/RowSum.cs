// Sums a term over a row. Lanes add in F32 for a block that is short enough not to lose digits, blocks add in F64, so the error
// does not grow with the row: a vocabulary of 129 280 is summed as well as a hidden size of 384.
using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>What is summed.</summary>
internal interface ITerm
{
    /// <summary>The terms from <paramref name="column"/> on, one vector of them. May also write them somewhere.</summary>
    V At<V>(long column) where V : struct, ILanes<V>;
}

/// <summary>Sums over one row on one thread.</summary>
internal static class RowSum
{
    private const long BlockElements = 2048;

    /// <summary>The sum of the term over columns 0 to columns - 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double Of<V, TTerm>(TTerm term, long columns) where V : struct, ISimd<V> where TTerm : struct, ITerm
    {
        double total = 0;
        long i = 0;
        while (i + V.Count <= columns)
        {
            long end = Math.Min(columns, i + BlockElements);
            V sum0 = V.Broadcast(0), sum1 = sum0, sum2 = sum0, sum3 = sum0;
            for (; i + 4 * V.Count <= end; i += 4 * V.Count)
            {
                sum0 += term.At<V>(i);
                sum1 += term.At<V>(i + V.Count);
                sum2 += term.At<V>(i + 2 * V.Count);
                sum3 += term.At<V>(i + 3 * V.Count);
            }

            for (; i + V.Count <= end; i += V.Count) sum0 += term.At<V>(i);
            total += V.Sum((sum0 + sum1) + (sum2 + sum3));
        }

        for (; i < columns; i++) total += term.At<Scalar>(i).Value;
        return total;
    }
}

// Tokens to experts and back. The counting sort is sequential: two passes over M·K small integers take less time than the rows that
// follow them take to arrive from memory. Rows move in parallel.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

internal sealed unsafe partial class CpuRouting
{
    // Offsets are first counts, then the place of each expert's next row, and last, moved up by one, the offsets themselves.
    private static void CountingSort(ReadOnlySpan<int> experts, Span<int> offsets, Span<int> slotOfRow, Span<int> rowOfSlot)
    {
        offsets.Clear();
        foreach (int e in experts)
        {
            if ((uint)e >= (uint)(offsets.Length - 1)) OutOfRange("sort slots", "expert", e, offsets.Length - 1);
            offsets[e]++;
        }

        int row = 0;
        for (int e = 0; e < offsets.Length; e++) (offsets[e], row) = (row, row + offsets[e]);
        for (int slot = 0; slot < experts.Length; slot++)
        {
            int place = offsets[experts[slot]]++;
            slotOfRow[place] = slot;
            rowOfSlot[slot] = place;
        }

        for (int e = offsets.Length - 1; e > 0; e--) offsets[e] = offsets[e - 1];
        offsets[0] = 0;
    }

    private readonly struct DispatchKernel(Tensor x, int* slotOfRow, int topK, Tensor y) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            int size = x.DType.SizeInBytes();
            for (long s = start; s < end; s++)
            {
                long token = slotOfRow[s] / topK;
                if (slotOfRow[s] < 0 || token >= x.Rows) OutOfRange("dispatch", "slot", slotOfRow[s], x.Rows * topK);
                NativeMemory.Copy(x.Pointer<byte>() + token * x.RowStride * size, y.Pointer<byte>() + s * y.RowStride * size, (nuint)(y.Columns * size));
            }
        }
    }

    private readonly struct CombineKernel(
        RowPointers<float> y, long rows, int* rowOfSlot, long topK, RowPointers<float> output, long columns, bool accumulate) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long m = start; m < end; m++)
            {
                int* slots = rowOfSlot + m * topK;
                for (long k = 0; k < topK; k++)
                {
                    if ((ulong)slots[k] >= (ulong)rows) OutOfRange("combine", "row", slots[k], rows);
                }

                ElementLoop.Run<V, Body>(new Body(y, slots, topK, output[m], accumulate), 0, columns);
            }
        }

        private readonly struct Body(RowPointers<float> y, int* slots, long topK, float* output, bool accumulate) : IElementBody
        {
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public void Apply<V>(long i) where V : struct, ILanes<V>
            {
                V sum = V.Load(y[slots[0]] + i);
                for (long k = 1; k < topK; k++) sum += V.Load(y[slots[k]] + i);
                if (accumulate) sum += V.Load(output + i);
                sum.Store(output + i);
            }
        }
    }

    private readonly struct Gather(float* from, long count, int* slotOfRow, float* to) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long s = start; s < end; s++)
            {
                if ((ulong)slotOfRow[s] >= (ulong)count) OutOfRange("slots to rows", "slot", slotOfRow[s], count);
                to[s] = from[slotOfRow[s]];
            }
        }
    }

    private readonly struct Scatter(float* from, int* slotOfRow, float* to, long count) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long s = start; s < end; s++)
            {
                if ((ulong)slotOfRow[s] >= (ulong)count) OutOfRange("rows to slots", "slot", slotOfRow[s], count);
                to[slotOfRow[s]] = from[s];
            }
        }
    }
}

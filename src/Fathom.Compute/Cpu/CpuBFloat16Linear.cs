// Forward products whose weights are BF16, with activations rounded to BF16 too, by the processor's own instruction for them: what a GPU's
// tensor cores do. It multiplies twice as many numbers as FP32 arithmetic does. All rows go through the kernels of few rows, so the bits
// of a row are its own. Everything else goes to the products that there are without it.
using Fathom.Compute.Cpu.Gemm;
using Fathom.Compute.Cpu.MachineCode;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="ILinearOperators"/> with BF16 dot products. Not to be called from within a tile of the team.</summary>
/// <param name="team">The threads.</param>
/// <param name="others">Products of weights in other formats, those in E4M3 codes with activations rounded too, and gradients.</param>
internal sealed unsafe class CpuBFloat16Linear(WorkerTeam team, ILinearOperators others) : ILinearOperators
{
    private const long ElementsOfOneThread = 64 << 10;
    private const int RowsOfTile = 16;

    private readonly Lock oneCallAtATime = new();
    private Tensor memory;

    public void Forward(in ScaledTensor x, in ScaledTensor w, Tensor y, bool accumulate)
    {
        if (!Takes(x, w))
        {
            others.Forward(x, w, y, accumulate);
            return;
        }

        CpuLinear.CheckForward("linear forward", x.Elements, w, y, x.DType);
        long rows = y.Rows, inputs = x.Shape.Columns;
        lock (oneCallAtATime)
        {
            Tensor narrow = Narrow(x.Elements);
            var product = new Product { A = narrow.Pointer<byte>(), B = w.Elements.Pointer<byte>(), C = y.Pointer<float>(), Rows = rows, Depth = inputs };
            Run(&product, 1, Layout(narrow, w.Elements, y, accumulate));
        }
    }

    public void GroupedForward(in ScaledTensor x, Tensor rowOffsets, ExpertWeights w, Tensor y)
    {
        if (!Takes(x, w[0]))
        {
            others.GroupedForward(x, rowOffsets, w, y);
            return;
        }

        CpuLinear.CheckGroupedForward("grouped linear forward", x.Elements, rowOffsets, w, y, x.DType);
        lock (oneCallAtATime)
        {
            Tensor narrow = Narrow(x.Elements);
            ReadOnlySpan<int> offsets = rowOffsets.AsSpan<int>();
            Product* products = stackalloc Product[Math.Min(w.Count, CpuLinear.ExpertsAtOnce)];
            ProductLayout layout = default;
            int count = 0;
            for (int e = 0; e < w.Count; e++)
            {
                long rows = offsets[e + 1] - offsets[e];
                if (rows == 0) continue;
                Tensor expert = w[e].Elements;
                if (count == CpuLinear.ExpertsAtOnce || count > 0 && expert.RowStride != layout.StrideB)
                {
                    Run(products, count, layout);
                    count = 0;
                }

                layout = Layout(narrow, expert, y, false);
                products[count++] = new Product
                {
                    A = (byte*)(narrow.Pointer<BFloat16>() + offsets[e] * narrow.RowStride),
                    B = expert.Pointer<byte>(),
                    C = y.Pointer<float>() + offsets[e] * y.RowStride,
                    Rows = rows,
                    Depth = w.Inputs,
                };
            }

            Run(products, count, layout);
        }
    }

    public void InputGradient(in ScaledTensor dy, in ScaledTensor w, Tensor dx, bool accumulate) => others.InputGradient(dy, w, dx, accumulate);

    public void WeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor dw, bool accumulate) => others.WeightGradient(dy, x, dw, accumulate);

    public void GroupedInputGradient(in ScaledTensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx, bool accumulate) =>
        others.GroupedInputGradient(dy, rowOffsets, w, dx, accumulate);

    public void GroupedWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw, bool accumulate) =>
        others.GroupedWeightGradient(dy, x, rowOffsets, dw, accumulate);

    private static bool Takes(in ScaledTensor x, in ScaledTensor w) =>
        w.Layout == ScaleLayout.None && w.DType == DType.BF16 && x.Layout == ScaleLayout.None && x.DType is DType.F32 or DType.BF16;

    private static ProductLayout Layout(Tensor x, Tensor w, Tensor y, bool accumulate) =>
        new(y.Columns, x.RowStride, w.RowStride, y.RowStride, true, true, DType.BF16, accumulate);

    private void Run(Product* products, int count, in ProductLayout layout)
    {
        if (layout.Columns == 0 || count == 0) return;
        long rows = 0;
        for (int i = 0; i < count; i++) rows += products[i].Rows;
        if (rows == 0) return;
        long width = FewRowsPlan.TileColumns(layout.Columns, products[0].Depth, count, rows, FewRowsPlan.DotRows, team.Size, narrow: true);
        int tiles = (int)((layout.Columns + width - 1) / width);
        team.ForRanges(checked(tiles * count), new DotJob<BFloat16Kernels<NarrowNumbers>, BFloat16>(products, layout, width, tiles));
    }

    /// <summary>Activations as BF16, in memory that the next call writes over.</summary>
    private Tensor Narrow(Tensor x)
    {
        if (x.DType == DType.BF16 || x.Elements == 0) return x;
        // Rows begin at a cache line, and not all in the same sets of the caches.
        long stride = (x.Columns + BFloat16Code.VectorElements - 1) / BFloat16Code.VectorElements * BFloat16Code.VectorElements + BFloat16Code.VectorElements;
        if (memory.IsEmpty || memory.Elements < x.Rows * stride) memory = HostMemory.Allocate(new Shape(x.Rows * stride), DType.BF16);
        Tensor narrow = new Tensor(memory.Address, DType.BF16, new Shape(x.Rows, stride), memory.Owner).ColumnRange(0, x.Columns);
        // A little work is done before another thread has come to it.
        if (x.Elements <= ElementsOfOneThread) new NarrowJob(x, narrow, x.Rows).Run(0, 0);
        else team.For(checked((int)((x.Rows + RowsOfTile - 1) / RowsOfTile)), new NarrowJob(x, narrow, RowsOfTile));
        return narrow;
    }

    private readonly struct NarrowJob(Tensor x, Tensor narrow, long rows) : ITileJob
    {
        public void Run(int tile, int worker)
        {
            long whole = x.Columns / BFloat16Code.VectorElements * BFloat16Code.VectorElements;
            for (long row = tile * rows; row < Math.Min(x.Rows, (tile + 1) * rows); row++)
            {
                float* from = x.Pointer<float>() + row * x.RowStride;
                BFloat16* to = narrow.Pointer<BFloat16>() + row * narrow.RowStride;
                if (whole > 0) BFloat16Code.Narrow((byte*)to, (byte*)from, (nint)(whole * sizeof(BFloat16)));
                for (long i = whole; i < x.Columns; i++) to[i] = (BFloat16)from[i];
            }
        }
    }
}

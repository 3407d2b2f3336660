// Products grouped by expert: the rows of all experts lie one after another, and each group meets its own matrix. All groups
// share parallel regions, so that a step's cost is that of its arithmetic and not of its number of experts.
using Fathom.Compute.Cpu.Gemm;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

internal sealed unsafe partial class CpuLinear
{
    /// <summary>Experts whose products are listed at once, on the stack.</summary>
    internal const int ExpertsAtOnce = 256;

    /// <summary>Forward product of the rows of each expert; those whose matrix is the empty tensor are left out.</summary>
    public void GroupedForward(Tensor x, Tensor rowOffsets, ReadOnlySpan<Tensor> w, Tensor y)
    {
        const string Op = "grouped linear forward";
        long rows = Math.Max(x.Rows, y.Rows);
        Tensor any = Any(w);
        Matrix(Op, "x", x, rows, any.Columns);
        Output(Op, "y", y, rows, any.Rows);
        WeightType(Op, any.DType);
        Offsets(Op, rowOffsets, w.Length, rows);
        RunGroups(x, rowOffsets, w, y, any.Columns, new ProductLayout(any.Rows, x.RowStride, 0, y.RowStride, true, true, any.DType, false));
    }

    /// <summary>Input gradient of the rows of each expert; those whose matrix is the empty tensor are left out.</summary>
    public void GroupedInputGradient(Tensor dy, Tensor rowOffsets, ReadOnlySpan<Tensor> w, Tensor dx, bool accumulate)
    {
        const string Op = "grouped linear input gradient";
        long rows = Math.Max(dy.Rows, dx.Rows);
        Tensor any = Any(w);
        Matrix(Op, "dy", dy, rows, any.Rows);
        Output(Op, "dx", dx, rows, any.Columns);
        WeightType(Op, any.DType);
        Offsets(Op, rowOffsets, w.Length, rows);
        RunGroups(dy, rowOffsets, w, dx, any.Rows, new ProductLayout(any.Columns, dy.RowStride, 0, dx.RowStride, true, false, any.DType, accumulate));
    }

    public void GroupedWeightGradient(Tensor dy, Tensor x, Tensor rowOffsets, Tensor dw, bool accumulate)
    {
        const string Op = "grouped linear weight gradient";
        if (dw.Shape.Rank != 3) Fail(Op, $"dw is {dw}, expected F32 [E, N, K]");
        int experts = checked((int)dw.Shape[0]);
        long rows = Math.Max(dy.Rows, x.Rows), outputs = dw.Shape[1], inputs = dw.Shape[2];
        Matrix(Op, "dy", dy, rows, outputs);
        Matrix(Op, "x", x, rows, inputs);
        Output(Op, "dw", dw, experts * outputs, inputs);
        Offsets(Op, rowOffsets, experts, rows);
        var layout = new ProductLayout(inputs, dy.RowStride, x.RowStride, dw.RowStride, false, false, DType.F32, accumulate);
        int* offsets = rowOffsets.Pointer<int>();
        Product* products = stackalloc Product[Math.Min(experts, ExpertsAtOnce)];
        for (int first = 0; first < experts; first += ExpertsAtOnce)
        {
            int count = 0;
            for (int e = first; e < Math.Min(first + ExpertsAtOnce, experts); e++)
            {
                if (accumulate && offsets[e + 1] == offsets[e]) continue;
                products[count++] = new Product
                {
                    A = (byte*)(dy.Pointer<float>() + offsets[e] * dy.RowStride),
                    B = (byte*)(x.Pointer<float>() + offsets[e] * x.RowStride),
                    C = dw.Pointer<float>() + e * outputs * dw.RowStride,
                    Rows = outputs,
                    Depth = offsets[e + 1] - offsets[e],
                };
            }

            packed.Run(new ReadOnlySpan<Product>(products, count), layout);
        }
    }

    private void RunGroups(Tensor a, Tensor rowOffsets, ReadOnlySpan<Tensor> w, Tensor c, long depth, ProductLayout layout)
    {
        int* offsets = rowOffsets.Pointer<int>();
        Product* products = stackalloc Product[Math.Min(w.Length, ExpertsAtOnce)];
        int count = 0;
        for (int e = 0; e < w.Length; e++)
        {
            long rows = offsets[e + 1] - offsets[e];
            if (rows == 0 || w[e].IsEmpty) continue;
            // Matrices of one call share a stride, except a list of views that were cut differently.
            if (count == ExpertsAtOnce || count > 0 && w[e].RowStride != layout.StrideB)
            {
                Run(products, count, layout);
                count = 0;
            }

            layout = layout with { StrideB = w[e].RowStride };
            products[count++] = new Product
            {
                A = (byte*)(a.Pointer<float>() + offsets[e] * a.RowStride),
                B = w[e].Pointer<byte>(),
                C = c.Pointer<float>() + offsets[e] * c.RowStride,
                Rows = rows,
                Depth = depth,
            };
        }

        if (count > 0) Run(products, count, layout);
    }

    private static Tensor Any(ReadOnlySpan<Tensor> w)
    {
        foreach (Tensor matrix in w)
        {
            if (!matrix.IsEmpty) return matrix;
        }

        return w[0];
    }

    private static void Offsets(string op, in Tensor offsets, int experts, long rows)
    {
        Require.Vector(op, "rowOffsets", offsets, experts + 1, DType.I32);
        int* values = offsets.Pointer<int>();
        for (int e = 0; e <= experts; e++)
        {
            int least = e == 0 ? 0 : values[e - 1];
            if (values[e] < least || values[e] > rows)
                Fail(op, $"rowOffsets[{e}] is {values[e]}, expected {least} to {rows} (ascending, within the rows)");
        }
    }
}

// Forward products of few rows with weights in 8-bit codes with block scales, as a checkpoint has them ([P] §3.3.2, §3.4): checks and
// lists of products.
using Fathom.Compute.Cpu.Gemm;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

internal sealed unsafe partial class CpuLinear
{
    /// <summary>Most rows of a product that reads scaled weights as they lie.</summary>
    public long MostScaledRows => mostRowsOfDots;

    /// <summary>Whether products of few rows read such weights as they lie.</summary>
    public static bool ReadsScaled(in ScaledTensor w) => w.Layout == ScaleLayout.Block && w.DType is DType.F8E4M3 or DType.HiF8;

    /// <summary>The checks of <see cref="Forward"/>, for weights in any format.</summary>
    public static void CheckForward(string op, Tensor x, in ScaledTensor w, Tensor y, DType type = DType.F32)
    {
        long rows = Math.Max(x.Rows, y.Rows);
        Matrix(op, "x", x, rows, x.Columns, type);
        if (w.Shape.Rank != 2 || w.Shape[0] != y.Columns || w.Shape[1] != x.Columns) Fail(op, $"w is {w}, expected [{y.Columns}, {x.Columns}]");
        Output(op, "y", y, rows, y.Columns);
    }

    /// <summary>y = x wᵀ, or +=, for at most <see cref="MostScaledRows"/> rows and weights that <see cref="ReadsScaled"/>.</summary>
    public void ForwardScaled(Tensor x, in ScaledTensor w, Tensor y, bool accumulate)
    {
        CheckForward("linear forward", x, w, y);
        if (y.Rows == 0) return;
        ScaledProduct product = Product(x, w, y, 0, y.Rows);
        scaledRows.Run(&product, 1, Layout(x, w, y, accumulate));
    }

    /// <summary>
    /// Forward product of the rows of each expert that has at most <see cref="MostScaledRows"/>; the others are left out. For weights that
    /// <see cref="ReadsScaled"/>.
    /// </summary>
    public void GroupedForwardScaled(Tensor x, Tensor rowOffsets, ExpertWeights w, Tensor y)
    {
        int* offsets = rowOffsets.Pointer<int>();
        ScaledProduct* products = stackalloc ScaledProduct[Math.Min(w.Count, ExpertsAtOnce)];
        ProductLayout layout = default;
        int count = 0;
        for (int e = 0; e < w.Count; e++)
        {
            long rows = offsets[e + 1] - offsets[e];
            if (rows == 0 || rows > MostScaledRows) continue;
            ScaledTensor expert = w[e];
            if (count == ExpertsAtOnce || count > 0 && expert.Elements.RowStride != layout.StrideB)
            {
                scaledRows.Run(products, count, layout);
                count = 0;
            }

            layout = Layout(x, expert, y, false);
            products[count++] = Product(x, expert, y, offsets[e], rows);
        }

        scaledRows.Run(products, count, layout);
    }

    /// <summary>The checks of grouped forward products, for weights in any format.</summary>
    public static void CheckGroupedForward(string op, Tensor x, Tensor rowOffsets, ExpertWeights w, Tensor y, DType type = DType.F32)
    {
        long rows = Math.Max(x.Rows, y.Rows);
        Matrix(op, "x", x, rows, w.Inputs, type);
        Output(op, "y", y, rows, w.Outputs);
        Offsets(op, rowOffsets, w.Count, rows);
    }

    /// <summary>The checks of grouped input gradients, for weights in any format.</summary>
    public static void CheckGroupedInputGradient(string op, Tensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx)
    {
        long rows = Math.Max(dy.Rows, dx.Rows);
        Matrix(op, "dy", dy, rows, w.Outputs);
        Output(op, "dx", dx, rows, w.Inputs);
        Offsets(op, rowOffsets, w.Count, rows);
    }

    private static ProductLayout Layout(Tensor x, in ScaledTensor w, Tensor y, bool accumulate) =>
        new(y.Columns, x.RowStride, w.Elements.RowStride, y.RowStride, true, true, w.DType, accumulate);

    private static ScaledProduct Product(Tensor x, in ScaledTensor w, Tensor y, long row, long rows) => new()
    {
        Product = new Product
        {
            A = (byte*)(x.Pointer<float>() + row * x.RowStride),
            B = w.Elements.Pointer<byte>(),
            C = y.Pointer<float>() + row * y.RowStride,
            Rows = rows,
            Depth = x.Columns,
        },
        Scales = w.Scales.Pointer<byte>(),
        ScaleStride = w.Scales.RowStride,
        ScaleType = w.Scales.DType,
    };
}

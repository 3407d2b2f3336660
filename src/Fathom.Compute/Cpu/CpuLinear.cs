// Products with weight matrices on the processor. The three products of a linear layer are one product C = A B seen three ways:
// forward A = x, B = wᵀ; input gradient A = dy, B = w; weight gradient A = dyᵀ, B = x. Many rows go to the packed product
// (bound by arithmetic), few rows to the kernels that only stream the weights (bound by memory).
using System.Diagnostics.CodeAnalysis;
using System.Runtime.Intrinsics;
using Fathom.Compute.Cpu.Gemm;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary>
/// Products of F32 matrices, or of F32 with BF16 weights, or of few rows with scaled codes, on a worker team. A result depends neither on the number of threads nor, within the products
/// of few rows and within those of many, on the other rows. Not to be called from within a tile of the team.
/// </summary>
internal sealed unsafe partial class CpuLinear
{
    private readonly IPackedGemm packed;
    private readonly IFewRowsGemm fewRows;
    private readonly IScaledRowsGemm scaledRows;
    private readonly long mostRowsOfDots;

    /// <summary>Products on a team.</summary>
    /// <param name="team">The threads.</param>
    /// <param name="byRow">Whether forward products take one way whatever their rows, so that the bits of a row are its own.</param>
    /// <param name="narrowCodes">Whether activations that meet E4M3 codes are rounded to BF16; only where there are BF16 dot products.</param>
    public CpuLinear(WorkerTeam team, bool byRow = false, bool narrowCodes = false)
    {
        mostRowsOfDots = byRow ? long.MaxValue : FewRowsPlan.MostRowsOfDots;
        if (CpuFeatures.Avx512)
        {
            packed = new PackedGemm<TileOf12Rows<Vector512<float>, Width512>, Vector512<float>, Width512>(team);
            fewRows = new FewRowsGemm<Vector512<float>, Width512>(team);
            scaledRows = new ScaledRowsGemm<Vector512<float>, Width512>(team, narrowCodes);
        }
        else if (CpuFeatures.Avx2)
        {
            packed = new PackedGemm<TileOf6Rows<Vector256<float>, Width256>, Vector256<float>, Width256>(team);
            fewRows = new FewRowsGemm<Vector256<float>, Width256>(team);
            scaledRows = new ScaledRowsGemm<Vector256<float>, Width256>(team);
        }
        else
        {
            packed = new PackedGemm<TileOf6Rows<Vector128<float>, Width128>, Vector128<float>, Width128>(team);
            fewRows = new FewRowsGemm<Vector128<float>, Width128>(team);
            scaledRows = new ScaledRowsGemm<Vector128<float>, Width128>(team);
        }
    }

    public void Forward(Tensor x, Tensor w, Tensor y, bool accumulate)
    {
        const string Op = "linear forward";
        long rows = Math.Max(x.Rows, y.Rows), outputs = y.Columns, inputs = x.Columns;
        Matrix(Op, "x", x, rows, inputs);
        Matrix(Op, "w", w, outputs, inputs, WeightType(Op, w.DType));
        Output(Op, "y", y, rows, outputs);
        var product = new Product { A = x.Pointer<byte>(), B = w.Pointer<byte>(), C = y.Pointer<float>(), Rows = rows, Depth = inputs };
        Run(&product, 1, new ProductLayout(outputs, x.RowStride, w.RowStride, y.RowStride, true, true, w.DType, accumulate));
    }

    public void InputGradient(Tensor dy, Tensor w, Tensor dx, bool accumulate)
    {
        const string Op = "linear input gradient";
        long rows = Math.Max(dy.Rows, dx.Rows), outputs = dy.Columns, inputs = dx.Columns;
        Matrix(Op, "dy", dy, rows, outputs);
        Matrix(Op, "w", w, outputs, inputs, WeightType(Op, w.DType));
        Output(Op, "dx", dx, rows, inputs);
        var product = new Product { A = dy.Pointer<byte>(), B = w.Pointer<byte>(), C = dx.Pointer<float>(), Rows = rows, Depth = outputs };
        Run(&product, 1, new ProductLayout(inputs, dy.RowStride, w.RowStride, dx.RowStride, true, false, w.DType, accumulate));
    }

    public void WeightGradient(Tensor dy, Tensor x, Tensor dw, bool accumulate)
    {
        const string Op = "linear weight gradient";
        long rows = Math.Max(dy.Rows, x.Rows), outputs = dy.Columns, inputs = x.Columns;
        Matrix(Op, "dy", dy, rows, outputs);
        Matrix(Op, "x", x, rows, inputs);
        Output(Op, "dw", dw, outputs, inputs);
        var product = new Product { A = dy.Pointer<byte>(), B = x.Pointer<byte>(), C = dw.Pointer<float>(), Rows = outputs, Depth = rows };
        packed.Run(new ReadOnlySpan<Product>(&product, 1), new ProductLayout(inputs, dy.RowStride, x.RowStride, dw.RowStride, false, false, DType.F32, accumulate));
    }

    /// <summary>Sorts products into those of few rows and those of many; the order of the list is lost.</summary>
    private void Run(Product* products, int count, in ProductLayout layout)
    {
        int few = 0;
        long mostRows = layout.DepthFirstB ? mostRowsOfDots : FewRowsPlan.MostRowsOfSums;
        for (int i = 0; i < count; i++)
        {
            if (products[i].Rows > mostRows) continue;
            (products[few], products[i]) = (products[i], products[few]);
            if (products[few].Rows > 0) few++;
        }

        if (few > 0) fewRows.Run(products, few, layout);
        if (few < count) packed.Run(new ReadOnlySpan<Product>(products + few, count - few), layout);
    }

    private static DType WeightType(string op, DType type)
    {
        if (type is not (DType.F32 or DType.BF16)) Fail(op, $"w is {type}, expected F32, BF16 or elements with scales");
        return type;
    }

    private static void Matrix(string op, string name, in Tensor tensor, long rows, long columns, DType type = DType.F32)
    {
        Require.Matrix(op, name, tensor, rows, columns, type);
        // An empty tensor passes the check above whatever its rows.
        if (tensor.Elements == 0 && rows * columns != 0) Fail(op, $"{name} is {tensor}, expected {type} [{rows}, {columns}]");
    }

    private static void Output(string op, string name, in Tensor tensor, long rows, long columns)
    {
        Matrix(op, name, tensor, rows, columns);
        Require.Writable(op, name, tensor);
    }

    [DoesNotReturn]
    private static void Fail(string op, string what) => throw new ArgumentException($"{op}: {what}");
}

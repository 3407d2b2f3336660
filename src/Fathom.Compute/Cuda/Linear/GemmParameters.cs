// A product as kernels take it, passed by value: twins of the structures in gemm.cuh, field for field.
using System.Runtime.InteropServices;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Linear;

/// <summary>Which dimension of a product is cut into groups, each with its own matrix or result.</summary>
internal enum GemmGrouping
{
    /// <summary>None: one product.</summary>
    None,

    /// <summary>The rows: every expert's rows meet its own matrix b.</summary>
    Rows,

    /// <summary>The depth: every expert's rows give its own result.</summary>
    Depth,
}

/// <summary>Where the scale of (row, d) lies: values[(row &gt;&gt; RowShift) · RowStride + (d &gt;&gt; DepthShift) · DepthStride].</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct GemmScales
{
    /// <summary>Shift that takes any index to 0.</summary>
    public const int Everything = 63;

    private const int TileShift = 7;

    public nint Values;
    public long RowStride, DepthStride;
    public int RowShift, DepthShift, PowersOfTwo, BeginWithGroups;

    /// <summary>Scales of an operand.</summary>
    /// <param name="matrix">The operand.</param>
    /// <param name="transposed">Whether it lies [depth, rows] instead of [rows, depth].</param>
    /// <param name="groupedDepth">Whether its depth is grouped.</param>
    public static GemmScales Of(in ScaledTensor matrix, bool transposed, bool groupedDepth)
    {
        if (matrix.Layout == ScaleLayout.None) return default;
        int down = matrix.Layout switch { ScaleLayout.RowTile => 0, ScaleLayout.Tensor => Everything, _ => TileShift };
        int across = matrix.Layout switch { ScaleLayout.ColumnTile => 0, ScaleLayout.Tensor => Everything, _ => TileShift };
        long stride = matrix.Layout == ScaleLayout.Tensor ? 0 : matrix.Scales.RowStride, next = matrix.Layout == ScaleLayout.Tensor ? 0 : 1;
        return new GemmScales
        {
            Values = matrix.Scales.Address,
            RowStride = transposed ? next : stride,
            DepthStride = transposed ? stride : next,
            RowShift = transposed ? across : down,
            DepthShift = transposed ? down : across,
            PowersOfTwo = matrix.Scales.DType == DType.F8E8M0 ? 1 : 0,
            BeginWithGroups = transposed && groupedDepth && matrix.Layout == ScaleLayout.ColumnTile ? 1 : 0,
        };
    }

    /// <summary>
    /// Whether 128 of the depth, counted from the beginning of every group, share their scales, so that they can be multiplied after
    /// these have been summed.
    /// </summary>
    public static bool CoverDepth(ScaleLayout layout, bool transposed, bool groupedDepth) => layout switch
    {
        ScaleLayout.None or ScaleLayout.Tensor => true,
        ScaleLayout.RowTile => !transposed,
        ScaleLayout.ColumnTile => transposed,
        _ => !groupedDepth,
    };
}

/// <summary>Elements and scales of an operand.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct GemmOperand
{
    public nint Elements;
    public long Stride;
    public GemmScales Scales;
}

/// <summary>One expert's matrix.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct GemmExpert
{
    public nint Elements, Scales;
    public long Stride, ScaleStride;
}

/// <summary>c[m, n] (+)= sum over d of a(m, d) b(n, d).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct GemmProduct
{
    public GemmOperand A, B;
    public nint C;
    public long CStride, CGroupStride, Rows, Columns, Depth;
    public nint RowOffsets, Experts, Partial;
    public int Groups, Grouping, Accumulate, BandRows;
}

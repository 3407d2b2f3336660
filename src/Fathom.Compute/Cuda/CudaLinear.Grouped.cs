// Products grouped by expert, each in one launch. Where groups begin is known on the GPU alone, so the grid covers the most tiles that
// any division of the rows can have, and every block looks up which one it has.
using Fathom.Compute.Cuda.Linear;

namespace Fathom.Compute.Cuda;

internal sealed partial class CudaLinear
{
    public void GroupedForward(in ScaledTensor x, Tensor rowOffsets, ExpertWeights w, Tensor y)
    {
        const string Op = "grouped linear forward";
        long rows = Math.Max(x.Elements.Rows, y.Rows);
        LinearChecks.Operand(Op, "x", x, rows, w.Inputs);
        LinearChecks.Operand(Op, "w", w[0], w.Outputs, w.Inputs);
        LinearChecks.Result(Op, "y", y, rows, w.Outputs);
        LinearChecks.Offsets(Op, rowOffsets, w.Count);
        if (rows == 0 || w.Outputs == 0) return;
        if (!byRow && hopper is not null && hopper.GroupedForward(x, rowOffsets, w, y)) return;
        RunGroupedRows(x, rowOffsets, w, false, y, rows, w.Outputs, w.Inputs, false);
    }

    public void GroupedInputGradient(in ScaledTensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx, bool accumulate)
    {
        const string Op = "grouped linear input gradient";
        long rows = Math.Max(dy.Elements.Rows, dx.Rows);
        LinearChecks.Operand(Op, "dy", dy, rows, w.Outputs);
        LinearChecks.Operand(Op, "w", w[0], w.Outputs, w.Inputs);
        LinearChecks.Result(Op, "dx", dx, rows, w.Inputs);
        LinearChecks.Offsets(Op, rowOffsets, w.Count);
        if (rows == 0 || w.Inputs == 0) return;
        if (hopper is not null)
        {
            Tensor transposed = KeepsTransposed(dy, w[0], w.Count) ? transposes!.Of(w) : default;
            if (hopper.GroupedInputGradient(dy, rowOffsets, w, transposed, dx, accumulate)) return;
        }

        RunGroupedRows(dy, rowOffsets, w, true, dx, rows, w.Inputs, w.Outputs, accumulate);
    }

    public void GroupedWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw, bool accumulate)
    {
        const string Op = "grouped linear weight gradient";
        Require.That(dw.Shape.Rank == 3, Op, $"dw is {dw}, expected F32 [E, N, K]");
        int groups = checked((int)dw.Shape[0]);
        LinearChecks.Offsets(Op, rowOffsets, groups);
        if (dy.Layout == ScaleLayout.TransposedColumnTile || x.Layout == ScaleLayout.TransposedColumnTile)
        {
            WeightGradientTransposed(Op, dy, x, rowOffsets, dw, accumulate);
            return;
        }

        long rows = Math.Max(dy.Elements.Rows, x.Elements.Rows), outputs = dw.Shape[1], inputs = dw.Shape[2];
        LinearChecks.Operand(Op, "dy", dy, rows, outputs);
        LinearChecks.Operand(Op, "x", x, rows, inputs);
        LinearChecks.Result(Op, "dw", dw, groups * outputs, inputs, mayBeBFloat16: false);
        LinearChecks.GroupedScales(Op, "dy", dy, rows, groups);
        LinearChecks.GroupedScales(Op, "x", x, rows, groups);
        if (groups == 0 || outputs == 0 || inputs == 0 || rows == 0 && accumulate) return;
        if (hopper is not null && hopper.GroupedWeightGradient(dy, x, rowOffsets, dw, accumulate)) return;
        var traits = new GemmTraits(GemmSide.Of(dy, true), GemmSide.Of(x, true), dw.DType, GemmGrouping.Depth, groups, outputs, inputs, rows);
        GemmPlan plan = GemmPlan.Choose(traits, context.Multiprocessors);
        GemmProduct product = Product(dy, true, x, true, dw, outputs, inputs, rows, accumulate, plan.BandRows, groupedDepth: true);
        product.CGroupStride = outputs * dw.RowStride;
        product.RowOffsets = rowOffsets.Address;
        product.Groups = groups;
        product.Grouping = (int)GemmGrouping.Depth;
        kernels.Of(traits, plan).LaunchWith(plan.Shape, product);
    }

    /// <summary>c[s] (+)= a[s] times the matrix of the expert that has row s.</summary>
    private void RunGroupedRows(
        in ScaledTensor a, Tensor rowOffsets, ExpertWeights w, bool transposed, Tensor c, long rows, long columns, long depth, bool accumulate)
    {
        ExpertTable table = experts.Of(w);
        GemmSide b = GemmSide.Of(w[0], transposed) with { WholeChunks = table.WholeChunks, WholeFours = table.WholeFours };
        var traits = new GemmTraits(GemmSide.Of(a, false), b, c.DType, GemmGrouping.Rows, w.Count, rows, columns, depth);
        GemmPlan plan = byRow && !transposed ? GemmPlan.ByRow(traits, context.Multiprocessors) : GemmPlan.Choose(traits, context.Multiprocessors);
        GemmProduct product = Product(a, false, w[0], transposed, c, rows, columns, depth, accumulate, plan.BandRows);
        product.RowOffsets = rowOffsets.Address;
        product.Experts = table.Address;
        product.Groups = w.Count;
        product.Grouping = (int)GemmGrouping.Rows;
        Launch(traits, plan, product, c);
        GC.KeepAlive(table);
    }
}

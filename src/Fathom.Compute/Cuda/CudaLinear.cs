// Products with weight matrices on the GPU. The three products of a linear layer are one, c[m, n] = sum over d of a(m, d) b(n, d), with
// operands that lie along the depth or across it: forward a = x, b = w; input gradient a = dy, b = w across; weight
// gradient a = dy and b = x, both across. cuBLASLt computes what it can and is fast at; own kernels do the rest, those for Hopper what
// is grouped, added to BF16 or narrow, those for any GPU everything else.
using Fathom.Compute.Cuda.Hopper;
using Fathom.Compute.Cuda.Linear;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>
/// <see cref="ILinearOperators"/> on a GPU. Operands are F32, BF16, or 8-bit with any scales, in any combination; results F32 or BF16,
/// weight gradients F32; sums are F32. One thread at a time.
/// </summary>
internal sealed partial class CudaLinear : ILinearOperators
{
    /// <summary>Rows of one launch of a product by row, so that what blocks who share the depth hand over has a bound.</summary>
    private const int MostRowsAtOnce = 1024;

    private readonly CudaContext context;
    private readonly CudaTraits deviceTraits;
    private readonly GemmKernels kernels;
    private readonly ExpertTable.Tables experts;
    private readonly CublasProducts? library;
    private readonly Kernel? split;
    private readonly HopperLinear? hopper;
    private readonly HopperTransposes? transposes;
    private readonly bool byRow;

    /// <summary>The family of one GPU.</summary>
    /// <param name="context">The GPU.</param>
    /// <param name="quantization">Says when codes of weights were written.</param>
    /// <param name="allocateCodes">Memory for transposed codes of weights.</param>
    public CudaLinear(CudaContext context, CudaQuantization quantization, Func<Shape, Tensor> allocateCodes)
    {
        this.context = context;
        deviceTraits = CudaTraits.Of(context.Capability);
        kernels = new GemmKernels(context);
        experts = new ExpertTable.Tables(context);
        if (HopperLinear.IsSupported(context))
        {
            hopper = new HopperLinear(context);
            transposes = new HopperTransposes(quantization, allocateCodes);
        }

        library = CublasProducts.TryCreate(context, transposes);
        if (library is not null) split = context.Module("gemm_prepare.cu", "split_singles").Kernel("split_singles");
    }

    private CudaLinear(CudaLinear family)
    {
        (context, deviceTraits, kernels, experts) = (family.context, family.deviceTraits, family.kernels, family.experts);
        (library, split, hopper, transposes) = (family.library, family.split, family.hopper, family.transposes);
        byRow = true;
    }

    /// <summary>The same, with forward products in which the bits of a row are its own (<see cref="Device.LinearByRow"/>).</summary>
    public CudaLinear ByRow() => new(this);

    /// <summary>cuBLASLt by itself.</summary>
    public CublasLinear Library => new(library);

    /// <summary>The kernels for Hopper by themselves.</summary>
    public OwnLinear Own => new(hopper);

    /// <summary>Codes of a weight were written: what was derived from them is out of date.</summary>
    public void Changed(Tensor codes) => transposes?.Changed(codes);

    public void Forward(in ScaledTensor x, in ScaledTensor w, Tensor y, bool accumulate)
    {
        CheckForward("linear forward", x, w, y);
        Run(x, false, w, false, y, y.Rows, y.Columns, x.Elements.Columns, accumulate);
    }

    public bool AddsToAnother(in ScaledTensor x, in ScaledTensor w, Tensor added, Tensor y) =>
        !byRow && hopper is not null && HopperLinear.AddsToAnother(x, w, added, y) && !IsOwnWay(GemmPlan.Choose(
            new GemmTraits(GemmSide.Of(x, false), GemmSide.Of(w, false), y.DType, GemmGrouping.None, 1, y.Rows, y.Columns, x.Shape.Columns), context.Multiprocessors));

    public void ForwardAdded(in ScaledTensor x, in ScaledTensor w, Tensor added, Tensor y)
    {
        const string Op = "linear forward with an addend";
        CheckForward(Op, x, w, y);
        LinearChecks.Result(Op, "added", added, y.Rows, y.Columns);
        if (!AddsToAnother(x, w, added, y) || !hopper!.ForwardAdded(x, w, added, y))
            throw new NotSupportedException($"{Op}: x {x}, w {w}, added {added} and y {y} are not what the kernels take; AddsToAnother says which operands are");
    }

    public void InputGradient(in ScaledTensor dy, in ScaledTensor w, Tensor dx, bool accumulate)
    {
        const string Op = "linear input gradient";
        long rows = Math.Max(dy.Elements.Rows, dx.Rows), outputs = dy.Elements.Columns, inputs = dx.Columns;
        LinearChecks.Operand(Op, "dy", dy, rows, outputs);
        LinearChecks.Operand(Op, "w", w, outputs, inputs);
        LinearChecks.Result(Op, "dx", dx, rows, inputs);
        Run(dy, false, w, true, dx, rows, inputs, outputs, accumulate);
    }

    public void WeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor dw, bool accumulate)
    {
        const string Op = "linear weight gradient";
        if (dy.Layout == ScaleLayout.TransposedColumnTile || x.Layout == ScaleLayout.TransposedColumnTile)
        {
            WeightGradientTransposed(Op, dy, x, default, dw, accumulate);
            return;
        }

        long rows = Math.Max(dy.Elements.Rows, x.Elements.Rows), outputs = dy.Elements.Columns, inputs = x.Elements.Columns;
        LinearChecks.Operand(Op, "dy", dy, rows, outputs);
        LinearChecks.Operand(Op, "x", x, rows, inputs);
        LinearChecks.Result(Op, "dw", dw, outputs, inputs, mayBeBFloat16: false);
        Run(dy, true, x, true, dw, outputs, inputs, rows, accumulate);
    }

    /// <summary>A weight gradient, alone or grouped, of operands that were quantised transposed.</summary>
    private void WeightGradientTransposed(string op, in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw, bool accumulate)
    {
        long outputs = dw.Shape.Rank == 3 ? dw.Shape[1] : dw.Rows, inputs = dw.Columns, depth = dy.Elements.Columns;
        LinearChecks.TransposedTiles(op, "dy", dy, depth, outputs);
        LinearChecks.TransposedTiles(op, "x", x, depth, inputs);
        LinearChecks.Result(op, "dw", dw, dw.Rows, inputs, mayBeBFloat16: false);
        if (dw.Elements == 0) return;
        if (depth == 0)
        {
            var nothing = new Tensor(dw.Address, DType.F32, new Shape(0, outputs), dw.Owner);
            Run(nothing, true, new Tensor(dw.Address, DType.F32, new Shape(0, inputs), dw.Owner), true, dw, outputs, inputs, 0, accumulate);
            return;
        }

        if (rowOffsets.IsEmpty)
        {
            var traits = new GemmTraits(GemmSide.Of(dy, false), GemmSide.Of(x, false), dw.DType, GemmGrouping.None, 1, outputs, inputs, depth);
            if (library is not null && library.TryMultiply(dy, x, dw, traits, accumulate)) return;
            if (hopper is not null && hopper.WeightGradient(dy, x, dw, accumulate)) return;
        }
        else if (hopper is not null && hopper.GroupedWeightGradient(dy, x, rowOffsets, dw, accumulate))
        {
            return;
        }

        throw new ArgumentException($"{op}: dy {dy} and x {x} lie transposed, which no kernel takes for {dw}; DeviceTraits.TokenLayout says what this device takes");
    }

    /// <summary>c (+)= sum over the depth of a b, one product.</summary>
    private void Run(in ScaledTensor a, bool transposedA, in ScaledTensor b, bool transposedB, Tensor c, long rows, long columns, long depth, bool accumulate)
    {
        if (rows == 0 || columns == 0) return;
        var traits = new GemmTraits(GemmSide.Of(a, transposedA), GemmSide.Of(b, transposedB), c.DType, GemmGrouping.None, 1, rows, columns, depth);
        bool ofRow = byRow && !transposedA && !transposedB;
        if (ofRow && rows > MostRowsAtOnce)
        {
            for (long row = 0; row < rows; row += MostRowsAtOnce)
            {
                long count = Math.Min(MostRowsAtOnce, rows - row);
                Run(a.Slice(row, count), false, b, false, c.Slice(row, count), count, columns, depth, accumulate);
            }

            return;
        }

        GemmPlan plan = ofRow ? GemmPlan.ByRow(traits, context.Multiprocessors) : GemmPlan.Choose(traits, context.Multiprocessors);
        if (!ofRow && !IsOwnWay(plan))
        {
            // cuBLASLt rounds a product to BF16 before it adds it to what is there; one rounding is what the operator promises.
            bool roundsTwice = accumulate && c.DType == DType.BF16, areCodes = a.DType == DType.F8E4M3;
            bool hopperFirst = roundsTwice || areCodes && c.DType == DType.BF16 && HopperLimits.IsFasterThanLibrary(rows, columns, depth);
            if (hopperFirst && TryHopper(a, transposedA, b, transposedB, c, accumulate)) return;
            if (!roundsTwice && library is not null && library.TryMultiply(a, b, c, traits, accumulate)) return;
            // Codes across the depth are transposed whoever multiplies them: few rows, and other sizes that cuBLASLt does not have.
            if (!hopperFirst && transposedB && areCodes && TryHopper(a, transposedA, b, transposedB, c, accumulate)) return;
            if (TryParts(a, transposedA, b, transposedB, c, traits, accumulate)) return;
            if (TryStacked(a, transposedA, b, transposedB, c, accumulate)) return;
        }

        Launch(traits, plan, Product(a, transposedA, b, transposedB, c, rows, columns, depth, accumulate, plan.BandRows), c);
    }

    private static void CheckForward(string op, in ScaledTensor x, in ScaledTensor w, Tensor y)
    {
        long rows = Math.Max(x.Elements.Rows, y.Rows), inputs = x.Elements.Columns;
        LinearChecks.Operand(op, "x", x, rows, inputs);
        LinearChecks.Operand(op, "w", w, y.Columns, inputs);
        LinearChecks.Result(op, "y", y, rows, y.Columns);
    }

    /// <summary>Whether kernels for any GPU compute a product whatever else could: of few rows, or of values and codes.</summary>
    private static bool IsOwnWay(in GemmPlan plan) => plan.Way is GemmWay.FewTensor or GemmWay.FewSimt or GemmWay.Codes;

    /// <summary>An own kernel, and what adds up the sums of blocks that share the depth.</summary>
    private void Launch(in GemmTraits p, in GemmPlan plan, GemmProduct product, Tensor c)
    {
        if (plan.Splits > 1) product.Partial = context.Workspace(plan.Splits * p.Rows * p.Columns * sizeof(float));
        kernels.Of(p, plan).LaunchWith(plan.Shape, product);
        if (plan.Splits == 1) return;
        const int Threads = 256;
        kernels.Combination(c.DType).Launch(
            new LaunchShape(LaunchShape.Cover(p.Rows * p.Columns, Threads), Threads), product.Partial, plan.Splits, p.Rows, p.Columns, c, c.RowStride, product.Accumulate != 0);
    }

    /// <summary>c (+)= sum over the depth of a b by the kernels for Hopper, where the operands are theirs.</summary>
    private bool TryHopper(in ScaledTensor a, bool transposedA, in ScaledTensor b, bool transposedB, Tensor c, bool accumulate) =>
        hopper is not null && !transposedA
        && (transposedB ? hopper.InputGradient(a, b, KeepsTransposed(a, b, 0) ? transposes!.Of(b) : default, c, accumulate) : hopper.Forward(a, b, c, accumulate));

    private bool KeepsTransposed(in ScaledTensor dy, in ScaledTensor w, int experts) =>
        deviceTraits.KeepsTransposed(OperandTraits.Of(dy), OperandTraits.Of(w), w.Elements.Rows, w.Elements.Columns, experts);

    private static GemmProduct Product(
        in ScaledTensor a, bool transposedA, in ScaledTensor b, bool transposedB, in Tensor c, long rows, long columns, long depth, bool accumulate, int bandRows,
        bool groupedDepth = false) => new()
        {
            A = new GemmOperand { Elements = a.Elements.Address, Stride = a.Elements.RowStride, Scales = GemmScales.Of(a, transposedA, groupedDepth) },
            B = new GemmOperand { Elements = b.Elements.Address, Stride = b.Elements.RowStride, Scales = GemmScales.Of(b, transposedB, groupedDepth) },
            C = c.Address,
            CStride = c.RowStride,
            Rows = rows,
            Columns = columns,
            Depth = depth,
            Groups = 1,
            Accumulate = accumulate ? 1 : 0,
            BandRows = bandRows,
        };
}

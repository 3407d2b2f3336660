// Products on Hopper's tensor cores by our own kernels (hopper_gemm.cu, hopper_bf16.cu): E4M3 with fine-grained scales and BF16, alone
// and grouped by expert, each in one launch. Every method says whether it took the product: false means that types, layouts or
// alignment are not these kernels', nothing was launched, and another way must do it. Shapes have been checked by the caller.
// E4M3 operands must run along the sum, so an input gradient takes the weight's codes transposed (HopperTransposes keeps them from one
// change of the weight to the next), and a weight gradient takes operands that were quantised transposed.
// Floors on an H200: E4M3 1979 TFLOP/s, BF16 989, and 4.27 TB/s; a weight gradient moves 4 bytes for every weight, 8 where it adds.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>One way of the linear operators, for GPUs of compute capability 9.0.</summary>
internal sealed class HopperLinear
{
    private readonly HopperLauncher launcher;

    /// <summary>The kernels of one GPU; each variant is compiled when it is first wanted.</summary>
    /// <param name="context">The GPU.</param>
    /// <param name="bounded">Whether waits inside of kernels give up after two seconds and are reported, which waits for every kernel; for tests.</param>
    public HopperLinear(CudaContext context, bool bounded = false) => launcher = new HopperLauncher(context, bounded);

    /// <summary>Whether a GPU has what the kernels need.</summary>
    public static bool IsSupported(CudaContext context) => IsSupported(context.Capability);

    /// <summary>Whether GPUs of a compute capability have it.</summary>
    /// <param name="capability">Ten times the major and once the minor number.</param>
    public static bool IsSupported(int capability) => capability == 90;

    /// <summary>The tile that products take, whatever the heuristic says; for measurements.</summary>
    public HopperTile? Forced { get => launcher.Forced; set => launcher.Forced = value; }

    /// <summary>y = x wᵀ, or +=.</summary>
    public bool Forward(in ScaledTensor x, in ScaledTensor w, Tensor y, bool accumulate)
    {
        if (HopperLimits.IsFp8Rows(x, w, y))
            return Fp8Rows(x, HopperMatrix.Of(w.Elements), (w.Scales.Address, w.Scales.RowStride, 1, 0), default, y, accumulate ? y : default);
        return HopperLimits.IsBFloat16(x, w, y) && BFloat16Rows(x.Elements, HopperMatrix.Of(w.Elements), false, default, y, accumulate);
    }

    /// <summary>y = added + x wᵀ, where <see cref="AddsToAnother"/> has said yes.</summary>
    public bool ForwardAdded(in ScaledTensor x, in ScaledTensor w, Tensor added, Tensor y) =>
        Fp8Rows(x, HopperMatrix.Of(w.Elements), (w.Scales.Address, w.Scales.RowStride, 1, 0), default, y, added);

    /// <summary>Whether <see cref="ForwardAdded"/> takes the operands.</summary>
    public static bool AddsToAnother(in ScaledTensor x, in ScaledTensor w, Tensor added, Tensor y) =>
        y.DType == DType.BF16 && added.DType == DType.BF16 && HopperLimits.IsFp8Rows(x, w, y) && HopperLimits.IsResult(added)
        && HopperMatrix.Of(x.Elements).CanBeLoaded && HopperMatrix.Of(w.Elements).CanBeLoaded;

    /// <summary>dx = dy w, or +=.</summary>
    /// <param name="dy">[M, N], in 1x128 tiles where it is E4M3.</param>
    /// <param name="w">[N, K].</param>
    /// <param name="transposed">[K, N], the codes of w transposed, where it is E4M3; empty otherwise.</param>
    /// <param name="dx">[M, K].</param>
    /// <param name="accumulate">Whether to add.</param>
    public bool InputGradient(in ScaledTensor dy, in ScaledTensor w, Tensor transposed, Tensor dx, bool accumulate)
    {
        if (!transposed.IsEmpty && HopperLimits.IsFp8Rows(dy, w, dx))
            return Fp8Rows(dy, HopperMatrix.Of(transposed), (w.Scales.Address, 1, w.Scales.RowStride, 0), default, dx, accumulate ? dx : default);
        return HopperLimits.IsBFloat16(dy, w, dx) && BFloat16Rows(dy.Elements, HopperMatrix.Of(w.Elements), true, default, dx, accumulate);
    }

    /// <summary>dw = dyᵀ x, or +=.</summary>
    public bool WeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor dw, bool accumulate)
    {
        if (x.Shape.Rows == 0) return false;
        if (HopperLimits.IsFp8Weights(dy, x, dw)) return Fp8Weights(dy, x, default, dw, accumulate);
        return HopperLimits.IsBFloat16(dy, x, dw) && dw.DType == DType.F32 && BFloat16Weights(dy.Elements, x.Elements, default, dw, accumulate);
    }

    /// <summary>y[s] = x[s] w[e]ᵀ for the rows of each expert.</summary>
    public bool GroupedForward(in ScaledTensor x, Tensor rowOffsets, ExpertWeights w, Tensor y)
    {
        if (w.Count > HopperTile.MostGroups) return false;
        HopperExperts experts = HopperExperts.Of(w);
        if (HopperLimits.IsFp8Rows(x, w[0], y))
            return Fp8Rows(x, experts.Elements, (experts.Scales.Address, experts.Scales.RowStride, 1, experts.Scales.MatrixStride), rowOffsets, y, default);
        return HopperLimits.IsBFloat16(x, w[0], y) && BFloat16Rows(x.Elements, experts.Elements, false, rowOffsets, y, false);
    }

    /// <summary>dx[s] = dy[s] w[e], or +=, for the rows of each expert.</summary>
    /// <param name="dy">[S, N].</param>
    /// <param name="rowOffsets">[E + 1], I32.</param>
    /// <param name="w">One [N, K] an expert.</param>
    /// <param name="transposed">[E, K, N], the codes of w transposed, where it is E4M3; empty otherwise.</param>
    /// <param name="dx">[S, K].</param>
    /// <param name="accumulate">Whether to add.</param>
    public bool GroupedInputGradient(in ScaledTensor dy, Tensor rowOffsets, ExpertWeights w, Tensor transposed, Tensor dx, bool accumulate)
    {
        if (w.Count > HopperTile.MostGroups) return false;
        HopperExperts experts = HopperExperts.Of(w);
        if (!transposed.IsEmpty && HopperLimits.IsFp8Rows(dy, w[0], dx))
        {
            HopperMatrix codes = HopperMatrix.Of(transposed.At(0)) with { Count = w.Count, MatrixStride = w.Inputs * transposed.RowStride };
            return Fp8Rows(dy, codes, (experts.Scales.Address, 1, experts.Scales.RowStride, experts.Scales.MatrixStride), rowOffsets, dx, accumulate ? dx : default);
        }

        return HopperLimits.IsBFloat16(dy, w[0], dx) && BFloat16Rows(dy.Elements, experts.Elements, true, rowOffsets, dx, accumulate);
    }

    /// <summary>dw[e] = dy[rows of e]ᵀ x[rows of e], or +=; zeros, or nothing, for an expert without rows.</summary>
    public bool GroupedWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw, bool accumulate = true)
    {
        if (x.Shape.Rows == 0 || rowOffsets.Elements - 1 > HopperTile.MostGroups) return false;
        if (HopperLimits.IsFp8Weights(dy, x, dw)) return Fp8Weights(dy, x, rowOffsets, dw, accumulate);
        return HopperLimits.IsBFloat16(dy, x, dw) && dw.DType == DType.F32 && BFloat16Weights(dy.Elements, x.Elements, rowOffsets, dw, accumulate);
    }

    private bool Fp8Rows(
        in ScaledTensor x, in HopperMatrix weights, (nint Address, long Column, long Depth, long Group) blockScales, Tensor rowOffsets, Tensor y, Tensor added)
    {
        HopperMatrix rows = HopperMatrix.Of(x.Elements);
        if (!rows.CanBeLoaded || !weights.CanBeLoaded) return false;
        int groups = (int)weights.Count;
        (nint scales, long scaleStride) = x.Scales.DType == DType.F32 ? (x.Scales.Address, x.Scales.RowStride) : launcher.Singles(x.Scales);
        HopperTile tile = launcher.Choose(HopperTile.Fp8Rows, y, rows.Columns, groups, grouped: true, !added.IsEmpty, elementBytes: 1);
        var product = new HopperProduct
        {
            A = TensorMap.OfOperand(rows, tile.Rows, rank: 2),
            B = TensorMap.OfOperand(weights, tile.Columns, rank: 3),
            RowScales = scales,
            RowScaleStride = scaleStride,
            BlockScales = blockScales.Address,
            BlockScaleColumn = blockScales.Column,
            BlockScaleDepth = blockScales.Depth,
            BlockScaleGroup = blockScales.Group,
            Offsets = rowOffsets.Address,
            Rows = (int)y.Rows,
            Columns = (int)y.Columns,
            Depth = (int)rows.Columns,
            Groups = groups,
        };
        launcher.Launch(HopperKernel.Fp8Rows, tile, y, added, ref product);
        return true;
    }

    private bool Fp8Weights(in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw, bool accumulate)
    {
        int groups = rowOffsets.IsEmpty ? 1 : (int)rowOffsets.Elements - 1;
        long rows = x.Shape.Rows, outputs = dy.Shape.Columns, inputs = x.Shape.Columns;
        // Every group's tiles may have been rounded up by nearly one.
        double depth = groups > 1 ? Math.Max((double)rows / groups - ScaledTensor.TileSize, 1) : rows;
        HopperTile tile = launcher.Choose(HopperTile.Fp8Weights, dw, depth, groups, grouped: false, accumulate, elementBytes: 1);
        var product = new HopperProduct
        {
            A = TensorMap.OfOperand(HopperMatrix.Of(dy.Elements), tile.Rows, rank: 2),
            B = TensorMap.OfOperand(HopperMatrix.Of(x.Elements), tile.Columns, rank: 2),
            ScaleA = TensorMap.OfScales(dy.Scales, tile.Rows),
            ScaleB = TensorMap.OfScales(x.Scales, tile.Columns),
            Offsets = rowOffsets.Address,
            Rows = (int)outputs,
            Columns = (int)inputs,
            Depth = (int)rows,
            Groups = groups,
            DGroup = outputs * inputs,
        };
        launcher.Launch(HopperKernel.Fp8Weights, tile, dw, accumulate ? dw : default, ref product);
        return true;
    }

    private bool BFloat16Rows(Tensor x, in HopperMatrix weights, bool across, Tensor rowOffsets, Tensor y, bool accumulate)
    {
        HopperMatrix rows = HopperMatrix.Of(x);
        if (!rows.CanBeLoaded || !weights.CanBeLoaded) return false;
        int groups = (int)weights.Count;
        HopperTile tile = launcher.Choose(HopperTile.BFloat16, y, rows.Columns, groups, grouped: true, accumulate, elementBytes: 2);
        var product = new HopperProduct
        {
            A = TensorMap.OfOperand(rows, tile.Rows, rank: 2),
            B = TensorMap.OfOperand(weights, across ? HopperTile.AcrossRows : tile.Columns, rank: 3),
            Offsets = rowOffsets.Address,
            Rows = (int)y.Rows,
            Columns = (int)y.Columns,
            Depth = (int)rows.Columns,
            Groups = groups,
        };
        launcher.Launch(across ? HopperKernel.BFloat16RowsAcross : HopperKernel.BFloat16Rows, tile, y, accumulate ? y : default, ref product);
        return true;
    }

    private bool BFloat16Weights(Tensor dy, Tensor x, Tensor rowOffsets, Tensor dw, bool accumulate)
    {
        HopperMatrix left = HopperMatrix.Of(dy), right = HopperMatrix.Of(x);
        if (!left.CanBeLoaded || !right.CanBeLoaded) return false;
        int groups = rowOffsets.IsEmpty ? 1 : (int)rowOffsets.Elements - 1;
        HopperTile tile = launcher.Choose(HopperTile.BFloat16, dw, (double)left.Rows / groups, groups, grouped: false, accumulate, elementBytes: 2);
        var product = new HopperProduct
        {
            A = TensorMap.OfOperand(left, HopperTile.AcrossRows, rank: 2),
            B = TensorMap.OfOperand(right, HopperTile.AcrossRows, rank: 3),
            Offsets = rowOffsets.Address,
            Rows = (int)left.Columns,
            Columns = (int)right.Columns,
            Depth = (int)left.Rows,
            Groups = groups,
            DGroup = left.Columns * right.Columns,
        };
        launcher.Launch(HopperKernel.BFloat16Weights, tile, dw, accumulate ? dw : default, ref product);
        return true;
    }
}

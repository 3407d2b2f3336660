// Products whose operands come in the formats of a precision recipe or of a checkpoint. On a processor the arithmetic is in F32 whatever
// the format. Few rows (decoding) read FP8 and HiF8 weights with block scales as they lie, since their way from memory is all
// that counts. Otherwise an operand that the kernels cannot read is written out as F32 values first, which costs a few percent of
// a product of many rows, and the sums are those of the dequantised values.
// Forward products and experts write out only so much at a time as the last-level cache keeps, so that working memory does not grow
// with the model; the input gradient of a layer alone, which only training computes, takes the whole matrix.
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="ILinearOperators"/> on a worker team. Not to be called from within a tile of the team.</summary>
internal sealed class CpuScaledLinear(CpuLinear products, IQuantizationOperators quantization) : ILinearOperators
{
    /// <summary>Weights that are written out at once (8 MB).</summary>
    internal const long ElementsAtOnce = 2 << 20;

    private readonly Lock oneCallAtATime = new();
    private readonly Values left = new(quantization), right = new(quantization);
    private Tensor[] experts = new Tensor[16];

    public void Forward(in ScaledTensor x, in ScaledTensor w, Tensor y, bool accumulate)
    {
        lock (oneCallAtATime)
        {
            Tensor values = left.Of(x);
            if (w.Layout == ScaleLayout.None) products.Forward(values, w.Elements, y, accumulate);
            else if (CpuLinear.ReadsScaled(w) && y.Rows <= products.MostScaledRows) products.ForwardScaled(values, w, y, accumulate);
            else ForwardInSlabs(values, w, y, accumulate);
        }
    }

    public void InputGradient(in ScaledTensor dy, in ScaledTensor w, Tensor dx, bool accumulate)
    {
        lock (oneCallAtATime) products.InputGradient(left.Of(dy), right.OfWeight(w), dx, accumulate);
    }

    public void WeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor dw, bool accumulate)
    {
        lock (oneCallAtATime) products.WeightGradient(left.Of(dy), right.Of(x), dw, accumulate);
    }

    public void GroupedForward(in ScaledTensor x, Tensor rowOffsets, ExpertWeights w, Tensor y)
    {
        lock (oneCallAtATime)
        {
            Tensor values = left.Of(x);
            if (w[0].Layout == ScaleLayout.None)
            {
                products.GroupedForward(values, rowOffsets, Plain(w), y);
                return;
            }

            CpuLinear.CheckGroupedForward("grouped linear forward", values, rowOffsets, w, y);
            bool readsFew = CpuLinear.ReadsScaled(w[0]);
            int leastRows = !readsFew ? 1 : products.MostScaledRows < int.MaxValue ? (int)products.MostScaledRows + 1 : int.MaxValue;
            if (readsFew) products.GroupedForwardScaled(values, rowOffsets, w, y);
            ReadOnlySpan<int> offsets = rowOffsets.AsSpan<int>();
            for (int e = 0; e < w.Count;)
            {
                if (w.Outputs * w.Inputs <= ElementsAtOnce)
                {
                    if (Expand(w, offsets, ref e, leastRows)) products.GroupedForward(values, rowOffsets, experts.AsSpan(0, w.Count), y);
                    continue;
                }

                (int first, int rows) = (offsets[e], offsets[e + 1] - offsets[e]);
                if (rows >= leastRows) ForwardInSlabs(values.Slice(first, rows), w[e], y.Slice(first, rows), false);
                e++;
            }
        }
    }

    public void GroupedInputGradient(in ScaledTensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx, bool accumulate)
    {
        lock (oneCallAtATime)
        {
            Tensor values = left.Of(dy);
            if (w[0].Layout == ScaleLayout.None)
            {
                products.GroupedInputGradient(values, rowOffsets, Plain(w), dx, accumulate);
                return;
            }

            CpuLinear.CheckGroupedInputGradient("grouped linear input gradient", values, rowOffsets, w, dx);
            ReadOnlySpan<int> offsets = rowOffsets.AsSpan<int>();
            for (int e = 0; e < w.Count;)
            {
                if (Expand(w, offsets, ref e, leastRows: 1)) products.GroupedInputGradient(values, rowOffsets, experts.AsSpan(0, w.Count), dx, accumulate);
            }
        }
    }

    public void GroupedWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw, bool accumulate)
    {
        lock (oneCallAtATime) products.GroupedWeightGradient(left.Of(dy, rowOffsets), right.Of(x, rowOffsets), rowOffsets, dw, accumulate);
    }

    /// <summary>Rows of a matrix that are written out at once, whole rows of blocks.</summary>
    internal static long SlabRows(long inputs) => Math.Max(1, ElementsAtOnce / Math.Max(1, inputs) / ScaledTensor.TileSize) * ScaledTensor.TileSize;

    /// <summary>y = x wᵀ, or +=, some outputs after the other.</summary>
    private void ForwardInSlabs(Tensor x, in ScaledTensor w, Tensor y, bool accumulate)
    {
        CpuLinear.CheckForward("linear forward", x, w, y);
        long outputs = w.Shape[0], inputs = w.Shape[1], slab = SlabRows(inputs);
        if (inputs == 0)
        {
            products.Forward(x, right.Take(w.Shape), y, accumulate); // sums of nothing
            return;
        }

        for (long first = 0; first < outputs; first += slab)
        {
            long count = Math.Min(slab, outputs - first);
            Tensor values = right.Take(new Shape(count, inputs));
            quantization.Dequantize(Rows(w, first, count), values);
            products.Forward(x, values, y.ColumnRange(first, count), accumulate);
        }
    }

    /// <summary>Rows of a matrix whose scales may cover 128 of them; the first is one that a scale begins with.</summary>
    private static ScaledTensor Rows(in ScaledTensor w, long first, long count) =>
        w.Layout is ScaleLayout.Block or ScaleLayout.ColumnTile
            ? new ScaledTensor(w.Elements.Slice(first, count), w.Scales.Slice(first / ScaledTensor.TileSize, ScaledTensor.Tiles(count)), w.Layout)
            : w.Slice(first, count);

    /// <summary>The experts' matrices, where they are values already.</summary>
    private ReadOnlySpan<Tensor> Plain(ExpertWeights weights)
    {
        if (experts.Length < weights.Count) experts = new Tensor[weights.Count];
        for (int e = 0; e < weights.Count; e++) experts[e] = weights[e].Elements;
        return experts.AsSpan(0, weights.Count);
    }

    /// <summary>
    /// Writes out the matrices of the next experts that have rows enough, as many as fit at once but at least one; in <see cref="experts"/>
    /// the others are empty.
    /// </summary>
    /// <returns>Whether there are any.</returns>
    private bool Expand(ExpertWeights weights, ReadOnlySpan<int> rowOffsets, ref int next, int leastRows)
    {
        if (experts.Length < weights.Count) experts = new Tensor[weights.Count];
        Array.Clear(experts);
        int room = (int)Math.Clamp(ElementsAtOnce / Math.Max(1, weights.Outputs * weights.Inputs), 1, weights.Count), taken = 0;
        Tensor all = right.Take(new Shape(room, weights.Outputs, weights.Inputs));
        for (; next < weights.Count && taken < room; next++)
        {
            if (rowOffsets[next + 1] - rowOffsets[next] < leastRows) continue;
            experts[next] = all.At(taken++);
            quantization.Dequantize(weights[next], experts[next]);
        }

        return taken > 0;
    }

    /// <summary>Memory for the values of one operand.</summary>
    private sealed class Values(IQuantizationOperators quantization)
    {
        private Tensor memory;

        /// <summary>An operand as F32.</summary>
        public Tensor Of(in ScaledTensor operand, Tensor rowOffsets = default)
        {
            if (operand.Layout == ScaleLayout.None && operand.DType is not DType.BF16) return operand.Elements;
            Tensor values = Take(operand.Shape);
            quantization.Dequantize(operand, values, operand.Layout == ScaleLayout.ColumnTile ? rowOffsets : default);
            return values;
        }

        /// <summary>A weight as F32 or BF16.</summary>
        public Tensor OfWeight(in ScaledTensor operand) => operand.Layout == ScaleLayout.None ? operand.Elements : Of(operand);

        public unsafe Tensor Take(Shape shape)
        {
            if (memory.IsEmpty || memory.Elements < shape.Elements) memory = HostMemory.Allocate(new Shape(shape.Elements), DType.F32);
            return new Tensor(memory.Address, DType.F32, shape, memory.Owner);
        }
    }
}

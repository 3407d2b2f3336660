// Products whose operands come in the formats of a precision recipe. On a processor the arithmetic is in F32 whatever the format:
// an operand that the kernels below cannot read is written out as F32 values first, which costs a few percent of a product of many
// rows, and the sums are those of the dequantised values.
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="ILinearOperators"/> on a worker team. Not to be called from within a tile of the team.</summary>
internal sealed class CpuScaledLinear(CpuLinear products, IQuantizationOperators quantization) : ILinearOperators
{
    private readonly Lock oneCallAtATime = new();
    private readonly Values left = new(quantization), right = new(quantization);
    private Tensor[] experts = new Tensor[16];

    public void Forward(in ScaledTensor x, in ScaledTensor w, Tensor y, bool accumulate)
    {
        lock (oneCallAtATime) products.Forward(left.Of(x), right.OfWeight(w), y, accumulate);
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
        lock (oneCallAtATime) products.GroupedForward(left.Of(x), rowOffsets, Experts(w, rowOffsets), y);
    }

    public void GroupedInputGradient(in ScaledTensor dy, Tensor rowOffsets, ExpertWeights w, Tensor dx, bool accumulate)
    {
        lock (oneCallAtATime) products.GroupedInputGradient(left.Of(dy), rowOffsets, Experts(w, rowOffsets), dx, accumulate);
    }

    public void GroupedWeightGradient(in ScaledTensor dy, in ScaledTensor x, Tensor rowOffsets, Tensor dw)
    {
        lock (oneCallAtATime) products.GroupedWeightGradient(left.Of(dy, rowOffsets), right.Of(x, rowOffsets), rowOffsets, dw);
    }

    /// <summary>The experts' matrices as the kernels read them; those without rows are not looked at.</summary>
    private ReadOnlySpan<Tensor> Experts(ExpertWeights weights, Tensor rowOffsets)
    {
        if (experts.Length < weights.Count) experts = new Tensor[weights.Count];
        if (weights[0].Layout == ScaleLayout.None)
        {
            for (int e = 0; e < weights.Count; e++) experts[e] = weights[e].Elements;
            return experts.AsSpan(0, weights.Count);
        }

        Require.Vector("grouped linear", "rowOffsets", rowOffsets, weights.Count + 1, DType.I32);
        ReadOnlySpan<int> offsets = rowOffsets.AsSpan<int>();
        Tensor all = right.Take(new Shape(weights.Count, weights.Outputs, weights.Inputs));
        for (int e = 0; e < weights.Count; e++)
        {
            experts[e] = all.At(e);
            if (offsets[e + 1] > offsets[e]) quantization.Dequantize(weights[e], experts[e]);
        }

        return experts.AsSpan(0, weights.Count);
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

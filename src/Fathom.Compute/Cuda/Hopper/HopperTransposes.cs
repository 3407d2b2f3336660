// Transposed codes of E4M3 weights for input gradients. They are made when they are first wanted after the weight changed, and serve all
// micro-batches of a step; for the experts of a layer of V3 they take 11.3 GB, and 5.3 ms to make. Whoever writes a weight's codes
// (quantisation, an upload) says so through Changed.
using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>Keeps transposed copies of weights for as long as the weights' memory lives.</summary>
/// <param name="quantization">Transposes.</param>
/// <param name="allocate">Makes a tensor of codes on the device.</param>
internal sealed class HopperTransposes(CudaQuantization quantization, Func<Shape, Tensor> allocate)
{
    private readonly ConditionalWeakTable<object, List<Copy>> copies = [];

    /// <summary>Whether a weight [N, K] is worth transposing: rows of its transpose and of the product's result are what kernels can read and write.</summary>
    public static bool Fit(long outputs, long inputs) => outputs % 16 == 0 && inputs % 8 == 0;

    /// <summary>The codes of a weight [N, K] as [K, N]; empty where they cannot be transposed.</summary>
    public Tensor Of(in ScaledTensor w) => Of(HopperMatrix.Of(w.Elements), w.Elements.Owner, new Shape(w.Elements.Columns, w.Elements.Rows));

    /// <summary>The codes of experts [N, K] as [E, K, N]; empty where they cannot be transposed.</summary>
    public Tensor Of(ExpertWeights w) => Of(HopperExperts.Of(w).Elements, w[0].Elements.Owner, new Shape(w.Count, w.Inputs, w.Outputs));

    /// <summary>Codes in this tensor were written: copies of them are made anew when they are wanted again.</summary>
    public void Changed(Tensor codes)
    {
        if (codes.Owner is null || !copies.TryGetValue(codes.Owner, out List<Copy>? kept)) return;
        long end = codes.Address + Math.Max(0, (codes.Rows - 1) * codes.RowStride + codes.Columns);
        foreach (Copy copy in kept)
        {
            HopperMatrix from = copy.From;
            long last = from.Address + (from.Count - 1) * from.MatrixStride + (from.Rows - 1) * from.RowStride + from.Columns;
            if (from.Address < end && codes.Address < last) copy.IsCurrent = false;
        }
    }

    private Tensor Of(in HopperMatrix from, object? owner, Shape shape)
    {
        if (owner is null || from.Count == 0 || from.ElementBytes != 1) return default;
        List<Copy> kept = copies.GetOrCreateValue(owner);
        Copy? copy = null;
        foreach (Copy one in kept)
        {
            if (one.From == from) copy = one;
        }

        if (copy is null) kept.Add(copy = new Copy(from, allocate(shape)));
        if (copy.IsCurrent) return copy.To;
        quantization.TransposeBytes(from, copy.To);
        copy.IsCurrent = true;
        return copy.To;
    }

    private sealed class Copy(HopperMatrix from, Tensor to)
    {
        public HopperMatrix From { get; } = from;

        public Tensor To { get; } = to;

        public bool IsCurrent { get; set; }
    }
}

// One matrix of every expert of a layer. In training they lie contiguous in one tensor; in a mapped checkpoint each lies
// where its file has it. Operators take both through this list of views.
using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>E matrices of the same shape [N, K] and type.</summary>
public sealed class ExpertWeights
{
    private readonly ScaledTensor[] experts;

    /// <summary>From one tensor [E, N, K].</summary>
    public ExpertWeights(ScaledTensor stacked)
    {
        if (stacked.Shape.Rank != 3) throw new ArgumentException($"expert weights are [E, N, K], not {stacked.Shape}", nameof(stacked));
        experts = new ScaledTensor[stacked.Shape[0]];
        for (int e = 0; e < experts.Length; e++) experts[e] = stacked.At(e);
    }

    /// <summary>From one tensor [N, K] an expert.</summary>
    /// <exception cref="ArgumentException">None at all, or different shapes or types.</exception>
    public ExpertWeights(IReadOnlyList<ScaledTensor> experts)
    {
        if (experts.Count == 0) throw new ArgumentException("no expert", nameof(experts));
        for (int e = 1; e < experts.Count; e++)
        {
            if (experts[e].Shape != experts[0].Shape || experts[e].DType != experts[0].DType || experts[e].Layout != experts[0].Layout)
                throw new ArgumentException($"expert {e} is {experts[e]}, expert 0 is {experts[0]}", nameof(experts));
        }

        this.experts = [.. experts];
    }

    /// <summary>Number of experts, E.</summary>
    public int Count => experts.Length;

    /// <summary>Outputs of each matrix, N.</summary>
    public long Outputs => experts[0].Shape[0];

    /// <summary>Inputs of each matrix, K.</summary>
    public long Inputs => experts[0].Shape[1];

    /// <summary>Element type.</summary>
    public DType DType => experts[0].DType;

    /// <summary>The matrix of one expert, [N, K].</summary>
    public ScaledTensor this[int expert] => experts[expert];
}

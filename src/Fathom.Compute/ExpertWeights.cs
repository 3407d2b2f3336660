// One matrix of every expert of a layer. In training they lie contiguous in one tensor; in a mapped checkpoint each lies
// where its file has it. Operators take both through this list of views.
using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>E matrices of the same shape [N, K] and type.</summary>
public sealed class ExpertWeights
{
    private readonly Tensor[] experts;

    /// <summary>From one tensor [E, N, K].</summary>
    public ExpertWeights(Tensor stacked)
    {
        if (stacked.Shape.Rank != 3) throw new ArgumentException($"expert weights are [E, N, K], not {stacked.Shape}", nameof(stacked));
        experts = new Tensor[stacked.Shape[0]];
        for (int e = 0; e < experts.Length; e++) experts[e] = stacked.At(e);
        Stacked = stacked;
    }

    /// <summary>From one tensor [N, K] an expert.</summary>
    /// <exception cref="ArgumentException">None at all, or different shapes or types.</exception>
    public ExpertWeights(IReadOnlyList<Tensor> experts)
    {
        if (experts.Count == 0) throw new ArgumentException("no expert", nameof(experts));
        for (int e = 1; e < experts.Count; e++)
        {
            if (experts[e].Shape != experts[0].Shape || experts[e].DType != experts[0].DType)
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

    /// <summary>All of them as one tensor [E, N, K], where they were given so; otherwise empty.</summary>
    public Tensor Stacked { get; }

    /// <summary>The matrix of one expert, [N, K].</summary>
    public Tensor this[int expert] => experts[expert];
}

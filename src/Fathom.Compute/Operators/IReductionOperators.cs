// Sums, fills and copies. Sums run over fixed pieces combined in a fixed order, so they do not depend on the number of threads.

namespace Fathom.Compute.Operators;

/// <summary>Element-wise helpers and reductions over F32 tensors, rows may be strided unless said.</summary>
public interface IReductionOperators
{
    /// <summary>Σ x², summed in F64. Contiguous.</summary>
    double SumOfSquares(Tensor x);

    /// <summary>
    /// Σ x² over several tensors: the sums of each, added in their order. A device whose sums have to be waited for waits once for all.
    /// </summary>
    /// <param name="tensors">Each contiguous, F32.</param>
    double SumOfSquares(IReadOnlyList<Tensor> tensors)
    {
        double sum = 0;
        for (int i = 0; i < tensors.Count; i++) sum += SumOfSquares(tensors[i]);
        return sum;
    }

    /// <summary>Σ x, summed in F64. Contiguous.</summary>
    double Sum(Tensor x);

    /// <summary>Whether no element is infinite or NaN.</summary>
    bool AllFinite(Tensor x);

    /// <summary>y = a + b; y may be either.</summary>
    void Add(Tensor a, Tensor b, Tensor y);

    /// <summary>y = x, of any type, both the same; rows may be strided.</summary>
    void Copy(Tensor x, Tensor y);

    /// <summary>x = 0, of any type; rows may be strided.</summary>
    void Zero(Tensor x);

    /// <summary>y = x converted between F32 and BF16 (to nearest even), rows may be strided.</summary>
    void Convert(Tensor x, Tensor y);
}

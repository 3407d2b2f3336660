// Rows of the embedding table. The gradient of a token that occurs often is a sum over its places, in the order of the places,
// so that the result does not depend on threads.

namespace Fathom.Compute.Operators;

/// <summary>M tokens, V vocabulary, D columns.</summary>
public interface IEmbeddingOperators
{
    /// <summary>y[i] = table[ids[i]].</summary>
    /// <param name="ids">[M], I32, each in [0, V).</param>
    /// <param name="table">[V, D], F32 or BF16.</param>
    /// <param name="y">[M, D], F32; may be strided.</param>
    /// <exception cref="ArgumentException">An id outside the vocabulary.</exception>
    void Forward(Tensor ids, Tensor table, Tensor y);

    /// <summary>dtable[ids[i]] += dy[i].</summary>
    /// <param name="ids">[M], I32.</param>
    /// <param name="dy">[M, D]; may be strided.</param>
    /// <param name="dtable">[V, D], F32.</param>
    void WeightGradient(Tensor ids, Tensor dy, Tensor dtable);
}

using Fathom.Compute.Operators;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="IEmbeddingOperators"/>.</summary>
internal sealed class ReferenceEmbedding : IEmbeddingOperators
{
    public void Forward(Tensor ids, Tensor table, Tensor y)
    {
        for (long m = 0; m < y.Rows; m++)
        {
            int id = ids.GetInt(m);
            Require.That((uint)id < (uint)table.Shape[0], "embedding", $"token id {id} at place {m} is outside the vocabulary of {table.Shape[0]}");
            for (long d = 0; d < y.Columns; d++) y.Set(m, d, table.Get(id, d));
        }
    }

    public void WeightGradient(Tensor ids, Tensor dy, Tensor dtable)
    {
        for (long m = 0; m < dy.Rows; m++)
        {
            for (long d = 0; d < dy.Columns; d++) dtable.Put(ids.GetInt(m), d, dy.Get(m, d), true);
        }
    }
}

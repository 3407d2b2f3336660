using Fathom.Compute.Operators;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="ICacheOperators"/>; also fast enough to serve, as it only moves memory.</summary>
internal sealed class ReferenceCache(IReductionOperators reduction) : ICacheOperators
{
    public void Store(Tensor latent, Tensor rope, Tensor slots, Tensor cache)
    {
        Tensor rows = Rows("cache store", latent, rope, slots, cache);
        for (int i = 0; i < slots.Elements; i++)
        {
            Tensor row = rows.Slice(slots.GetInt(i), 1);
            reduction.Convert(latent.Slice(i, 1), row.ColumnRange(0, latent.Columns));
            reduction.Convert(rope.Slice(i, 1), row.ColumnRange(latent.Columns, rope.Columns));
        }
    }

    public void Load(Tensor cache, Tensor slots, Tensor latent, Tensor rope)
    {
        Tensor rows = Rows("cache load", latent, rope, slots, cache);
        for (int i = 0; i < slots.Elements; i++)
        {
            Tensor row = rows.Slice(slots.GetInt(i), 1);
            reduction.Convert(row.ColumnRange(0, latent.Columns), latent.Slice(i, 1));
            reduction.Convert(row.ColumnRange(latent.Columns, rope.Columns), rope.Slice(i, 1));
        }
    }

    private static Tensor Rows(string op, Tensor latent, Tensor rope, Tensor slots, Tensor cache)
    {
        Require.Matrix(op, "latent", latent, slots.Elements, latent.Columns);
        Require.Matrix(op, "rope", rope, slots.Elements, cache.Columns - latent.Columns);
        return cache.Reshape(new Shape(cache.Rows, cache.Columns));
    }
}

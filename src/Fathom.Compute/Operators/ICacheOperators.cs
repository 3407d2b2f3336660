// Movement between a pass's tokens and the paged latent cache: what a token leaves behind is one row, its normalised latent and
// the turned key that all heads share (576 numbers a layer at V3's size).

using Fathom.Numerics;

namespace Fathom.Compute.Operators;

/// <summary>M tokens; R = kv_lora_rank, dr = qk_rope_head_dim. A slot is a row of the cache: block · block size + place.</summary>
public interface ICacheOperators
{
    /// <summary>
    /// cache[slots[i]] = [latent[i], rope[i]], rounded to the cache's type, or to codes with the scale max(amax, 1e-4) / 448 of each 128.
    /// Where a latent is not finite, its tile is read as not a number.
    /// </summary>
    /// <param name="latent">[M, R], F32.</param>
    /// <param name="rope">[M, dr], F32; may be strided.</param>
    /// <param name="slots">[M], I32.</param>
    /// <param name="cache">[blocks, block size, columns]: a <see cref="LatentRow"/> each.</param>
    void Store(Tensor latent, Tensor rope, Tensor slots, Tensor cache);

    /// <summary>latent[i], rope[i] = cache[slots[i]].</summary>
    /// <param name="cache">[blocks, block size, columns]: a <see cref="LatentRow"/> each.</param>
    /// <param name="slots">[M], I32.</param>
    /// <param name="latent">[M, R], F32.</param>
    /// <param name="rope">[M, dr], F32; may be strided.</param>
    void Load(Tensor cache, Tensor slots, Tensor latent, Tensor rope);
}

/// <summary>Argument checks of <see cref="ICacheOperators"/>.</summary>
internal static class CacheChecks
{
    /// <summary>How the rows lie; activations are of one type.</summary>
    public static LatentRow Check(string op, DType type, in Tensor latent, in Tensor rope, in Tensor slots, in Tensor cache)
    {
        Require.Vector(op, "slots", slots, slots.Elements, DType.I32);
        Require.Matrix(op, "latent", latent, slots.Elements, latent.Columns, type);
        Require.Matrix(op, "rope", rope, slots.Elements, rope.Columns, type);
        var row = new LatentRow(cache.DType, checked((int)latent.Columns), checked((int)rope.Columns));
        Require.That(row.IsPossible, op, $"cache is {cache}, expected F32, BF16, or codes where R ({row.Latent}) is in fours and dr ({row.Rope}) even");
        Require.Matrix(op, "cache", cache, cache.Rows, row.Columns, cache.DType);
        return row;
    }
}

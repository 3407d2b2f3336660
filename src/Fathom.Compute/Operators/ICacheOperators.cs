// Movement between a pass's tokens and the paged latent cache: what a token leaves behind is one row, its normalised latent and
// the turned key that all heads share (576 numbers a layer at V3's size).

namespace Fathom.Compute.Operators;

/// <summary>M tokens; R = kv_lora_rank, dr = qk_rope_head_dim. A slot is a row of the cache: block · block size + place.</summary>
public interface ICacheOperators
{
    /// <summary>cache[slots[i]] = [latent[i], rope[i]], rounded to the cache's type.</summary>
    /// <param name="latent">[M, R], F32.</param>
    /// <param name="rope">[M, dr], F32; may be strided.</param>
    /// <param name="slots">[M], I32.</param>
    /// <param name="cache">[blocks, block size, R + dr], F32 or BF16.</param>
    void Store(Tensor latent, Tensor rope, Tensor slots, Tensor cache);

    /// <summary>latent[i], rope[i] = cache[slots[i]].</summary>
    /// <param name="cache">[blocks, block size, R + dr], F32 or BF16.</param>
    /// <param name="slots">[M], I32.</param>
    /// <param name="latent">[M, R], F32.</param>
    /// <param name="rope">[M, dr], F32; may be strided.</param>
    void Load(Tensor cache, Tensor slots, Tensor latent, Tensor rope);
}

// MLA's attention core in its two forms. Training and prefill expand the latent to keys and values per head (by kv_b_proj,
// outside) and never build a T x T matrix. Decode is absorbed: the query is taken into the latent space, attention runs over
// the cached latents themselves, and the result comes back out, so keys and values are never expanded (V2 paper §2.1.2).

namespace Fathom.Compute.Operators;

/// <summary>
/// Shapes: B sequences, T query tokens, S key tokens (S ≥ T, the queries are the last T of the S positions), H heads,
/// dn = qk_nope_head_dim, dr = qk_rope_head_dim, dv = v_head_dim, R = kv_lora_rank. Everything F32 unless said.
/// </summary>
public interface IAttentionOperators
{
    /// <summary>Causal attention: query i of a sequence sees keys 0 to S - T + i.</summary>
    /// <param name="q">[B·T, H, dn + dr], the rotary part already turned.</param>
    /// <param name="kv">[B·S, H, dn + dv]: per head the nope part of the key, then the value.</param>
    /// <param name="kRope">[B·S, dr], the turned key part that all heads share; may be strided.</param>
    /// <param name="scale">Softmax scale.</param>
    /// <param name="batch">B.</param>
    /// <param name="output">[B·T, H, dv].</param>
    /// <param name="logSumExp">[B, H, T], natural log of the softmax denominators (after scaling); or empty where no backward pass follows.</param>
    void CausalForward(Tensor q, Tensor kv, Tensor kRope, float scale, int batch, Tensor output, Tensor logSumExp);

    /// <summary>Gradients of <see cref="CausalForward"/> with S = T; overwrites its results.</summary>
    /// <param name="q">As in the forward pass.</param>
    /// <param name="kv">As in the forward pass.</param>
    /// <param name="kRope">As in the forward pass.</param>
    /// <param name="output">[B·T, H, dv], the forward result: values, or the codes that <see cref="DeviceTraits.ReadsAttentionCodes"/> says, to the bits of their values in BF16.</param>
    /// <param name="logSumExp">[B, H, T].</param>
    /// <param name="doutput">[B·T, H, dv].</param>
    /// <param name="scale">Softmax scale.</param>
    /// <param name="batch">B.</param>
    /// <param name="dq">[B·T, H, dn + dr].</param>
    /// <param name="dkv">[B·T, H, dn + dv].</param>
    /// <param name="dkRope">[B·T, dr], summed over heads in a fixed order; may be strided.</param>
    /// <exception cref="ArgumentException">Shapes or types that do not fit.</exception>
    /// <exception cref="NotSupportedException">Codes of the output where <see cref="DeviceTraits.ReadsAttentionCodes"/> says no, or that begin within words.</exception>
    void CausalBackward(
        Tensor q, Tensor kv, Tensor kRope, in ScaledTensor output, Tensor logSumExp, Tensor doutput,
        float scale, int batch, Tensor dq, Tensor dkv, Tensor dkRope);

    /// <summary>
    /// One query token a sequence against its cached latents, absorbed. With W_UK[h] = rows h(dn+dv) … +dn and W_UV[h] the dv rows
    /// after them: u = q_nope W_UK[h]; p = softmax(scale · (u·latent + q_rope·rope)); output = (Σ p latent) W_UV[h]ᵀ.
    /// A sequence's result does not depend on the others.
    /// </summary>
    /// <param name="q">[B, H, dn + dr], the rotary part already turned.</param>
    /// <param name="kvB">[H·(dn + dv), R], kv_b_proj: F32, BF16, or 8-bit codes with scales by block or one for all.</param>
    /// <param name="cache">[blocks, block size, columns]: a <see cref="LatentRow"/> each, the normalised latent, then the turned shared key.</param>
    /// <param name="blockTables">[B, most blocks], I32: the cache blocks of each sequence, in order.</param>
    /// <param name="lengths">[B], I32: cached tokens of each sequence, the query's own among them; at least 1.</param>
    /// <param name="scale">Softmax scale.</param>
    /// <param name="output">[B, H, dv].</param>
    void LatentDecode(Tensor q, in ScaledTensor kvB, Tensor cache, Tensor blockTables, Tensor lengths, float scale, Tensor output);
}

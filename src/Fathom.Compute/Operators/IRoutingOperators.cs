// The router of a mixture-of-experts layer and the movement of tokens to and from experts ([P] §2.1.2, eq. 12 to 20). Nothing
// here needs a host round-trip: counts stay on the device as row offsets. No token is ever dropped.

namespace Fathom.Compute.Operators;

/// <summary>M tokens, E experts, K chosen experts a token, S = M·K slots. F32 and I32.</summary>
public interface IRoutingOperators
{
    /// <summary>Scores, choice and gates of each token, and the load of each expert.</summary>
    /// <param name="logits">[M, E].</param>
    /// <param name="bias">[E], e_score_correction_bias; counts only for the choice, and only with <see cref="TopKMethod.NoAuxTc"/>. May be empty (zeros).</param>
    /// <param name="options">The router's configuration.</param>
    /// <param name="scores">[M, E]: sigmoid or softmax of the logits.</param>
    /// <param name="experts">[M, K], I32: the chosen experts, best first.</param>
    /// <param name="gates">[M, K]: normalised and scaled.</param>
    /// <param name="load">[E], I64: adds the number of tokens that chose each expert.</param>
    void Choose(Tensor logits, Tensor bias, RoutingOptions options, Tensor scores, Tensor experts, Tensor gates, Tensor load);

    /// <summary>
    /// Gradient of the gates, and of the balance loss where alpha is not zero, back to the logits; overwrites dlogits.
    /// The choice itself has no gradient. See <see cref="BalanceLoss"/> for the loss.
    /// </summary>
    /// <param name="dgates">[M, K].</param>
    /// <param name="scores">[M, E] of <see cref="Choose"/>.</param>
    /// <param name="experts">[M, K].</param>
    /// <param name="gates">[M, K].</param>
    /// <param name="options">The router's configuration.</param>
    /// <param name="balanceFrequencies">[B, E] of <see cref="BalanceLoss"/>, or empty where the loss takes no part.</param>
    /// <param name="balanceScale">Derivative of the total loss by one sequence's Σ f P: alpha / B times the loss scale.</param>
    /// <param name="dlogits">[M, E].</param>
    void ChooseGradient(
        Tensor dgates, Tensor scores, Tensor experts, Tensor gates, RoutingOptions options,
        Tensor balanceFrequencies, float balanceScale, Tensor dlogits);

    /// <summary>
    /// Sequence-wise balance loss ([P] eq. 17 to 20): for each sequence of T = M / B tokens Σ_i f_i P_i, with
    /// f_i = E/(K T) · (tokens whose K highest raw scores, without bias or groups, hold i), and P_i the mean of s_i / Σ_j s_j.
    /// </summary>
    /// <param name="scores">[M, E].</param>
    /// <param name="topK">K.</param>
    /// <param name="batch">B.</param>
    /// <param name="frequencies">[B, E]: f.</param>
    /// <param name="losses">[B]: Σ f P of each sequence, without alpha.</param>
    void BalanceLoss(Tensor scores, int topK, int batch, Tensor frequencies, Tensor losses);

    /// <summary>
    /// Sorts the M·K slots by expert, tokens ascending within an expert.
    /// </summary>
    /// <param name="experts">[M, K], I32.</param>
    /// <param name="rowOffsets">[E + 1], I32: expert e has the sorted rows rowOffsets[e] to rowOffsets[e+1] - 1.</param>
    /// <param name="slotOfRow">[S], I32: the slot (token·K + k) that each sorted row comes from.</param>
    /// <param name="rowOfSlot">[M, K], I32: the inverse.</param>
    void Sort(Tensor experts, Tensor rowOffsets, Tensor slotOfRow, Tensor rowOfSlot);

    /// <summary>Copies tokens to sorted rows: y[s] = x[slotOfRow[s] / K].</summary>
    /// <param name="x">[M, D], of any type: values, codes, or the scales of rows.</param>
    /// <param name="slotOfRow">[S].</param>
    /// <param name="topK">K.</param>
    /// <param name="y">[S, D], of the same type.</param>
    void Dispatch(Tensor x, Tensor slotOfRow, int topK, Tensor y);

    /// <summary>Sums a token's rows, k ascending: out[t] = Σ_k y[rowOfSlot[t, k]], or += that. Also the backward pass of <see cref="Dispatch"/>; its own backward pass is Dispatch.</summary>
    /// <param name="y">[S, D].</param>
    /// <param name="rowOfSlot">[M, K].</param>
    /// <param name="output">[M, D].</param>
    /// <param name="accumulate">Whether to add to what output holds.</param>
    void Combine(Tensor y, Tensor rowOfSlot, Tensor output, bool accumulate = false);

    /// <summary>Moves one number a slot to sorted order: to[s] = from[slotOfRow[s]].</summary>
    /// <param name="from">[M, K], by slot.</param>
    /// <param name="slotOfRow">[S].</param>
    /// <param name="to">[S].</param>
    void SlotsToRows(Tensor from, Tensor slotOfRow, Tensor to);

    /// <summary>Moves one number a sorted row to its slot: to[slotOfRow[s]] = from[s].</summary>
    /// <param name="from">[S].</param>
    /// <param name="slotOfRow">[S].</param>
    /// <param name="to">[M, K].</param>
    void RowsToSlots(Tensor from, Tensor slotOfRow, Tensor to);

    /// <summary>bias[e] += gamma · sign(mean load - load[e]) ([P] §2.1.2).</summary>
    /// <param name="bias">[E].</param>
    /// <param name="load">[E], I64: counted over the whole batch of the step.</param>
    /// <param name="gamma">Update speed.</param>
    void UpdateBias(Tensor bias, Tensor load, float gamma);
}

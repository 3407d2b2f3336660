namespace Fathom.Compute.Operators;

/// <summary>How a router turns logits into scores.</summary>
public enum ScoringFunction
{
    /// <summary>DeepSeek-V3.</summary>
    Sigmoid,

    /// <summary>DeepSeek-V2.</summary>
    Softmax,
}

/// <summary>How experts are chosen from scores.</summary>
public enum TopKMethod
{
    /// <summary>The K highest scores (V2-Lite).</summary>
    Greedy,

    /// <summary>Groups first, by their highest score; then the K highest within the kept groups (V2).</summary>
    GroupLimitedGreedy,

    /// <summary>As group-limited, on scores plus routing bias, a group counting by its two highest (V3, auxiliary-loss-free).</summary>
    NoAuxTc,
}

/// <summary>The router's configuration, as in config.json. Ties in every choice go to the lower index.</summary>
/// <param name="Experts">n_routed_experts, E.</param>
/// <param name="TopK">num_experts_per_tok, K.</param>
/// <param name="Groups">n_group; divides E.</param>
/// <param name="TopKGroups">topk_group.</param>
/// <param name="Scoring">scoring_func.</param>
/// <param name="Method">topk_method.</param>
/// <param name="NormalizeTopK">norm_topk_prob: gates are divided by their sum + 1e-20.</param>
/// <param name="ScalingFactor">routed_scaling_factor: multiplies the gates, normalised or not.</param>
public sealed record RoutingOptions(
    int Experts,
    int TopK,
    int Groups,
    int TopKGroups,
    ScoringFunction Scoring,
    TopKMethod Method,
    bool NormalizeTopK,
    float ScalingFactor);

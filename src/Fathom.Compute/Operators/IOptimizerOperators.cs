// AdamW with decoupled weight decay (Loshchilov and Hutter 2019), one pass over weight, gradient and both moments. The factor of
// gradient clipping is multiplied in here, so clipping costs no pass of its own.

namespace Fathom.Compute.Operators;

/// <summary>What one AdamW step needs to know.</summary>
/// <param name="LearningRate">Step size.</param>
/// <param name="Beta1">Decay of the first moment.</param>
/// <param name="Beta2">Decay of the second moment.</param>
/// <param name="Epsilon">Added to the root of the second moment.</param>
/// <param name="WeightDecay">Decoupled decay; zero for vectors.</param>
/// <param name="Step">1 for the first step; corrects the moments' bias.</param>
/// <param name="GradientScale">Multiplies the gradient: the factor of clipping.</param>
public readonly record struct AdamWStep(
    float LearningRate, float Beta1, float Beta2, float Epsilon, float WeightDecay, long Step, float GradientScale);

/// <summary>Parameter updates. All tensors have the same number of elements and are contiguous F32.</summary>
public interface IOptimizerOperators
{
    /// <summary>
    /// g = gradient·scale; m = β1 m + (1-β1) g; v = β2 v + (1-β2) g²;
    /// w -= lr · wd · w; w -= lr · (m / (1-β1^t)) / (sqrt(v / (1-β2^t)) + ε).
    /// </summary>
    /// <param name="weights">w, updated.</param>
    /// <param name="gradients">Read only.</param>
    /// <param name="firstMoment">m, updated.</param>
    /// <param name="secondMoment">v, updated.</param>
    /// <param name="step">The step's numbers.</param>
    void AdamW(Tensor weights, Tensor gradients, Tensor firstMoment, Tensor secondMoment, in AdamWStep step);
}

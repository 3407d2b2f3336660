// AdamW with decoupled weight decay (Loshchilov and Hutter 2019), one pass over weight, gradient and both moments. The factor of
// gradient clipping is multiplied in here, so clipping costs no pass of its own. The order of roundings is part of the contract:
// moments in BF16 ([P] §3.3.2) turn a difference in the last bit of F32 into one of a whole BF16 step, so every backend has to
// compute the same bits.

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
    float LearningRate, float Beta1, float Beta2, float Epsilon, float WeightDecay, long Step, float GradientScale)
{
    /// <summary>1 - β1.</summary>
    internal float Rest1 => (float)(1 - (double)Beta1);

    /// <summary>1 - β2.</summary>
    internal float Rest2 => (float)(1 - (double)Beta2);

    /// <summary>-lr · wd. Subtracted as a product of its own: folded into 1 - lr·wd it would lose most of its digits.</summary>
    internal float Decay => (float)(-(double)LearningRate * WeightDecay);

    /// <summary>-lr / (1 - β1^t).</summary>
    internal float Size => (float)(-LearningRate / (1 - Math.Pow(Beta1, Step)));

    /// <summary>1 / (1 - β2^t).</summary>
    internal float Unbias2 => (float)(1 / (1 - Math.Pow(Beta2, Step)));
}

/// <summary>Updates of parameters and of their running average. All tensors are contiguous and have the same number of elements.</summary>
public interface IOptimizerOperators
{
    /// <summary>
    /// g = gradient·scale; m = β1 m + (1-β1) g; v = β2 v + (1-β2) g²;
    /// w -= lr · wd · w; w -= lr · (m / (1-β1^t)) / (sqrt(v / (1-β2^t)) + ε).
    /// Computed in F32 in the order of the reference, to the last bit; the update of w takes m and v before they are rounded.
    /// </summary>
    /// <param name="weights">w, F32, updated.</param>
    /// <param name="gradients">F32, read only.</param>
    /// <param name="firstMoment">m, F32 or BF16, updated; BF16 is rounded to nearest even.</param>
    /// <param name="secondMoment">v, of the first moment's type, updated.</param>
    /// <param name="step">The step's numbers.</param>
    void AdamW(Tensor weights, Tensor gradients, Tensor firstMoment, Tensor secondMoment, in AdamWStep step);

    /// <summary>
    /// average += rate · (weights - average), the difference and the multiply-add each rounded once. Runs on the calling thread
    /// alone and beside other operators of the device, which have the other threads.
    /// </summary>
    /// <param name="average">F32 in host memory, updated.</param>
    /// <param name="weights">F32, read only.</param>
    /// <param name="rate">Share of the new weights, in (0, 1).</param>
    void Average(Tensor average, Tensor weights, float rate);
}

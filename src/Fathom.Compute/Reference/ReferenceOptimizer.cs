using Fathom.Compute.Operators;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="IOptimizerOperators"/>.</summary>
internal sealed class ReferenceOptimizer : IOptimizerOperators
{
    public void AdamW(Tensor weights, Tensor gradients, Tensor firstMoment, Tensor secondMoment, in AdamWStep step)
    {
        double correction1 = 1 - Math.Pow(step.Beta1, step.Step), correction2 = 1 - Math.Pow(step.Beta2, step.Step);
        for (long i = 0; i < weights.Elements; i++)
        {
            double g = gradients.Get(i) * step.GradientScale;
            double m = step.Beta1 * firstMoment.Get(i) + (1 - (double)step.Beta1) * g;
            double v = step.Beta2 * secondMoment.Get(i) + (1 - (double)step.Beta2) * g * g;
            double w = weights.Get(i);
            w -= (double)step.LearningRate * step.WeightDecay * w;
            w -= step.LearningRate * (m / correction1) / (Math.Sqrt(v / correction2) + step.Epsilon);
            firstMoment.Set(i, m);
            secondMoment.Set(i, v);
            weights.Set(i, w);
        }
    }
}

// In F32, unlike most references: here the order of roundings is what is specified. That this order is accurate is tested against
// the formula in F64.
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="IOptimizerOperators"/>.</summary>
internal sealed class ReferenceOptimizer : IOptimizerOperators
{
    public void AdamW(Tensor weights, Tensor gradients, Tensor firstMoment, Tensor secondMoment, in AdamWStep step)
    {
        for (long i = 0; i < weights.Elements; i++)
        {
            float g = (float)gradients.Get(i) * step.GradientScale;
            float m = MathF.FusedMultiplyAdd(step.Beta1, (float)firstMoment.Get(i), step.Rest1 * g);
            float v = MathF.FusedMultiplyAdd(step.Beta2, (float)secondMoment.Get(i), step.Rest2 * g * g);
            float w = (float)weights.Get(i);
            w = MathF.FusedMultiplyAdd(step.Decay, w, w);
            w += step.Size * m / (MathF.Sqrt(v * step.Unbias2) + step.Epsilon);
            SetMoment(firstMoment, i, m);
            SetMoment(secondMoment, i, v);
            weights.Set(i, w);
        }
    }

    public void Average(Tensor average, Tensor weights, float rate)
    {
        for (long i = 0; i < average.Elements; i++)
        {
            float a = (float)average.Get(i);
            average.Set(i, MathF.FusedMultiplyAdd(rate, (float)weights.Get(i) - a, a));
        }
    }

    private static void SetMoment(in Tensor moment, long index, float value)
    {
        if (moment.DType == DType.F32) moment.Set(index, value);
        else moment.Row<ushort>(index / moment.Columns)[(int)(index % moment.Columns)] = ((BFloat16)value).Bits;
    }
}

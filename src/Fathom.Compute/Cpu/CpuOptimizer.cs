// AdamW in one pass: 16 bytes in and 12 bytes out an element, which is all that it costs on any machine. What depends on the step
// alone is computed once, in F64. The weight decay is subtracted as its own small product: folded into 1 - lr·wd it would lose
// most of its digits.
using System.Runtime.CompilerServices;
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="IOptimizerOperators"/> on the worker team.</summary>
internal sealed unsafe class CpuOptimizer(WorkerTeam team) : IOptimizerOperators
{
    public void AdamW(Tensor weights, Tensor gradients, Tensor firstMoment, Tensor secondMoment, in AdamWStep step)
    {
        const string Op = "adamw";
        long count = weights.Elements;
        Require.Vector(Op, "weights", weights, count);
        Require.Vector(Op, "gradients", gradients, count);
        Require.Vector(Op, "firstMoment", firstMoment, count);
        Require.Vector(Op, "secondMoment", secondMoment, count);
        Require.Writable(Op, "weights", weights);
        Require.Writable(Op, "firstMoment", firstMoment);
        Require.Writable(Op, "secondMoment", secondMoment);
        Require.That(step.Step >= 1, Op, "the first step is number 1");
        double correction1 = 1 - Math.Pow(step.Beta1, step.Step), correction2 = 1 - Math.Pow(step.Beta2, step.Step);
        var factors = new Factors
        {
            GradientScale = step.GradientScale,
            Beta1 = step.Beta1,
            Rest1 = (float)(1 - (double)step.Beta1),
            Beta2 = step.Beta2,
            Rest2 = (float)(1 - (double)step.Beta2),
            Decay = (float)(-(double)step.LearningRate * step.WeightDecay),
            Size = (float)(-step.LearningRate / correction1),
            Unbias2 = (float)(1 / correction2),
            Epsilon = step.Epsilon,
        };
        var operation = new Update(
            weights.Pointer<float>(), gradients.Pointer<float>(), firstMoment.Pointer<float>(), secondMoment.Pointer<float>(), factors);
        ElementLoop.For(team, 1, count, operation);
    }

    private struct Factors
    {
        public float GradientScale, Beta1, Rest1, Beta2, Rest2, Decay, Size, Unbias2, Epsilon;
    }

    private readonly struct Update(float* weights, float* gradients, float* firstMoment, float* secondMoment, Factors factors)
        : IElementOperation, IElementBody
    {
        public void Segment<V>(long row, long start, long end) where V : struct, ISimd<V> => ElementLoop.Run<V, Update>(this, start, end);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Apply<V>(long i) where V : struct, ILanes<V>
        {
            V g = V.Load(gradients + i) * V.Broadcast(factors.GradientScale);
            V m = V.MultiplyAdd(V.Broadcast(factors.Beta1), V.Load(firstMoment + i), V.Broadcast(factors.Rest1) * g);
            V v = V.MultiplyAdd(V.Broadcast(factors.Beta2), V.Load(secondMoment + i), V.Broadcast(factors.Rest2) * g * g);
            V w = V.Load(weights + i);
            w = V.MultiplyAdd(V.Broadcast(factors.Decay), w, w);
            V root = V.Sqrt(v * V.Broadcast(factors.Unbias2)) + V.Broadcast(factors.Epsilon);
            w += V.Broadcast(factors.Size) * m / root;
            m.Store(firstMoment + i);
            v.Store(secondMoment + i);
            w.Store(weights + i);
        }
    }
}

// AdamW in one pass: with F32 moments 16 bytes in and 12 bytes out an element, with BF16 moments 12 and 8, which is all that it
// costs on any machine. What depends on the step alone is computed once, in F64.
using System.Runtime.CompilerServices;
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="IOptimizerOperators"/> on the worker team.</summary>
internal sealed unsafe class CpuOptimizer(WorkerTeam team) : IOptimizerOperators
{
    // A team of one is the calling thread: the average is computed beside the forward pass, which has the team.
    private static readonly WorkerTeam CallingThread = new(1);

    public void AdamW(Tensor weights, Tensor gradients, Tensor firstMoment, Tensor secondMoment, in AdamWStep step)
    {
        const string Op = "adamw";
        long count = weights.Elements;
        DType moments = firstMoment.DType == DType.BF16 ? DType.BF16 : DType.F32;
        Require.Vector(Op, "weights", weights, count);
        Require.Vector(Op, "gradients", gradients, count);
        Require.Vector(Op, "firstMoment", firstMoment, count, moments);
        Require.Vector(Op, "secondMoment", secondMoment, count, moments);
        Require.Writable(Op, "weights", weights);
        Require.Writable(Op, "firstMoment", firstMoment);
        Require.Writable(Op, "secondMoment", secondMoment);
        Require.That(step.Step >= 1, Op, "the first step is number 1");
        var factors = new Factors
        {
            GradientScale = step.GradientScale,
            Beta1 = step.Beta1,
            Rest1 = step.Rest1,
            Beta2 = step.Beta2,
            Rest2 = step.Rest2,
            Decay = step.Decay,
            Size = step.Size,
            Unbias2 = step.Unbias2,
            Epsilon = step.Epsilon,
        };
        float* w = weights.Pointer<float>(), g = gradients.Pointer<float>();
        if (moments == DType.BF16)
            ElementLoop.For(team, 1, count, new Update<MomentBF16>(w, g, firstMoment.Address, secondMoment.Address, factors));
        else
            ElementLoop.For(team, 1, count, new Update<MomentF32>(w, g, firstMoment.Address, secondMoment.Address, factors));
    }

    public void Average(Tensor average, Tensor weights, float rate)
    {
        CheckAverage(average, weights, rate);
        MoveAverage(average.Pointer<float>(), weights.Pointer<float>(), average.Elements, rate);
    }

    /// <summary>The first layer of <see cref="IOptimizerOperators.Average"/> on every device.</summary>
    internal static void CheckAverage(in Tensor average, in Tensor weights, float rate)
    {
        const string Op = "average";
        Require.Vector(Op, "average", average, average.Elements);
        Require.Vector(Op, "weights", weights, average.Elements);
        Require.Writable(Op, "average", average);
        Require.That(rate is > 0 and < 1, Op, "the rate is more than 0 and less than 1");
    }

    /// <summary>average += rate · (weights - average) in host memory, on the calling thread.</summary>
    internal static void MoveAverage(float* average, float* weights, long count, float rate) =>
        ElementLoop.For(CallingThread, 1, count, new Approach(average, weights, rate));

    private struct Factors
    {
        public float GradientScale, Beta1, Rest1, Beta2, Rest2, Decay, Size, Unbias2, Epsilon;
    }

    /// <summary>How moments are stored.</summary>
    private interface IMomentFormat
    {
        static abstract V Load<V>(nint moments, long i) where V : struct, ILanes<V>;

        static abstract void Store<V>(V value, nint moments, long i) where V : struct, ILanes<V>;
    }

    private readonly struct MomentF32 : IMomentFormat
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static V Load<V>(nint moments, long i) where V : struct, ILanes<V> => V.Load((float*)moments + i);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Store<V>(V value, nint moments, long i) where V : struct, ILanes<V> => value.Store((float*)moments + i);
    }

    private readonly struct MomentBF16 : IMomentFormat
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static V Load<V>(nint moments, long i) where V : struct, ILanes<V> => V.LoadBF16((ushort*)moments + i);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Store<V>(V value, nint moments, long i) where V : struct, ILanes<V> => value.StoreBF16((ushort*)moments + i);
    }

    private readonly struct Update<TMoment>(float* weights, float* gradients, nint firstMoment, nint secondMoment, Factors factors)
        : IElementOperation, IElementBody where TMoment : struct, IMomentFormat
    {
        public void Segment<V>(long row, long start, long end) where V : struct, ISimd<V> => ElementLoop.Run<V, Update<TMoment>>(this, start, end);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Apply<V>(long i) where V : struct, ILanes<V>
        {
            V g = V.Load(gradients + i) * V.Broadcast(factors.GradientScale);
            V m = V.MultiplyAdd(V.Broadcast(factors.Beta1), TMoment.Load<V>(firstMoment, i), V.Broadcast(factors.Rest1) * g);
            V v = V.MultiplyAdd(V.Broadcast(factors.Beta2), TMoment.Load<V>(secondMoment, i), V.Broadcast(factors.Rest2) * g * g);
            V w = V.Load(weights + i);
            w = V.MultiplyAdd(V.Broadcast(factors.Decay), w, w);
            V root = V.Sqrt(v * V.Broadcast(factors.Unbias2)) + V.Broadcast(factors.Epsilon);
            w += V.Broadcast(factors.Size) * m / root;
            TMoment.Store(m, firstMoment, i);
            TMoment.Store(v, secondMoment, i);
            w.Store(weights + i);
        }
    }

    private readonly struct Approach(float* average, float* weights, float rate) : IElementOperation, IElementBody
    {
        public void Segment<V>(long row, long start, long end) where V : struct, ISimd<V> => ElementLoop.Run<V, Approach>(this, start, end);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Apply<V>(long i) where V : struct, ILanes<V>
        {
            V a = V.Load(average + i);
            V.MultiplyAdd(V.Broadcast(rate), V.Load(weights + i) - a, a).Store(average + i);
        }
    }
}

// AdamW in one pass: with F32 moments 28 bytes an element, with BF16 moments 20. The running average of the weights is in
// WeightAverage.cs, because it runs on another thread.
using Fathom.Compute.Cpu;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="IOptimizerOperators"/> on a GPU.</summary>
internal sealed class CudaOptimizer : IOptimizerOperators
{
    private readonly ElementKernels adamw;
    private readonly WeightAverage weightAverage;

    public CudaOptimizer(CudaContext context)
    {
        adamw = new ElementKernels(context.Module("optimizer.cu", [.. ElementKernels.Instances("adamw", 1)]), "adamw", 1);
        weightAverage = new WeightAverage(context);
    }

    /// <summary>Weights are written in the main stream other than by a step: by an upload that nobody waits for.</summary>
    public void WeightsMoved() => weightAverage.WeightsMoved();

    public void AdamW(Tensor weights, Tensor gradients, Tensor firstMoment, Tensor secondMoment, in AdamWStep step)
    {
        const string Op = "adamw";
        long count = weights.Elements;
        DType moments = Elementwise.ActivationType(firstMoment);
        Require.Vector(Op, "weights", weights, count);
        Require.Vector(Op, "gradients", gradients, count);
        Require.Vector(Op, "firstMoment", firstMoment, count, moments);
        Require.Vector(Op, "secondMoment", secondMoment, count, moments);
        Require.Writable(Op, "weights", weights);
        Require.Writable(Op, "firstMoment", firstMoment);
        Require.Writable(Op, "secondMoment", secondMoment);
        Require.That(step.Step >= 1, Op, "the first step is number 1");
        int width = Elementwise.Width(count, weights, gradients, firstMoment, secondMoment);
        adamw.For(moments, width).Launch(
            Elementwise.Shape(1, count, width),
            weights, gradients, firstMoment, secondMoment, count, step.GradientScale, step.Beta1, step.Rest1, step.Beta2, step.Rest2, step.Decay,
            step.Size, step.Unbias2, step.Epsilon);
        weightAverage.WeightsMoved();
    }

    public void Average(Tensor average, Tensor weights, float rate)
    {
        CpuOptimizer.CheckAverage(average, weights, rate);
        if (average.Owner is IDeviceMemory) Require.That(false, "average", $"average is {average} on the device, expected host memory");
        weightAverage.Move(average, weights, rate);
    }
}

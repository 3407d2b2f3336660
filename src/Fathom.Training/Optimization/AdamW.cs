// The optimizer over all parameters of a model: gradient norm, clipping, AdamW, and the routing bias, which no gradient moves.
using Fathom.Compute;
using Fathom.Compute.Operators;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Training;

/// <summary>AdamW with moments for every trained parameter.</summary>
public sealed class AdamW
{
    private readonly Device device;
    private readonly OptimizerConfig config;
    private readonly Entry[] entries;
    private readonly Tensor[] gradients;

    /// <summary>Allocates moments of zeros beside the parameters' gradients.</summary>
    /// <param name="device">Where the parameters are.</param>
    /// <param name="parameters">Those with a gradient are trained.</param>
    /// <param name="config">The optimizer's numbers.</param>
    /// <param name="moments">Type of both moments where the configuration leaves it open: the recipe's.</param>
    /// <exception cref="FathomException">The moments' type is neither F32 nor BF16, or is too coarse for a decay.</exception>
    public AdamW(Device device, IReadOnlyList<Parameter> parameters, OptimizerConfig config, DType moments = DType.F32)
    {
        (this.device, this.config) = (device, config);
        MomentType = config.Moments ?? moments;
        config.RequireMoments(MomentType);
        entries =
        [
            .. parameters.Where(p => !p.Gradient.IsEmpty).Select(p => new Entry(
                p,
                device.Allocate(p.Value.Shape, MomentType, MemoryKind.OptimizerMoments),
                device.Allocate(p.Value.Shape, MomentType, MemoryKind.OptimizerMoments))),
        ];
        gradients = [.. entries.Select(e => e.Parameter.Gradient)];
    }

    /// <summary>Where the parameters are.</summary>
    public Device Device => device;

    /// <summary>Type of both moments, F32 or BF16.</summary>
    public DType MomentType { get; }

    /// <summary>Every trained parameter with its first and second moment.</summary>
    public IEnumerable<(Parameter Parameter, Tensor First, Tensor Second)> Moments =>
        entries.Select(e => (e.Parameter, e.First, e.Second));

    /// <summary>Root of the sum of squares of all gradients. Here, once a step, a device that works beside the processor is waited for.</summary>
    public double GradientNorm()
    {
        foreach (Entry entry in entries) entry.Parameter.CompleteGradient(device);
        return Math.Sqrt(device.Reduction.SumOfSquares(gradients));
    }

    /// <summary>Updates every parameter; the next gradient then overwrites this one.</summary>
    /// <param name="learningRate">Step size.</param>
    /// <param name="gradientNorm">From <see cref="GradientNorm"/>; decides the clipping.</param>
    /// <param name="step">1 for the first.</param>
    public void Step(double learningRate, double gradientNorm, long step)
    {
        double scale = config.ClipNorm > 0 ? Math.Min(1, config.ClipNorm / (gradientNorm + 1e-6)) : 1;
        foreach (Entry entry in entries)
        {
            float decay = entry.Parameter.Role != ParameterRole.NormWeight ? config.WeightDecay : 0;
            var numbers = new AdamWStep((float)learningRate, config.Beta1, config.Beta2, config.Epsilon, decay, step, (float)scale);
            entry.Parameter.CompleteGradient(device);
            device.Optimizer.AdamW(entry.Parameter.Value, entry.Parameter.Gradient, entry.First, entry.Second, numbers);
            entry.Parameter.ForgetGradient();
        }
    }

    private sealed record Entry(Parameter Parameter, Tensor First, Tensor Second);
}

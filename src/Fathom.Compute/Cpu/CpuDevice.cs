// The processor as a device: operators on a worker team, vectorised for what the processor has.
using Fathom.Compute.Cpu.Gemm;
using Fathom.Compute.Cpu.MachineCode;
using Fathom.Compute.Operators;
using Fathom.Compute.Reference;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary>Operators on the host's processor cores.</summary>
public sealed class CpuDevice : Device
{
    private readonly Dictionary<Accumulation, ILinearOperators> emulated = [];

    /// <summary>A device with a team of its own.</summary>
    /// <param name="threads">Number of threads; 0 for one a processor.</param>
    /// <param name="pin">Whether to bind the threads to processors.</param>
    public CpuDevice(int threads = 0, bool pin = false)
    {
        Team = new WorkerTeam(threads, pin);
        Quantization = new CpuQuantization(Team);
        Linear = new CpuScaledLinear(new CpuLinear(Team), Quantization);
        LinearByRow = new CpuScaledLinear(new CpuLinear(Team, byRow: true), Quantization);
        if (CpuFeatures.BFloat16Dots)
        {
            ILinearOperators others = BFloat16Code.TakesCodes ? new CpuScaledLinear(new CpuLinear(Team, byRow: true, narrowCodes: true), Quantization) : LinearByRow;
            LinearInBFloat16 = new CpuBFloat16Linear(Team, others);
        }

        Norm = new CpuNorm(Team);
        Rotary = new CpuRotary(Team);
        Attention = new CpuAttention(Team);
        Routing = new CpuRouting(Team);
        Activation = new CpuActivation(Team);
        Loss = new CpuLoss(Team);
        Sampling = new CpuSampling(Team);
        Embedding = new CpuEmbedding(Team);
        Optimizer = new CpuOptimizer(Team);
        Reduction = new CpuReduction(Team);
        Cache = new ReferenceCache(Reduction);
    }

    /// <summary>The vector instructions that operators use on this processor: "AVX-512 with BF16 dot products", "AVX-512", "AVX2" or "128-bit vectors".</summary>
    public static string Vectors => CpuFeatures.Name;

    /// <summary>The threads that the operators run on.</summary>
    public WorkerTeam Team { get; }

    /// <inheritdoc/>
    public override string Name => $"cpu ({Team.Size} threads)";

    /// <inheritdoc/>
    public override ILinearOperators Linear { get; }

    /// <inheritdoc/>
    public override ILinearOperators LinearByRow { get; }

    /// <inheritdoc/>
    public override ILinearOperators? LinearInBFloat16 { get; }

    /// <inheritdoc/>
    public override ILinearOperators LinearWith(Accumulation accumulation)
    {
        if (accumulation == Accumulation.Fp32) return Linear;
        lock (emulated)
        {
            if (!emulated.TryGetValue(accumulation, out ILinearOperators? linear))
                emulated[accumulation] = linear = new EmulatedLinear(new EmulatedGemm(Team, accumulation), Linear);
            return linear;
        }
    }

    /// <inheritdoc/>
    public override IQuantizationOperators Quantization { get; }

    /// <inheritdoc/>
    public override INormOperators Norm { get; }

    /// <inheritdoc/>
    public override IRotaryOperators Rotary { get; }

    /// <inheritdoc/>
    public override IAttentionOperators Attention { get; }

    /// <inheritdoc/>
    public override IRoutingOperators Routing { get; }

    /// <inheritdoc/>
    public override IActivationOperators Activation { get; }

    /// <inheritdoc/>
    public override ILossOperators Loss { get; }

    /// <inheritdoc/>
    public override ISamplingOperators Sampling { get; }

    /// <inheritdoc/>
    public override IEmbeddingOperators Embedding { get; }

    /// <inheritdoc/>
    public override IOptimizerOperators Optimizer { get; }

    /// <inheritdoc/>
    public override IReductionOperators Reduction { get; }

    /// <inheritdoc/>
    public override ICacheOperators Cache { get; }

    /// <inheritdoc/>
    protected override Tensor AllocateCore(Shape shape, DType dtype) => HostMemory.Allocate(shape, dtype);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) Team.Dispose();
    }
}

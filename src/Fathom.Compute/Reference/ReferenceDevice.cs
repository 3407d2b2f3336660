// The slow, obvious implementation of every operator: the specification that the fast ones are tested against. Plain loops,
// sums in F64, no threads. A model runs on it from end to end.
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Reference;

/// <summary>A device in host memory whose operators read like their formulas.</summary>
public sealed class ReferenceDevice : Device
{
    /// <inheritdoc/>
    public override string Name => "reference";

    /// <inheritdoc/>
    public override ILinearOperators Linear { get; } = new ReferenceLinear(new ReferenceQuantization());

    /// <inheritdoc/>
    public override IQuantizationOperators Quantization { get; } = new ReferenceQuantization();

    /// <inheritdoc/>
    public override INormOperators Norm { get; } = new ReferenceNorm();

    /// <inheritdoc/>
    public override IRotaryOperators Rotary { get; } = new ReferenceRotary();

    /// <inheritdoc/>
    public override IAttentionOperators Attention { get; } = new ReferenceAttention(new ReferenceQuantization());

    /// <inheritdoc/>
    public override IRoutingOperators Routing { get; } = new ReferenceRouting();

    /// <inheritdoc/>
    public override IActivationOperators Activation { get; } = new ReferenceActivation();

    /// <inheritdoc/>
    public override ILossOperators Loss { get; } = new ReferenceLoss();

    /// <inheritdoc/>
    public override ISamplingOperators Sampling { get; } = new ReferenceSampling();

    /// <inheritdoc/>
    public override IEmbeddingOperators Embedding { get; } = new ReferenceEmbedding();

    /// <inheritdoc/>
    public override IOptimizerOperators Optimizer { get; } = new ReferenceOptimizer();

    /// <inheritdoc/>
    public override IReductionOperators Reduction { get; } = new ReferenceReduction();

    /// <inheritdoc/>
    public override ICacheOperators Cache { get; } = new ReferenceCache(new ReferenceReduction());

    /// <inheritdoc/>
    protected override Tensor AllocateCore(Shape shape, DType dtype) => HostMemory.Allocate(shape, dtype);
}

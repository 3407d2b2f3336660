// Where tensors live and what computes on them. A device offers the operator families as properties; the model is written
// over these and knows nothing below.
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute;

/// <summary>Memory and operators of one processor.</summary>
public abstract class Device : IDisposable
{
    private readonly long[] bytesByKind = new long[Enum.GetValues<MemoryKind>().Length];

    /// <summary>What a person would call the device.</summary>
    public abstract string Name { get; }

    /// <summary>Whether the processor reads and writes the device's memory in place.</summary>
    public virtual bool IsHost => true;

    /// <summary>How the device lays out what training holds.</summary>
    public virtual DeviceTraits Traits => DeviceTraits.Processor;

    /// <summary>Whether results that a recipe rounds to BF16 lie in it, as <see cref="DeviceTraits.HoldsBFloat16"/> says.</summary>
    public bool HoldsBFloat16 => Traits.HoldsBFloat16;

    /// <summary>Products with weight matrices.</summary>
    public abstract ILinearOperators Linear { get; }

    /// <summary>
    /// Forward products in which the bits of a row are its own: the same alone and among any number of rows, of a layer or of an expert.
    /// What serving multiplies with, so that a request's text does not depend on its neighbours. <see cref="Linear"/> itself on a device
    /// that makes no such promise.
    /// </summary>
    public virtual ILinearOperators LinearByRow => Linear;

    /// <summary>
    /// The same on a device that keeps activations in F32 and multiplies BF16 numbers faster: where weights are BF16, activations are
    /// rounded to BF16 within the product. Null on all other devices.
    /// </summary>
    public virtual ILinearOperators? LinearInBFloat16 => null;

    /// <summary>Products with weight matrices, those of two quantised operands summed in another accumulator. Repeated calls give the same object.</summary>
    /// <param name="accumulation">FP32 for <see cref="Linear"/> itself.</param>
    /// <exception cref="NotSupportedException">The device emulates no other accumulator.</exception>
    public virtual ILinearOperators LinearWith(Accumulation accumulation) =>
        accumulation == Accumulation.Fp32 ? Linear : throw new NotSupportedException($"{Name} cannot sum in another accumulator: {accumulation}");

    /// <summary>Narrow formats with scales.</summary>
    public abstract IQuantizationOperators Quantization { get; }

    /// <summary>RMSNorm.</summary>
    public abstract INormOperators Norm { get; }

    /// <summary>Rotary position embedding.</summary>
    public abstract IRotaryOperators Rotary { get; }

    /// <summary>Causal attention and its decode form over a latent cache.</summary>
    public abstract IAttentionOperators Attention { get; }

    /// <summary>The paged latent cache.</summary>
    public abstract ICacheOperators Cache { get; }

    /// <summary>Expert choice, permutation and combination.</summary>
    public abstract IRoutingOperators Routing { get; }

    /// <summary>SwiGLU.</summary>
    public abstract IActivationOperators Activation { get; }

    /// <summary>Cross-entropy.</summary>
    public abstract ILossOperators Loss { get; }

    /// <summary>Choice of the next tokens.</summary>
    public abstract ISamplingOperators Sampling { get; }

    /// <summary>Token embedding.</summary>
    public abstract IEmbeddingOperators Embedding { get; }

    /// <summary>AdamW.</summary>
    public abstract IOptimizerOperators Optimizer { get; }

    /// <summary>Sums, fills and copies.</summary>
    public abstract IReductionOperators Reduction { get; }

    /// <summary>Allocates zeroed memory that lives as long as a view of it does.</summary>
    /// <exception cref="FathomException">The memory is not to be had; the message says how much is held for what.</exception>
    public Tensor Allocate(Shape shape, DType dtype, MemoryKind kind) => Count(AllocateCore(shape, dtype), kind);

    /// <summary>Allocates zeroed host memory, wherever the device computes: for what the processor keeps up to date beside it.</summary>
    /// <exception cref="FathomException">The memory is not to be had.</exception>
    public Tensor AllocateHost(Shape shape, DType dtype, MemoryKind kind) => Count(HostMemory.Allocate(shape, dtype), kind);

    /// <summary>Copies from host memory, which may be written again when the call returns.</summary>
    /// <param name="host">Contiguous, in host memory.</param>
    /// <param name="tensor">Contiguous, of the same type and size, in the device's memory.</param>
    /// <exception cref="ArgumentException">Tensors that do not match.</exception>
    public virtual void Upload(Tensor host, Tensor tensor) => Reduction.Copy(host, tensor.Reshape(host.Shape));

    /// <summary>Copies to host memory, after everything asked for before has run.</summary>
    /// <param name="tensor">Contiguous, in the device's memory.</param>
    /// <param name="host">Contiguous, of the same type and size, in host memory.</param>
    /// <exception cref="ArgumentException">Tensors that do not match.</exception>
    public virtual void Download(Tensor tensor, Tensor host) => Reduction.Copy(tensor, host.Reshape(tensor.Shape));

    /// <summary>Waits until everything asked for has run.</summary>
    public virtual void Synchronize()
    {
    }

    /// <summary>Whether the device can record work and do it again with one call.</summary>
    public virtual bool CanRecord => false;

    /// <summary>
    /// Records what an action asks of the device, without doing it. The action must ask for the same work over the same memory as when it
    /// was last run: nothing may be allocated, waited for or compiled in it.
    /// </summary>
    /// <exception cref="NotSupportedException">The device does not record.</exception>
    public virtual IRecordedWork Record(Action work) => throw new NotSupportedException($"{Name} does not record work");

    /// <summary>Bytes allocated so far for a kind of content, on the device and for it in host memory.</summary>
    public long AllocatedBytes(MemoryKind kind) => Interlocked.Read(ref bytesByKind[(int)kind]);

    /// <summary>Allocates zeroed memory.</summary>
    protected abstract Tensor AllocateCore(Shape shape, DType dtype);

    private Tensor Count(Tensor tensor, MemoryKind kind)
    {
        Interlocked.Add(ref bytesByKind[(int)kind], tensor.Bytes);
        return tensor;
    }

    /// <summary>Frees what the device itself holds (threads, streams); tensors free themselves.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }
}

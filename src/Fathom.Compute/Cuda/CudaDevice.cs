// An NVIDIA GPU as a device: the operator families over kernels that are compiled for the chip at run time, and products through
// cuBLASLt where it has the one that is wanted.
using System.Globalization;
using Fathom.Compute.Cuda.Interop;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>Operators on one NVIDIA GPU. All of a device's work runs in the order in which it was asked for.</summary>
public sealed unsafe class CudaDevice : Device
{
    private readonly CudaContext context;
    private readonly CudaQuantization quantization;
    private readonly CudaRouting routing;
    private readonly CudaLinear linear;
    private readonly UploadRing uploads;

    /// <summary>Opens a GPU and begins to compile what is not in the cache.</summary>
    /// <param name="ordinal">Which one, from 0.</param>
    /// <exception cref="FathomException">No driver, no GPU, an old one, or no compiler; the message says what to do.</exception>
    public CudaDevice(int ordinal = 0)
    {
        context = new CudaContext(ordinal, DescribeHoldings);
        Norm = new CudaNorm(context);
        Rotary = new CudaRotary(context);
        Attention = new CudaAttention(context);
        Cache = new CudaCache(context);
        Activation = new CudaActivation(context);
        Loss = new CudaLoss(context);
        Sampling = new CudaSampling(context);
        Embedding = new CudaEmbedding(context);
        Optimizer = new CudaOptimizer(context);
        Reduction = new CudaReduction(context);
        quantization = new CudaQuantization(context);
        routing = new CudaRouting(context);
        linear = new CudaLinear(context, quantization, shape => Allocate(shape, DType.F8E4M3, MemoryKind.WeightCopies));
        LinearByRow = linear.ByRow();
        quantization.WeightsWritten = linear.Changed;
        uploads = new UploadRing(context);
    }

    /// <inheritdoc/>
    public override string Name => string.Create(CultureInfo.InvariantCulture, $"cuda:{context.Ordinal} ({context.Name})");

    /// <inheritdoc/>
    public override bool IsHost => false;

    /// <inheritdoc/>
    public override DeviceTraits Traits => CudaTraits.Of(context.Capability);

    /// <inheritdoc/>
    public override ILinearOperators Linear => linear;

    /// <inheritdoc/>
    public override ILinearOperators LinearByRow { get; }

    /// <inheritdoc/>
    public override IQuantizationOperators Quantization => quantization;

    /// <inheritdoc/>
    public override INormOperators Norm { get; }

    /// <inheritdoc/>
    public override IRotaryOperators Rotary { get; }

    /// <inheritdoc/>
    public override IAttentionOperators Attention { get; }

    /// <inheritdoc/>
    public override ICacheOperators Cache { get; }

    /// <inheritdoc/>
    public override IRoutingOperators Routing => routing;

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

    /// <summary>cuBLASLt by itself, to measure against.</summary>
    public CublasLinear Library => linear.Library;

    /// <summary>The kernels for Hopper by themselves, to measure beside it.</summary>
    public OwnLinear Own => linear.Own;

    /// <summary>Where the device's kernels run.</summary>
    internal CudaContext Context => context;

    /// <inheritdoc/>
    public override void Upload(Tensor host, Tensor tensor)
    {
        CheckCopy(host, tensor, nameof(Upload));
        if (tensor.Bytes == 0) return;
        if (tensor.DType == DType.F8E4M3) linear.Changed(tensor);
        context.MakeCurrent();
        if (uploads.TryCopy(host.Address, tensor.Address, tensor.Bytes))
        {
            // Weights are F32; what passes are given, ids and tables, is not.
            if (tensor.DType == DType.F32) ((CudaOptimizer)Optimizer).WeightsMoved();
            return;
        }

        CudaException.Check(Driver.CopyToDevice(tensor.Address, host.Address, (nuint)tensor.Bytes, context.Stream.Handle), "cuMemcpyHtoDAsync");
        // The caller may write the memory again when this returns; a driver that reaches pageable memory in place reads it after the call.
        context.Stream.Synchronize();
        GC.KeepAlive(host.Owner);
    }

    /// <inheritdoc/>
    public override void Download(Tensor tensor, Tensor host)
    {
        CheckCopy(host, tensor, nameof(Download));
        if (tensor.Bytes == 0) return;
        context.MakeCurrent();
        CudaException.Check(Driver.CopyToHost(host.Address, tensor.Address, (nuint)tensor.Bytes, context.Stream.Handle), "cuMemcpyDtoHAsync");
        Synchronize();
        GC.KeepAlive(host.Owner);
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">An operator met an index outside its table.</exception>
    public override void Synchronize()
    {
        context.Stream.Synchronize();
        context.Faults.Check();
    }

    /// <inheritdoc/>
    public override bool CanRecord => !CudaContext.WaitsAfterLaunches;

    /// <inheritdoc/>
    public override IRecordedWork Record(Action work) => CudaGraph.Capture(context, work);

    /// <inheritdoc/>
    protected override Tensor AllocateCore(Shape shape, DType dtype)
    {
        long bytes = checked(shape.Elements * dtype.SizeInBytes());
        DeviceMemory memory = context.Memory.Take(bytes);
        CudaException.Check(Driver.Fill(memory.Address, 0, (nuint)memory.Bytes, context.Stream.Handle), "cuMemsetD8Async");
        return new Tensor(memory.Address, dtype, shape, memory);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) context.Dispose();
    }

    private static void CheckCopy(in Tensor host, in Tensor tensor, string what)
    {
        if (host.DType != tensor.DType || host.Elements != tensor.Elements || !host.IsContiguous || !tensor.IsContiguous)
            throw new ArgumentException($"{what} between {host} in host memory and {tensor} on the device: expected contiguous tensors of one type and size");
    }

    private string DescribeHoldings() => string.Join(", ", Enum.GetValues<MemoryKind>()
        .Where(kind => AllocatedBytes(kind) > 0)
        .Select(kind => $"{kind} {CudaContext.Gigabytes(AllocatedBytes(kind))}")
        .DefaultIfEmpty("nothing for tensors"));
}

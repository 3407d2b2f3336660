// A device as a GPU is one, without a GPU: the processor's own operators over memory that only they and explicit copies can reach. Its
// addresses are none that the processor can follow, so that a read past every check still ends in an exception and not in a result.
// With BF16 held, what flows between layers lies in BF16; the operators compute on F32 copies and results are rounded once when stored.
using System.Reflection;
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Testing;

/// <summary>The processor's operators over memory of their own.</summary>
public sealed class SeparateDevice : Device
{
    private static readonly nint Offset = unchecked((nint)(1L << 62)); // beyond what an address can be
    private readonly CpuDevice cpu;
    private readonly Dictionary<Accumulation, ILinearOperators> products = [];

    /// <summary>A device with a team of its own.</summary>
    /// <param name="threads">Number of threads.</param>
    /// <param name="holdsBFloat16">Whether what a recipe rounds to BF16 lies in it.</param>
    /// <param name="fusesNorms">With that, whether norms quantise their results.</param>
    public SeparateDevice(int threads = 2, bool holdsBFloat16 = false, bool fusesNorms = false)
    {
        cpu = new CpuDevice(threads);
        Traits = holdsBFloat16 ? new BFloat16Traits(fusesNorms) : DeviceTraits.Processor;
        LinearByRow = Over(cpu.LinearByRow);
        Quantization = Over(cpu.Quantization);
        Norm = Over<INormOperators>(new QuantizingNorm(this));
        Rotary = Over(cpu.Rotary);
        Attention = Over(cpu.Attention);
        Cache = Over(cpu.Cache);
        Routing = Over(cpu.Routing);
        Activation = Over(cpu.Activation);
        Loss = Over(cpu.Loss);
        Sampling = Over(cpu.Sampling);
        Embedding = Over(cpu.Embedding);
        Optimizer = Over(cpu.Optimizer);
        Reduction = Over(cpu.Reduction);
    }

    public override string Name => $"{cpu.Name} with memory of its own";

    public override bool IsHost => false;

    public override DeviceTraits Traits { get; }

    public override ILinearOperators Linear => LinearWith(Accumulation.Fp32);

    public override ILinearOperators LinearByRow { get; }

    public override IQuantizationOperators Quantization { get; }

    public override INormOperators Norm { get; }

    public override IRotaryOperators Rotary { get; }

    public override IAttentionOperators Attention { get; }

    public override ICacheOperators Cache { get; }

    public override IRoutingOperators Routing { get; }

    public override IActivationOperators Activation { get; }

    public override ILossOperators Loss { get; }

    /// <inheritdoc/>
    public override ISamplingOperators Sampling { get; }

    public override IEmbeddingOperators Embedding { get; }

    public override IOptimizerOperators Optimizer { get; }

    public override IReductionOperators Reduction { get; }

    /// <summary>Copies to and from the host so far.</summary>
    public int Copies { get; private set; }

    /// <summary>Norms with quantised results so far.</summary>
    public int FusedNorms { get; private set; }

    public override bool CanRecord => true;

    /// <summary>Where calls go instead of being done, while they are recorded.</summary>
    internal List<Action>? Recording { get; private set; }

    public override IRecordedWork Record(Action work)
    {
        if (Recording is not null) throw new InvalidOperationException("a recording within a recording");
        Recording = [];
        try
        {
            work();
            return new RecordedCalls([.. Recording]);
        }
        finally
        {
            Recording = null;
        }
    }

    public override ILinearOperators LinearWith(Accumulation accumulation)
    {
        if (!products.TryGetValue(accumulation, out ILinearOperators? linear)) products[accumulation] = linear = Over(cpu.LinearWith(accumulation));
        return linear;
    }

    public override void Upload(Tensor host, Tensor tensor) => Copy(host, tensor, host, Reveal(tensor));

    public override void Download(Tensor tensor, Tensor host) => Copy(tensor, host, Reveal(tensor), host);

    /// <summary>A view of the device's memory that the processor can follow.</summary>
    internal static Tensor Reveal(Tensor tensor)
    {
        if (tensor.IsEmpty) return tensor;
        if (tensor.Owner is not Memory memory) throw new InvalidOperationException($"{tensor} lies in host memory: upload it first");
        Shape shape = tensor.Shape, wide = shape.Rank switch
        {
            1 => new Shape(tensor.RowStride),
            2 => new Shape(shape[0], tensor.RowStride),
            3 => new Shape(shape[0], shape[1], tensor.RowStride),
            _ => new Shape(shape[0], shape[1], shape[2], tensor.RowStride),
        };
        return new Tensor(tensor.Address - Offset, tensor.DType, wide, memory.Host.Owner, tensor.IsReadOnly).ColumnRange(0, shape.Columns);
    }

    protected override Tensor AllocateCore(Shape shape, DType dtype)
    {
        if (Recording is not null) throw new InvalidOperationException($"allocating {dtype} {shape} while work is recorded");
        Tensor host = HostMemory.Allocate(shape, dtype);
        return new Tensor(host.Address + Offset, dtype, shape, new Memory(host));
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) cpu.Dispose();
    }

    private void Copy(Tensor from, Tensor to, Tensor source, Tensor destination)
    {
        if (Recording is not null) throw new InvalidOperationException($"copying {from} to {to} while work is recorded");
        if (source.Owner is IDeviceMemory || destination.Owner is IDeviceMemory) throw new InvalidOperationException($"copying {from} to {to}: one must lie in host memory");
        if (from.DType != to.DType || from.Elements != to.Elements || !from.IsContiguous || !to.IsContiguous)
            throw new ArgumentException($"copying {from} to {to}: expected contiguous tensors of one type and size");
        cpu.Reduction.Copy(source, destination.Reshape(source.Shape));
        Copies++;
    }

    private T Over<T>(T operators) where T : class
    {
        T proxy = DispatchProxy.Create<T, Operators>();
        ((Operators)(object)proxy).Set(this, operators);
        return proxy;
    }

    private sealed class BFloat16Traits(bool fusesNorms) : DeviceTraits
    {
        public override bool HoldsBFloat16 => true;

        public override bool FusesNormQuantization(DType type, long columns, long stride) => fusesNorms && type == DType.BF16;
    }

    /// <summary>The processor's norms, and with quantised results what that is defined to be.</summary>
    private sealed class QuantizingNorm(SeparateDevice device) : INormOperators
    {
        private readonly CpuDevice cpu = device.cpu;

        public void RmsNorm(Tensor x, Tensor weight, float epsilon, Tensor y, Tensor rstd) => cpu.Norm.RmsNorm(x, weight, epsilon, y, rstd);

        public void RmsNormQuantized(Tensor x, Tensor weight, float epsilon, in CodesTarget y, Tensor rstd)
        {
            Tensor values = HostMemory.Allocate(x.Shape, DType.F32);
            cpu.Norm.RmsNorm(x, weight, epsilon, values, rstd);
            cpu.Quantization.RoundToBFloat16(values);
            cpu.Quantization.Quantize(values, y.Codes, y.Fault);
            device.FusedNorms++;
        }

        public void RmsNormInputGradient(Tensor dy, Tensor x, Tensor weight, Tensor rstd, Tensor dx, Tensor added) =>
            cpu.Norm.RmsNormInputGradient(dy, x, weight, rstd, dx, added);

        public void RmsNormWeightGradient(Tensor dy, Tensor x, Tensor rstd, Tensor dweight, bool accumulate) =>
            cpu.Norm.RmsNormWeightGradient(dy, x, rstd, dweight, accumulate);
    }

    private sealed class RecordedCalls(Action[] calls) : IRecordedWork
    {
        public void Replay() => Array.ForEach(calls, call => call());

        public void Dispose()
        {
        }
    }

    private sealed class Memory(Tensor host) : IDeviceMemory
    {
        public Tensor Host => host;
    }
}

/// <summary>Calls an operator with views of a separate device's memory, or with F32 copies where it does not take BF16.</summary>
public class Operators : DispatchProxy
{
    // What the processor's operators take in BF16 themselves, or only move.
    private static readonly string[] TakenAsTheyAre = ["cache", "table", "weight", "firstMoment", "secondMoment"];
    private static readonly string[] Moves = [nameof(IReductionOperators.Copy), nameof(IReductionOperators.Zero), nameof(IReductionOperators.Convert), nameof(IRoutingOperators.Dispatch)];
    private SeparateDevice device = null!;
    private object target = null!;

    internal void Set(SeparateDevice owner, object operators) => (device, target) = (owner, operators);

    protected override object? Invoke(MethodInfo? method, object?[]? arguments)
    {
        // Where operands lie is known without waiting for what they hold.
        if (method!.Name == nameof(ILinearOperators.AddsToAnother)) return method.Invoke(target, BindingFlags.DoNotWrapExceptions, null, arguments, null);

        // Questions about the device have an answer at once; what has an answer about tensors would have to be waited for.
        if (device.Recording is not { } recording || (method.ReturnType != typeof(void) && !arguments!.Any(a => a is Tensor))) return Call(method, arguments!);
        if (method.ReturnType != typeof(void)) throw new InvalidOperationException($"{method.Name} has a result, which nobody can wait for while work is recorded");
        object?[] kept = [.. arguments!];
        recording.Add(() => Call(method, kept));
        return null;
    }

    private object? Call(MethodInfo method, object?[] arguments)
    {
        ParameterInfo[] parameters = method.GetParameters();
        var widened = new List<(Tensor Stored, Tensor Values)>();
        bool widens = device.HoldsBFloat16 && !Moves.Contains(method.Name);
        object?[] passed = [.. arguments]; // what is changed in the original is written back to the caller's "in" arguments
        for (int i = 0; i < passed.Length; i++)
        {
            string name = parameters[i].Name!;
            passed[i] = passed[i] switch
            {
                Tensor average when method.Name == nameof(IOptimizerOperators.Average) && name == "average" => average,
                Tensor tensor => widens && tensor.DType == DType.BF16 && !TakenAsTheyAre.Contains(name) ? Widen(SeparateDevice.Reveal(tensor), widened) : SeparateDevice.Reveal(tensor),
                ScaledTensor { Layout: ScaleLayout.None, DType: DType.BF16 } values when widens && name == "output" => (ScaledTensor)Widen(SeparateDevice.Reveal(values.Elements), widened),
                ScaledTensor matrix => Reveal(matrix),
                CodesTarget target => new CodesTarget(Reveal(target.Codes), SeparateDevice.Reveal(target.Fault)),
                ExpertWeights experts => new ExpertWeights([.. Enumerable.Range(0, experts.Count).Select(e => Reveal(experts[e]))]),
                IReadOnlyList<Tensor> tensors => (Tensor[])[.. tensors.Select(SeparateDevice.Reveal)],
                var other => other,
            };
        }

        object? result = method.Invoke(target, BindingFlags.DoNotWrapExceptions, null, passed, null);
        foreach ((Tensor stored, Tensor values) in widened)
        {
            if (stored.IsReadOnly) continue;
            for (long r = 0; r < stored.Rows; r++) NumberFormats.ConvertSingleToBFloat16(values.Row<float>(r), stored.Row<ushort>(r));
        }

        return result;
    }

    private static ScaledTensor Reveal(in ScaledTensor matrix)
    {
        Tensor elements = SeparateDevice.Reveal(matrix.Elements);
        return matrix.Layout == ScaleLayout.None ? elements : new ScaledTensor(elements, SeparateDevice.Reveal(matrix.Scales), matrix.Layout);
    }

    // The same tensor twice is one result in the place of one operand.
    private static Tensor Widen(Tensor stored, List<(Tensor Stored, Tensor Values)> widened)
    {
        foreach ((Tensor known, Tensor values) in widened)
        {
            if (known.Address == stored.Address && known.Shape == stored.Shape && known.RowStride == stored.RowStride) return values;
        }

        Tensor wide = HostMemory.Allocate(stored.Shape, DType.F32);
        for (long r = 0; r < stored.Rows; r++) NumberFormats.ConvertBFloat16ToSingle(stored.Row<ushort>(r), wide.Row<float>(r));
        widened.Add((stored, wide));
        return wide;
    }
}

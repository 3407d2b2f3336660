// A device that notes every operator call of another one between two marks in its time. The model runs on it as on any device, so the
// breakdown of a layer is that of the layer itself. A call is forwarded by reflection, about a microsecond: the whole is timed without.
using System.Reflection;
using Fathom.Compute;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks;

/// <summary>One call of an operator.</summary>
/// <param name="Family">"linear", "norm", …</param>
/// <param name="Operator">The method.</param>
/// <param name="Cost">What it takes at least.</param>
/// <param name="From">Mark before.</param>
/// <param name="To">Mark after.</param>
internal sealed record OperatorCall(string Family, string Operator, OperatorCost Cost, int From, int To);

/// <summary>Records the calls of a device's operators.</summary>
/// <param name="inner">Computes.</param>
/// <param name="mark">Sets a mark behind everything asked for so far, and gives its number.</param>
internal sealed class RecordingDevice(Device inner, Func<int> mark) : Device
{
    private readonly List<OperatorCall> calls = [];

    /// <summary>All calls since <see cref="Clear"/>.</summary>
    public IReadOnlyList<OperatorCall> Calls => calls;

    public override string Name => inner.Name;

    public override bool IsHost => inner.IsHost;

    public override DeviceTraits Traits => inner.Traits;

    public override ILinearOperators Linear => field ??= Recorded(inner.Linear, "linear");

    public override ILinearOperators LinearByRow => field ??= Recorded(inner.LinearByRow, "linear");

    public override ILinearOperators? LinearInBFloat16 => field ??= inner.LinearInBFloat16 is { } linear ? Recorded(linear, "linear") : null;

    public override IQuantizationOperators Quantization => field ??= Recorded(inner.Quantization, "quantization");

    public override INormOperators Norm => field ??= Recorded(inner.Norm, "norm");

    public override IRotaryOperators Rotary => field ??= Recorded(inner.Rotary, "rotary");

    public override IAttentionOperators Attention => field ??= Recorded(inner.Attention, "attention");

    public override ICacheOperators Cache => field ??= Recorded(inner.Cache, "cache");

    public override IRoutingOperators Routing => field ??= Recorded(inner.Routing, "routing");

    public override IActivationOperators Activation => field ??= Recorded(inner.Activation, "activation");

    public override ILossOperators Loss => field ??= Recorded(inner.Loss, "loss");

    public override ISamplingOperators Sampling => field ??= Recorded(inner.Sampling, "sampling");

    public override IEmbeddingOperators Embedding => field ??= Recorded(inner.Embedding, "embedding");

    public override IOptimizerOperators Optimizer => field ??= Recorded(inner.Optimizer, "optimizer");

    public override IReductionOperators Reduction => field ??= Recorded(inner.Reduction, "reduction");

    /// <summary>Forgets the calls.</summary>
    public void Clear() => calls.Clear();

    public override void Upload(Tensor host, Tensor tensor) => inner.Upload(host, tensor);

    public override void Download(Tensor tensor, Tensor host) => inner.Download(tensor, host);

    public override void Synchronize() => inner.Synchronize();

    protected override Tensor AllocateCore(Shape shape, DType dtype) => inner.Allocate(shape, dtype, MemoryKind.Workspace);

    private T Recorded<T>(T target, string family) where T : class
    {
        T recorded = DispatchProxy.Create<T, Recorder>();
        ((Recorder)(object)recorded).Bind(target, family, calls, mark);
        return recorded;
    }

    /// <summary>Stands for the operators of a family; the run time derives from it.</summary>
    internal class Recorder : DispatchProxy
    {
        private object target = null!;
        private string family = "";
        private List<OperatorCall> calls = null!;
        private Func<int> mark = null!;

        public void Bind(object operators, string name, List<OperatorCall> log, Func<int> between) =>
            (target, family, calls, mark) = (operators, name, log, between);

        protected override object? Invoke(MethodInfo? targetMethod, object?[]? args)
        {
            if (targetMethod!.ReturnType != typeof(void)) return targetMethod.Invoke(target, BindingFlags.DoNotWrapExceptions, null, args, null); // a question
            int from = mark();
            object? result = targetMethod.Invoke(target, BindingFlags.DoNotWrapExceptions, null, args, null);
            calls.Add(new OperatorCall(family, targetMethod.Name, OperatorCost.Of(family, targetMethod.Name, args ?? []), from, mark()));
            return result;
        }
    }
}

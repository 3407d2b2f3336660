// Causal attention at DeepSeek-V3's head dimensions by wgmma (hopper_attention*.cu). Operands have been checked
// by the caller, and the plan says that the kernels can take them.
// Floors of 4,096 tokens and 128 heads at 800 TFLOP/s of the tensor cores: forward 0.69 TFLOP, 0.86 ms; backward 1.78 TFLOP, 2.2 ms, beside which
// 6.6 GB are added in the second-level cache, 1.7 ms.
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>One way of the causal operators, for GPUs of compute capability 9.0.</summary>
/// <param name="context">The GPU; a kernel is compiled when it is first wanted.</param>
/// <param name="bounded">Whether waits inside of kernels give up after two seconds and are reported, which waits for every kernel; for tests.</param>
/// <param name="slots">Heads that are summed at the same time where the plan is not asked; for tests.</param>
internal sealed class HopperAttention(CudaContext context, bool bounded = false, int? slots = null)
{
    private const float Log2E = 1.44269504f;
    private readonly WaitReport? report = bounded ? new(context) : null;
    private readonly string bound = bounded ? "<true>" : "<false>";
    private Kernel? forward;
    private Gradients? gradients;

    /// <summary>As <see cref="IAttentionOperators.CausalForward"/>.</summary>
    public void Forward(in CausalSizes sizes, Tensor q, Tensor kv, Tensor kRope, float scale, Tensor output, Tensor logSumExp)
    {
        HopperCall call = Call(sizes, q, kv, kRope, scale, output, logSumExp);
        string name = "hopper_causal_forward" + bound;
        Launch(forward ??= context.Module("hopper_attention.cu", name).Kernel(name), HopperAttentionPlan.ForwardShape(sizes, context.Multiprocessors), ref call);
    }

    /// <summary>As <see cref="IAttentionOperators.CausalBackward"/>.</summary>
    public void Backward(
        in CausalSizes sizes, Tensor q, Tensor kv, Tensor kRope, in ScaledTensor output, Tensor logSumExp, Tensor doutput, float scale, Tensor dq, Tensor dkv, Tensor dkRope)
    {
        long statisticRows = HopperAttentionPlan.StatisticRows(sizes);
        int atOnce = slots ?? HopperAttentionPlan.Slots(sizes, context.Multiprocessors), words = (int)HopperAttentionPlan.CountWords(sizes, atOnce);
        var workspace = new WorkspacePlan();
        long statistics = workspace.Add(statisticRows * HopperAttentionPlan.TileStatistics * sizeof(float));
        long querySums = workspace.Add(HopperAttentionPlan.QuerySumBytes(sizes, atOnce)), rotarySums = workspace.Add(HopperAttentionPlan.RotarySumBytes(sizes));
        long counts = workspace.Add(words * sizeof(uint));
        nint start = context.Workspace(workspace.Bytes);
        HopperCall call = Call(sizes, q, kv, kRope, scale, output.Elements, logSumExp);
        bool codes = output.Layout != ScaleLayout.None;
        if (codes) call.OutputScales = new(output.Scales);
        call.Doutput = TensorMap.OfHeads(doutput, sizes.Batch, sizes.Heads, HopperAttentionPlan.Side);
        call.Statistics = TensorMap.OfRows(start + (nint)statistics, HopperAttentionPlan.TileStatistics, statisticRows);
        call.TileStatistics = start + (nint)statistics;
        call.QuerySums = start + (nint)querySums;
        call.Counts = start + (nint)counts;
        call.Slots = atOnce;
        call.CountWords = words;
        call.Causal.Doutput = new(doutput);
        call.Causal.Dq = new(dq);
        call.Causal.Dkv = new(dkv);
        call.Causal.DkRope = new(dkRope);
        call.Causal.Rotary = start + (nint)rotarySums;
        gradients ??= Compile();
        Launch(codes ? gradients.StatisticsOfCodes : gradients.Statistics, HopperAttentionPlan.StatisticsShape(sizes), ref call);
        Launch(gradients.OfAll, HopperAttentionPlan.GradientShape(sizes), ref call);
    }

    private static HopperCall Call(in CausalSizes sizes, Tensor q, Tensor kv, Tensor kRope, float scale, Tensor output, Tensor logSumExp) => new()
    {
        Q = TensorMap.OfHeads(q, sizes.Batch, sizes.Heads, HopperAttentionPlan.Side),
        Kv = TensorMap.OfHeads(kv, sizes.Batch, sizes.Heads, HopperAttentionPlan.Side),
        KRope = TensorMap.OfHeads(kRope, sizes.Batch, 1, HopperAttentionPlan.Side),
        Factor = scale * Log2E,
        Causal = new CausalCall(sizes, scale) { Q = new(q), Kv = new(kv), KRope = new(kRope), Output = new(output), LogSumExp = logSumExp.Address },
    };

    private Gradients Compile()
    {
        const string OfValues = "hopper_statistics<false>", OfCodes = "hopper_statistics<true>";
        string name = "hopper_gradients" + bound;
        KernelModule statistics = context.Module("hopper_attention_statistics.cu", OfValues, OfCodes);
        return new Gradients(statistics.Kernel(OfValues), statistics.Kernel(OfCodes), context.Module("hopper_attention_gradient.cu", name).Kernel(name));
    }

    private void Launch(Kernel kernel, in LaunchShape shape, ref HopperCall call)
    {
        if (report is not null) call.Report = report.Clear();
        kernel.LaunchWith(shape, in call);
        report?.Check(kernel);
    }

    private sealed record Gradients(Kernel Statistics, Kernel StatisticsOfCodes, Kernel OfAll);

    /// <summary>Parts of the workspace, one behind the other.</summary>
    private struct WorkspacePlan
    {
        private const long Alignment = 256;

        public long Bytes { get; private set; }

        public long Add(long bytes)
        {
            long first = Bytes;
            Bytes += LaunchShape.Cover(bytes, Alignment) * Alignment;
            return first;
        }
    }

    /// <summary>HopperCausal of hopper_attention.cuh, byte for byte.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 896)]
    private struct HopperCall
    {
        public TensorMap Q, Kv, KRope, Doutput, Statistics;
        public CausalCall Causal;
        public RowsArgument OutputScales;
        public nint TileStatistics, Report, QuerySums, Counts;
        public float Factor;
        public int Slots, CountWords;
    }
}

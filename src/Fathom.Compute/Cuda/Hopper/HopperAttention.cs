// Causal attention at DeepSeek-V3's head dimensions by wgmma (hopper_attention.cu, hopper_attention_gradient.cu). Operands have been checked
// by the caller, and the plan says that the kernels can take them.
// Floors of 4,096 tokens and 128 heads at 800 TFLOP/s of the tensor cores: forward 0.69 TFLOP, 0.86 ms; backward, which computes scores and
// their gradients twice, 2.47 TFLOP, 3.1 ms.
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>One way of the causal operators, for GPUs of compute capability 9.0.</summary>
/// <param name="context">The GPU; a kernel is compiled when it is first wanted.</param>
/// <param name="bounded">Whether waits inside of kernels give up after two seconds and are reported, which waits for every kernel; for tests.</param>
internal sealed class HopperAttention(CudaContext context, bool bounded = false)
{
    private const int RowThreads = 256, Alignment = 256;
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
        int groupHeads = HopperAttentionPlan.GroupHeads(sizes, context.Multiprocessors), groups = (int)LaunchShape.Cover(sizes.Heads, groupHeads);
        long statisticRows = HopperAttentionPlan.StatisticRows(sizes), rotary = groups * sizes.QueryTokens * sizes.Rope;
        long statisticBytes = LaunchShape.Cover(statisticRows * HopperAttentionPlan.TileStatistics * sizeof(float), Alignment) * Alignment;
        nint workspace = context.Workspace(statisticBytes + rotary * sizeof(float));
        HopperCall call = Call(sizes, q, kv, kRope, scale, output.Elements, logSumExp);
        bool codes = output.Layout != ScaleLayout.None;
        if (codes) call.OutputScales = new(output.Scales);
        call.Doutput = TensorMap.OfHeads(doutput, sizes.Batch, sizes.Heads, HopperAttentionPlan.Side);
        call.Statistics = TensorMap.OfRows(workspace, HopperAttentionPlan.TileStatistics, statisticRows);
        call.TileStatistics = workspace;
        call.Causal.Doutput = new(doutput);
        call.Causal.Dq = new(dq);
        call.Causal.Dkv = new(dkv);
        call.Causal.DkRope = new(dkRope);
        call.Causal.Rotary = workspace + (nint)statisticBytes;
        call.Causal.GroupHeads = groupHeads;
        call.Causal.Groups = groups;
        gradients ??= Compile();
        Launch(codes ? gradients.StatisticsOfCodes : gradients.Statistics, HopperAttentionPlan.StatisticsShape(sizes), ref call);
        Launch(gradients.OfKeys, HopperAttentionPlan.KeyGradientShape(sizes, groups), ref call);
        Launch(gradients.OfQueries, HopperAttentionPlan.QueryGradientShape(sizes, context.Multiprocessors), ref call);
        gradients.SumRotary.LaunchWith(new LaunchShape(LaunchShape.Cover(sizes.QueryTokens * sizes.Rope, RowThreads), RowThreads), call.Causal);
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
        string[] names = ["hopper_statistics<false>", "hopper_statistics<true>", "hopper_key_gradient" + bound, "hopper_query_gradient" + bound];
        KernelModule module = context.Module("hopper_attention_gradient.cu", names), sums = context.Module("attention.cu", "sum_rotary<bf16>");
        return new Gradients(module.Kernel(names[0]), module.Kernel(names[1]), module.Kernel(names[2]), module.Kernel(names[3]), sums.Kernel("sum_rotary<bf16>"));
    }

    private void Launch(Kernel kernel, in LaunchShape shape, ref HopperCall call)
    {
        if (report is not null) call.Report = report.Clear();
        kernel.LaunchWith(shape, in call);
        report?.Check(kernel);
    }

    private sealed record Gradients(Kernel Statistics, Kernel StatisticsOfCodes, Kernel OfKeys, Kernel OfQueries, Kernel SumRotary);

    /// <summary>HopperCausal of hopper_attention.cuh, byte for byte.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 896)]
    private struct HopperCall
    {
        public TensorMap Q, Kv, KRope, Doutput, Statistics;
        public CausalCall Causal;
        public RowsArgument OutputScales;
        public nint TileStatistics, Report;
        public float Factor;
    }
}

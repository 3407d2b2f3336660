// Attention on a GPU: checks, the choice of kernels (CudaAttentionPlan.cs), launches; the kernels are in attention.cu (any type and
// size), attention_mma.cu (tensor cores), hopper_attention*.cu (Hopper's, by HopperAttention.cs) and attention_decode*.cu. Kernels are compiled
// for head dimensions when these first come.
// Floors of 4096 tokens and V3's 128 heads of 192/128: 0.69 TFLOP forward, 1.2 ms at 560 TFLOP/s; backward 1.78 TFLOP in five products, of
// which those that any chip has compute seven (scores and their gradient once for queries and once for keys).
using Fathom.Compute.Cuda.Hopper;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>
/// Attention without a T x T matrix and, for decode, without keys and values. Activations are F32, or BF16 with sums in F32. The same
/// call gives the same bits.
/// </summary>
internal sealed partial class CudaAttention : IAttentionOperators
{
    private const int RowThreads = 256;

    private readonly CudaContext context;
    private readonly Kernel deltaF32, deltaBF16, sumRotaryF32, sumRotaryBF16;
    private readonly HopperAttention hopper;
    private readonly Dictionary<CausalVariant, Kernel> forwards = [];
    private readonly Dictionary<CausalVariant, Gradients> gradients = [];

    public CudaAttention(CudaContext context)
    {
        this.context = context;
        hopper = new HopperAttention(context);
        KernelModule rows = context.Module("attention.cu", "causal_delta<float>", "causal_delta<bf16>", "sum_rotary<float>", "sum_rotary<bf16>");
        (deltaF32, deltaBF16) = (rows.Kernel("causal_delta<float>"), rows.Kernel("causal_delta<bf16>"));
        (sumRotaryF32, sumRotaryBF16) = (rows.Kernel("sum_rotary<float>"), rows.Kernel("sum_rotary<bf16>"));
    }

    public void CausalForward(Tensor q, Tensor kv, Tensor kRope, float scale, int batch, Tensor output, Tensor logSumExp)
    {
        DType type = ActivationType(AttentionChecks.Forward, q);
        CausalSizes sizes = AttentionChecks.CheckForward(type, q, kv, kRope, batch, output, logSumExp);
        bool aligned = CausalVariant.IsAligned(q) && CausalVariant.IsAligned(kv) && CausalVariant.IsAligned(kRope) && CausalVariant.IsAligned(output);
        if (HopperAttentionPlan.Takes(type, sizes, scale, aligned, context.Capability))
        {
            hopper.Forward(sizes, q, kv, kRope, scale, output, logSumExp);
            return;
        }

        var variant = CausalVariant.Choose(type, sizes, aligned, context.SharedBytesPerBlock);
        var call = new CausalCall(sizes, scale) { Q = new(q), Kv = new(kv), KRope = new(kRope), Output = new(output), LogSumExp = logSumExp.Address };
        Forward(variant).LaunchWith(variant.ForwardShape(sizes), call);
    }

    public void CausalBackward(
        Tensor q, Tensor kv, Tensor kRope, in ScaledTensor output, Tensor logSumExp, Tensor doutput,
        float scale, int batch, Tensor dq, Tensor dkv, Tensor dkRope)
    {
        DType type = ActivationType(AttentionChecks.Backward, q);
        CausalSizes sizes = AttentionChecks.CheckBackward(type, q, kv, kRope, output, logSumExp, doutput, batch, dq, dkv, dkRope);
        if (sizes.QueryTokens == 0) return;
        bool aligned = CausalVariant.IsAligned(q) && CausalVariant.IsAligned(kv) && CausalVariant.IsAligned(kRope) && CausalVariant.IsAligned(doutput)
            && CausalVariant.IsAligned(dq) && CausalVariant.IsAligned(dkv);
        if (HopperAttentionPlan.Takes(type, sizes, scale, aligned && CausalVariant.IsAligned(dkRope) && HopperAttentionPlan.ReadsOutput(output), context.Capability))
        {
            hopper.Backward(sizes, q, kv, kRope, output, logSumExp, doutput, scale, dq, dkv, dkRope);
            return;
        }

        Tensor values = AttentionChecks.Values(output);
        var variant = CausalVariant.Choose(type, sizes, aligned, context.SharedBytesPerBlock);
        int groupHeads = CausalVariant.GroupHeads(sizes, context.Multiprocessors), groups = (int)LaunchShape.Cover(sizes.Heads, groupHeads);
        long rows = sizes.QueryTokens * sizes.Heads, deltaBytes = LaunchShape.Cover(rows * sizeof(float), 256) * 256;
        nint workspace = context.Workspace(deltaBytes + groups * sizes.QueryTokens * sizes.Rope * sizeof(float));
        var call = new CausalCall(sizes, scale)
        {
            Q = new(q),
            Kv = new(kv),
            KRope = new(kRope),
            Output = new(values),
            Doutput = new(doutput),
            Dq = new(dq),
            Dkv = new(dkv),
            DkRope = new(dkRope),
            LogSumExp = logSumExp.Address,
            Delta = workspace,
            Rotary = workspace + (nint)deltaBytes,
            GroupHeads = groupHeads,
            Groups = groups,
        };
        Gradients kernels = GradientsOf(variant);
        (type == DType.F32 ? deltaF32 : deltaBF16).LaunchWith(new LaunchShape(LaunchShape.Cover(rows, RowThreads / 32), RowThreads), call);
        kernels.OfKeys.LaunchWith(variant.KeyGradientShape(sizes, groups), call);
        kernels.OfValues?.LaunchWith(variant.ValueGradientShape(sizes), call);
        kernels.OfQueries.LaunchWith(variant.QueryGradientShape(sizes), call);
        (type == DType.F32 ? sumRotaryF32 : sumRotaryBF16).LaunchWith(new LaunchShape(LaunchShape.Cover(sizes.QueryTokens * sizes.Rope, RowThreads), RowThreads), call);
    }

    private static DType ActivationType(string op, in Tensor q) => q.DType is DType.F32 or DType.BF16
        ? q.DType
        : throw new ArgumentException($"{op}: q is {q}, expected F32 or BF16");

    private Kernel Forward(in CausalVariant variant)
    {
        if (!forwards.TryGetValue(variant, out Kernel? kernel))
            forwards[variant] = kernel = context.Module(variant.File, variant.Forward).Kernel(variant.Forward);
        return kernel;
    }

    private Gradients GradientsOf(in CausalVariant variant)
    {
        if (gradients.TryGetValue(variant, out Gradients? known)) return known;
        string[] names = variant.TensorCores ? [variant.QueryGradient, variant.KeyGradient] : [variant.QueryGradient, variant.KeyGradient, variant.ValueGradient];
        KernelModule module = context.Module(variant.File, names);
        return gradients[variant] = new Gradients(module.Kernel(names[0]), module.Kernel(names[1]), names.Length > 2 ? module.Kernel(names[2]) : null);
    }

    private sealed record Gradients(Kernel OfQueries, Kernel OfKeys, Kernel? OfValues);
}

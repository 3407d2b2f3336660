// Routing on a GPU: this file checks and launches what chooses experts, CudaRouting.Movement.cs what carries tokens to them and back. Nothing
// waits for the GPU: counts and offsets stay there. For V3's router over 4096 tokens the floor of the choice is 8 MB or 2 µs; it is
// bound by the exponentials in F64 and the steps from one chosen expert to the next.
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="IRoutingOperators"/> on a GPU. Expert numbers, slots and rows are not checked, since they lie on the device.</summary>
internal sealed partial class CudaRouting : IRoutingOperators
{
    private const int Warp = 32;
    private const int MostWarps = 8;
    private const int TokensOfPiece = 64;
    private const int SharedBytesOfBlock = 48 << 10;
    private readonly CudaContext context;
    private readonly Kernel choose;
    private readonly Kernel chooseGradient;
    private readonly Kernel balancePieces;
    private readonly Kernel balanceLoss;
    private readonly Kernel updateBias;

    public CudaRouting(CudaContext context)
    {
        this.context = context;
        KernelModule module = context.Module("routing.cu", "choose_experts", "choose_experts_gradient", "balance_pieces", "balance_loss", "update_bias");
        (choose, chooseGradient) = (module.Kernel("choose_experts"), module.Kernel("choose_experts_gradient"));
        (balancePieces, balanceLoss) = (module.Kernel("balance_pieces"), module.Kernel("balance_loss"));
        updateBias = module.Kernel("update_bias");
        movement = new MovementKernels(context);
    }

    public void Choose(Tensor logits, Tensor bias, RoutingOptions options, Tensor scores, Tensor experts, Tensor gates, Tensor load)
    {
        long tokens = RoutingChecks.Choose(logits, bias, options, scores, experts, gates, load);
        var router = new Router(options);
        var arguments = new ChoiceArguments
        {
            Logits = logits.Address,
            LogitsStride = logits.RowStride,
            Bias = options.Method == TopKMethod.NoAuxTc ? bias.Address : 0,
            Scores = scores.Address,
            ScoresStride = scores.RowStride,
            Experts = experts.Address,
            ExpertsStride = experts.RowStride,
            Gates = gates.Address,
            GatesStride = gates.RowStride,
            Load = load.Address,
            Tokens = tokens,
            Router = router,
        };
        choose.LaunchWith(WarpPerToken(tokens, 4L * (options.Experts + router.Groups + options.TopK)), arguments);
    }

    public void ChooseGradient(
        Tensor dgates, Tensor scores, Tensor experts, Tensor gates, RoutingOptions options,
        Tensor balanceFrequencies, float balanceScale, Tensor dlogits)
    {
        long tokens = scores.Rows, perSequence = RoutingChecks.ChooseGradient(dgates, scores, experts, options, balanceFrequencies, dlogits);
        var arguments = new ChoiceGradientArguments
        {
            Dgates = dgates.Address,
            DgatesStride = dgates.RowStride,
            Scores = scores.Address,
            ScoresStride = scores.RowStride,
            Experts = experts.Address,
            ExpertsStride = experts.RowStride,
            Frequencies = perSequence > 0 ? balanceFrequencies.Address : 0,
            FrequenciesStride = balanceFrequencies.RowStride,
            Dlogits = dlogits.Address,
            DlogitsStride = dlogits.RowStride,
            Tokens = tokens,
            TokensOfSequence = perSequence,
            BalanceScale = balanceScale,
            Router = new Router(options),
        };
        chooseGradient.LaunchWith(WarpPerToken(tokens, 8L * options.Experts), arguments);
    }

    public void BalanceLoss(Tensor scores, int topK, int batch, Tensor frequencies, Tensor losses)
    {
        int experts = checked((int)scores.Columns);
        long perSequence = RoutingChecks.BalanceLoss(scores, topK, batch, frequencies, losses);

        // Each piece of a sequence leaves its sums here: the probabilities of all, then the counts.
        int pieces = checked((int)LaunchShape.Cover(perSequence, TokensOfPiece));
        long entries = (long)batch * pieces * experts;
        nint sums = context.Workspace(Math.Max(entries, 1) * (sizeof(double) + sizeof(int))), counts = sums + (nint)(entries * sizeof(double));
        long bytesOfWarp = (sizeof(double) + 2 * sizeof(int)) * (long)experts;
        int warps = WarpsOfBlock(bytesOfWarp);
        balancePieces.Launch(
            new LaunchShape((pieces, batch, 1), warps * Warp, checked((int)(warps * bytesOfWarp))),
            scores, scores.RowStride, experts, topK, perSequence, TokensOfPiece, sums, counts);
        balanceLoss.Launch(new LaunchShape(batch, MostWarps * Warp), sums, counts, experts, topK, perSequence, pieces, frequencies, frequencies.RowStride, losses);
    }

    public void UpdateBias(Tensor bias, Tensor load, float gamma)
    {
        const string Op = "update routing bias";
        Require.Vector(Op, "load", load, load.Elements, DType.I64);
        Require.Vector(Op, "bias", bias, load.Elements);
        Require.Writable(Op, "bias", bias);
        updateBias.Launch(new LaunchShape(1, MostWarps * Warp), bias, load, checked((int)load.Elements), gamma);
    }

    /// <summary>One warp a token, with so much shared memory each.</summary>
    internal static LaunchShape WarpPerToken(long tokens, long bytesOfWarp)
    {
        int warps = WarpsOfBlock(bytesOfWarp);
        return new LaunchShape(LaunchShape.Cover(tokens, warps), warps * Warp, checked((int)(warps * bytesOfWarp)));
    }

    /// <summary>Warps of a block: eight, or fewer where they would take more shared memory than every GPU gives without being asked.</summary>
    internal static int WarpsOfBlock(long bytesOfWarp) => (int)Math.Clamp(SharedBytesOfBlock / bytesOfWarp, 1, MostWarps);

    /// <summary>Router of routing.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private readonly struct Router(RoutingOptions options)
    {
        public readonly int Experts = options.Experts;
        public readonly int TopK = options.TopK;
        public readonly int Groups = options.Method == TopKMethod.Greedy ? 0 : options.Groups;
        public readonly int TopKGroups = options.TopKGroups;
        public readonly int Softmax = options.Scoring == ScoringFunction.Softmax ? 1 : 0;
        public readonly int Pairs = options.Method == TopKMethod.NoAuxTc ? 1 : 0;
        public readonly int Normalize = options.NormalizeTopK ? 1 : 0;
        public readonly float ScalingFactor = options.ScalingFactor;
    }

    /// <summary>ChoiceArguments of routing.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ChoiceArguments
    {
        public nint Logits;
        public long LogitsStride;
        public nint Bias;
        public nint Scores;
        public long ScoresStride;
        public nint Experts;
        public long ExpertsStride;
        public nint Gates;
        public long GatesStride;
        public nint Load;
        public long Tokens;
        public Router Router;
    }

    /// <summary>ChoiceGradientArguments of routing.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ChoiceGradientArguments
    {
        public nint Dgates;
        public long DgatesStride;
        public nint Scores;
        public long ScoresStride;
        public nint Experts;
        public long ExpertsStride;
        public nint Frequencies;
        public long FrequenciesStride;
        public nint Dlogits;
        public long DlogitsStride;
        public long Tokens;
        public long TokensOfSequence;
        public float BalanceScale;
        public Router Router;
    }
}

// Routing on the worker team: this file checks arguments and launches, CpuRouting.Choice.cs scores and chooses, and
// CpuRouting.Movement.cs carries tokens to experts and back. Loads and offsets are integers, so threads may add them in any order.
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="IRoutingOperators"/> on the worker team.</summary>
internal sealed unsafe partial class CpuRouting(WorkerTeam team) : IRoutingOperators
{
    private const long PieceTokens = 64;

    public void Choose(Tensor logits, Tensor bias, RoutingOptions options, Tensor scores, Tensor experts, Tensor gates, Tensor load)
    {
        long tokens = RoutingChecks.Choose(logits, bias, options, scores, experts, gates, load);
        float* added = options.Method == TopKMethod.NoAuxTc && !bias.IsEmpty ? bias.Pointer<float>() : null;
        var kernel = new ChoiceKernel(new(logits), added, options, new(scores), new(experts), new(gates), load.Pointer<long>());
        Ranges.For(team, tokens, PieceTokens, kernel);
    }

    public void ChooseGradient(
        Tensor dgates, Tensor scores, Tensor experts, Tensor gates, RoutingOptions options,
        Tensor balanceFrequencies, float balanceScale, Tensor dlogits)
    {
        long tokens = scores.Rows, perSequence = RoutingChecks.ChooseGradient(dgates, scores, experts, options, balanceFrequencies, dlogits);
        var kernel = new GradientKernel(
            new(dgates), new(scores), new(experts), options, new(balanceFrequencies), perSequence, balanceScale, new(dlogits));
        Ranges.For(team, tokens, PieceTokens, kernel);
    }

    public void BalanceLoss(Tensor scores, int topK, int batch, Tensor frequencies, Tensor losses)
    {
        int experts = checked((int)scores.Columns);
        long perSequence = RoutingChecks.BalanceLoss(scores, topK, batch, frequencies, losses);
        if (batch == 0) return;

        // Each piece of a sequence leaves its sums here: first the probabilities, then the counts.
        long pieces = (perSequence + PieceTokens - 1) / PieceTokens;
        double* sums = (double*)Scratch.OfJob.Take(batch * pieces * experts * (sizeof(double) + sizeof(int)));
        int* counts = (int*)(sums + batch * pieces * experts);
        Ranges.For(team, batch * pieces, 1, new BalanceKernel(new(scores), experts, topK, perSequence, pieces, sums, counts));
        for (long b = 0; b < batch; b++)
        {
            double loss = 0;
            for (int e = 0; e < experts; e++)
            {
                double probability = 0;
                long chosen = 0;
                for (long unit = b * pieces; unit < (b + 1) * pieces; unit++)
                {
                    probability += sums[unit * experts + e];
                    chosen += counts[unit * experts + e];
                }

                double frequency = (double)chosen * experts / ((double)topK * perSequence);
                frequencies.Pointer<float>()[b * frequencies.RowStride + e] = (float)frequency;
                loss += frequency * (probability / perSequence);
            }

            losses.Pointer<float>()[b] = (float)loss;
        }
    }

    public void Sort(Tensor experts, Tensor rowOffsets, Tensor slotOfRow, Tensor rowOfSlot)
    {
        const string Op = "sort slots";
        long slots = experts.Elements, count = rowOffsets.Elements - 1;
        Require.Vector(Op, "experts", experts, slots, DType.I32);
        Require.That(count >= 1, Op, "rowOffsets has no room for an expert, expected [E + 1]");
        Require.Vector(Op, "rowOffsets", rowOffsets, count + 1, DType.I32);
        Require.Vector(Op, "slotOfRow", slotOfRow, slots, DType.I32);
        Require.Vector(Op, "rowOfSlot", rowOfSlot, slots, DType.I32);
        CountingSort(experts.AsSpan<int>(), rowOffsets.AsSpan<int>(), slotOfRow.AsSpan<int>(), rowOfSlot.AsSpan<int>());
    }

    public void Dispatch(Tensor x, Tensor slotOfRow, int topK, Tensor y)
    {
        const string Op = "dispatch";
        Require.That(topK >= 1, Op, "topK must be positive");
        Require.Matrix(Op, "x", x, x.Rows, y.Columns, y.DType);
        Require.Vector(Op, "slotOfRow", slotOfRow, slotOfRow.Elements, DType.I32);
        Require.Matrix(Op, "y", y, slotOfRow.Elements, y.Columns, y.DType);
        Require.Writable(Op, "y", y);
        Ranges.For(team, y.Rows, Ranges.Grain(2 * y.Columns * y.DType.SizeInBytes()), new DispatchKernel(x, slotOfRow.Pointer<int>(), topK, y));
    }

    public void Combine(Tensor y, Tensor rowOfSlot, Tensor output, bool accumulate)
    {
        const string Op = "combine";
        long topK = rowOfSlot.Columns;
        Require.That(topK >= 1, Op, "rowOfSlot has no column");
        Require.Matrix(Op, "y", y, y.Rows, output.Columns);
        Require.Vector(Op, "rowOfSlot", rowOfSlot, rowOfSlot.Elements, DType.I32);
        Require.Matrix(Op, "output", output, rowOfSlot.Rows, output.Columns);
        Require.Writable(Op, "output", output);
        var kernel = new CombineKernel(new(y), y.Rows, rowOfSlot.Pointer<int>(), topK, new(output), output.Columns, accumulate);
        Ranges.For(team, output.Rows, Ranges.Grain(4 * output.Columns * (topK + 1)), kernel);
    }

    public void SlotsToRows(Tensor from, Tensor slotOfRow, Tensor to)
    {
        RoutingChecks.Permutation("slots to rows", from, slotOfRow, to);
        Ranges.For(team, slotOfRow.Elements, 8 << 10, new Gather(from.Pointer<float>(), from.Elements, slotOfRow.Pointer<int>(), to.Pointer<float>()));
    }

    public void RowsToSlots(Tensor from, Tensor slotOfRow, Tensor to)
    {
        RoutingChecks.Permutation("rows to slots", from, slotOfRow, to);
        Ranges.For(team, slotOfRow.Elements, 8 << 10, new Scatter(from.Pointer<float>(), slotOfRow.Pointer<int>(), to.Pointer<float>(), to.Elements));
    }

    public void UpdateBias(Tensor bias, Tensor load, float gamma)
    {
        Require.Vector("update routing bias", "load", load, load.Elements, DType.I64);
        Require.Vector("update routing bias", "bias", bias, load.Elements);
        Require.Writable("update routing bias", "bias", bias);
        Span<long> loads = load.AsSpan<long>();
        Span<float> biases = bias.AsSpan<float>();
        long total = 0;
        foreach (long one in loads) total += one;

        // mean - load has the sign of total - load·E.
        for (int e = 0; e < loads.Length; e++) biases[e] += gamma * Math.Sign(total - loads[e] * loads.Length);
    }

    private static void OutOfRange(string op, string what, long index, long count) =>
        Require.That(false, op, $"{what} {index} is outside 0 to {count - 1}");
}

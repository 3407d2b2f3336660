// Scores, choice, gates and their gradients. A router's own share of a step is small and its choice is all or nothing, so scores are
// computed in F64 and rounded once: two backends then choose the same experts unless their logits differ.
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cpu;

internal sealed unsafe partial class CpuRouting
{
    private readonly struct ChoiceKernel(
        RowPointers<float> logits, float* bias, RoutingOptions options, RowPointers<float> scores, RowPointers<int> experts,
        RowPointers<float> gates, long* load) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            int count = options.Experts, topK = options.TopK, most = Math.Max(topK, options.Groups);
            byte* memory = Scratch.OfTile.Take(16L * count + 12L * most);
            var exponentials = new Span<double>(memory, count);
            var choice = new Span<float>(memory + 8L * count, count);
            var counts = new Span<int>(memory + 12L * count, count);
            var best = new Span<float>(memory + 16L * count, most);
            var groups = new Span<float>(memory + 16L * count + 4L * most, most);
            var keptGroups = new Span<int>(memory + 16L * count + 8L * most, most);
            counts.Clear();
            for (long m = start; m < end; m++)
            {
                var score = new Span<float>(scores[m], count);
                Score(new ReadOnlySpan<float>(logits[m], count), score, exponentials);
                for (int e = 0; e < count; e++) choice[e] = score[e] + (bias == null ? 0 : bias[e]);
                if (options.Method != TopKMethod.Greedy) MaskGroups(choice, groups, keptGroups, best);
                var chosen = new Span<int>(experts[m], topK);
                TopK.Highest(choice, chosen, best[..topK]);
                Gate(score, chosen, new Span<float>(gates[m], topK));
                foreach (int e in chosen) counts[e]++;
            }

            for (int e = 0; e < count; e++) Interlocked.Add(ref load[e], counts[e]);
        }

        private void Score(ReadOnlySpan<float> logit, Span<float> score, Span<double> exponentials)
        {
            if (options.Scoring == ScoringFunction.Sigmoid)
            {
                for (int e = 0; e < score.Length; e++) score[e] = (float)(1 / (1 + Math.Exp(-(double)logit[e])));
                return;
            }

            double largest = double.NegativeInfinity, sum = 0;
            foreach (float one in logit) largest = Math.Max(largest, one);
            for (int e = 0; e < score.Length; e++) sum += exponentials[e] = Math.Exp(logit[e] - largest);
            for (int e = 0; e < score.Length; e++) score[e] = (float)(exponentials[e] / sum);
        }

        // Experts outside the best groups cannot be chosen.
        private void MaskGroups(Span<float> choice, Span<float> groups, Span<int> kept, Span<float> best)
        {
            int size = options.Experts / options.Groups, counted = options.Method == TopKMethod.NoAuxTc ? Math.Min(2, size) : 1;
            Span<int> indices = stackalloc int[2];
            Span<float> values = stackalloc float[2];
            for (int g = 0; g < options.Groups; g++)
            {
                TopK.Highest(choice.Slice(g * size, size), indices[..counted], values[..counted]);
                groups[g] = counted == 2 ? values[0] + values[1] : values[0];
            }

            kept = kept[..options.TopKGroups];
            TopK.Highest(groups[..options.Groups], kept, best[..options.TopKGroups]);
            for (int g = 0; g < options.Groups; g++)
            {
                if (!kept.Contains(g)) choice.Slice(g * size, size).Fill(float.NegativeInfinity);
            }
        }

        private void Gate(ReadOnlySpan<float> score, ReadOnlySpan<int> chosen, Span<float> gate)
        {
            double sum = 0;
            foreach (int e in chosen) sum += score[e];
            double scale = options.NormalizeTopK ? options.ScalingFactor / (sum + 1e-20) : options.ScalingFactor;
            for (int k = 0; k < chosen.Length; k++) gate[k] = (float)(score[chosen[k]] * scale);
        }
    }

    private readonly struct GradientKernel(
        RowPointers<float> dgates, RowPointers<float> scores, RowPointers<int> experts, RoutingOptions options,
        RowPointers<float> frequencies, long perSequence, float balanceScale, RowPointers<float> dlogits) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            int count = options.Experts, topK = options.TopK;
            var dscore = new Span<double>(Scratch.OfTile.Take(8L * count), count);
            for (long m = start; m < end; m++)
            {
                var score = new ReadOnlySpan<float>(scores[m], count);
                dscore.Clear();
                Gates(new ReadOnlySpan<float>(dgates[m], topK), score, new ReadOnlySpan<int>(experts[m], topK), dscore);
                if (perSequence > 0) Balance(score, new ReadOnlySpan<float>(frequencies[m / perSequence], count), dscore);
                Logits(score, dscore, new Span<float>(dlogits[m], count));
            }
        }

        private void Gates(ReadOnlySpan<float> dgate, ReadOnlySpan<float> score, ReadOnlySpan<int> chosen, Span<double> dscore)
        {
            double sum = 1e-20, weighted = 0;
            for (int k = 0; k < chosen.Length; k++)
            {
                int e = chosen[k];
                if ((uint)e >= (uint)score.Length) OutOfRange("choose experts gradient", "expert", e, score.Length);
                sum += score[e];
                weighted += (double)dgate[k] * score[e];
            }

            double scale = options.NormalizeTopK ? options.ScalingFactor / sum : options.ScalingFactor;
            double mean = options.NormalizeTopK ? weighted / sum : 0;
            for (int k = 0; k < chosen.Length; k++) dscore[chosen[k]] += scale * (dgate[k] - mean);
        }

        // P_i = mean over tokens of s_i / Σ_j s_j, so d(Σ f P) / ds_j = (f_j - Σ_i f_i s_i / S) / (S T).
        private void Balance(ReadOnlySpan<float> score, ReadOnlySpan<float> frequency, Span<double> dscore)
        {
            double total = 0, weighted = 0;
            for (int e = 0; e < score.Length; e++)
            {
                total += score[e];
                weighted += (double)frequency[e] * score[e];
            }

            double mean = weighted / total, scale = balanceScale / (total * perSequence);
            for (int e = 0; e < score.Length; e++) dscore[e] += scale * (frequency[e] - mean);
        }

        private void Logits(ReadOnlySpan<float> score, ReadOnlySpan<double> dscore, Span<float> dlogit)
        {
            if (options.Scoring == ScoringFunction.Sigmoid)
            {
                for (int e = 0; e < score.Length; e++) dlogit[e] = (float)(dscore[e] * score[e] * (1 - (double)score[e]));
                return;
            }

            double projection = 0;
            for (int e = 0; e < score.Length; e++) projection += dscore[e] * score[e];
            for (int e = 0; e < score.Length; e++) dlogit[e] = (float)(score[e] * (dscore[e] - projection));
        }
    }

    private readonly struct BalanceKernel(
        RowPointers<float> scores, int experts, int topK, long perSequence, long pieces, double* sums, int* counts) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            byte* memory = Scratch.OfTile.Take(8L * topK);
            var chosen = new Span<int>(memory, topK);
            var best = new Span<float>(memory + 4L * topK, topK);
            for (long unit = start; unit < end; unit++)
            {
                var sum = new Span<double>(sums + unit * experts, experts);
                var count = new Span<int>(counts + unit * experts, experts);
                sum.Clear();
                count.Clear();
                long first = unit % pieces * PieceTokens, last = Math.Min(perSequence, first + PieceTokens), origin = unit / pieces * perSequence;
                for (long t = origin + first; t < origin + last; t++)
                {
                    var score = new ReadOnlySpan<float>(scores[t], experts);
                    TopK.Highest(score, chosen, best);
                    foreach (int e in chosen) count[e]++;
                    double total = 0;
                    foreach (float s in score) total += s;
                    double share = 1 / total;
                    for (int e = 0; e < score.Length; e++) sum[e] += score[e] * share;
                }
            }
        }
    }
}

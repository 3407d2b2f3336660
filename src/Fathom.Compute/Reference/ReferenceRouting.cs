using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="IRoutingOperators"/>.</summary>
internal sealed class ReferenceRouting : IRoutingOperators
{
    public void Choose(Tensor logits, Tensor bias, RoutingOptions options, Tensor scores, Tensor experts, Tensor gates, Tensor load)
    {
        int count = options.Experts;
        for (long m = 0; m < logits.Rows; m++)
        {
            for (int e = 0; e < count; e++) scores.Set(m, e, Score(logits, options.Scoring, m, e));

            // The choice compares F32 values, as every backend does: a tie in F32 goes to the lower index.
            var choice = new float[count];
            bool biased = options.Method == TopKMethod.NoAuxTc && !bias.IsEmpty;
            for (int e = 0; e < count; e++) choice[e] = (float)scores.Get(m, e) + (biased ? (float)bias.Get(e) : 0);
            if (options.Method != TopKMethod.Greedy) MaskGroups(choice, options);

            double sum = 0;
            int[] best = Highest(choice, options.TopK);
            for (int k = 0; k < options.TopK; k++) sum += scores.Get(m, best[k]);
            double scale = options.NormalizeTopK ? options.ScalingFactor / (sum + 1e-20) : options.ScalingFactor;
            for (int k = 0; k < options.TopK; k++)
            {
                experts.Row<int>(m)[k] = best[k];
                gates.Set(m, k, scores.Get(m, best[k]) * scale);
                load.AsSpan<long>()[best[k]]++;
            }
        }
    }

    public void ChooseGradient(
        Tensor dgates, Tensor scores, Tensor experts, Tensor gates, RoutingOptions options,
        Tensor balanceFrequencies, float balanceScale, Tensor dlogits)
    {
        int count = options.Experts;
        long perSequence = balanceFrequencies.IsEmpty ? 0 : scores.Rows / balanceFrequencies.Rows;
        for (long m = 0; m < scores.Rows; m++)
        {
            var dscores = new double[count];
            double sum = 0, weighted = 0;
            for (int k = 0; k < options.TopK; k++)
            {
                sum += scores.Get(m, experts.Row<int>(m)[k]);
                weighted += dgates.Get(m, k) * scores.Get(m, experts.Row<int>(m)[k]);
            }

            sum += 1e-20;
            for (int k = 0; k < options.TopK; k++)
            {
                dscores[experts.Row<int>(m)[k]] += options.NormalizeTopK
                    ? options.ScalingFactor * (dgates.Get(m, k) / sum - weighted / (sum * sum))
                    : options.ScalingFactor * dgates.Get(m, k);
            }

            if (perSequence > 0)
            {
                // P_i = mean_t s_i / Σ_j s_j, so d(Σ f P)/ds_j = (f_j - Σ_i f_i s_i / S) / (S T).
                double total = 0, mean = 0;
                for (int e = 0; e < count; e++)
                {
                    total += scores.Get(m, e);
                    mean += balanceFrequencies.Get(m / perSequence, e) * scores.Get(m, e);
                }

                for (int e = 0; e < count; e++)
                {
                    double f = balanceFrequencies.Get(m / perSequence, e);
                    dscores[e] += balanceScale * (f - mean / total) / (total * perSequence);
                }
            }

            double projection = 0;
            for (int e = 0; e < count; e++) projection += dscores[e] * scores.Get(m, e);
            for (int e = 0; e < count; e++)
            {
                double s = scores.Get(m, e);
                dlogits.Set(m, e, options.Scoring == ScoringFunction.Sigmoid ? dscores[e] * s * (1 - s) : s * (dscores[e] - projection));
            }
        }
    }

    public void BalanceLoss(Tensor scores, int topK, int batch, Tensor frequencies, Tensor losses)
    {
        int count = (int)scores.Columns;
        long perSequence = scores.Rows / batch;
        for (int b = 0; b < batch; b++)
        {
            var chosen = new double[count];
            var probability = new double[count];
            for (long t = b * perSequence; t < (b + 1) * perSequence; t++)
            {
                foreach (int e in Highest(scores.Row<float>(t), topK)) chosen[e]++;
                double total = 0;
                for (int e = 0; e < count; e++) total += scores.Get(t, e);
                for (int e = 0; e < count; e++) probability[e] += scores.Get(t, e) / total / perSequence;
            }

            double loss = 0;
            for (int e = 0; e < count; e++)
            {
                double f = chosen[e] * count / ((double)topK * perSequence);
                frequencies.Set(b, e, f);
                loss += f * probability[e];
            }

            losses.Set(b, loss);
        }
    }

    public void Sort(Tensor experts, Tensor rowOffsets, Tensor slotOfRow, Tensor rowOfSlot)
    {
        Span<int> chosen = experts.AsSpan<int>(), offsets = rowOffsets.AsSpan<int>();
        int row = 0;
        for (int e = 0; e + 1 < offsets.Length; e++)
        {
            offsets[e] = row;
            for (int slot = 0; slot < chosen.Length; slot++)
            {
                if (chosen[slot] != e) continue;
                slotOfRow.AsSpan<int>()[row] = slot;
                rowOfSlot.AsSpan<int>()[slot] = row++;
            }
        }

        offsets[^1] = row;
    }

    public void Dispatch(Tensor x, Tensor slotOfRow, int topK, Tensor y)
    {
        for (long s = 0; s < y.Rows; s++)
        {
            long token = slotOfRow.GetInt(s) / topK;
            if (x.DType.SizeInBytes() == 1) x.Row<byte>(token).CopyTo(y.Row<byte>(s));
            else x.Row<float>(token).CopyTo(y.Row<float>(s));
        }
    }

    public void Combine(Tensor y, Tensor rowOfSlot, Tensor output, bool accumulate)
    {
        long topK = rowOfSlot.Columns;
        for (long m = 0; m < output.Rows; m++)
        {
            for (long d = 0; d < output.Columns; d++)
            {
                double sum = 0;
                for (long k = 0; k < topK; k++) sum += y.Get(rowOfSlot.GetInt(m * topK + k), d);
                output.Put(m, d, sum, accumulate);
            }
        }
    }

    public void SlotsToRows(Tensor from, Tensor slotOfRow, Tensor to)
    {
        for (int s = 0; s < slotOfRow.Elements; s++) to.AsSpan<float>()[s] = from.AsSpan<float>()[slotOfRow.GetInt(s)];
    }

    public void RowsToSlots(Tensor from, Tensor slotOfRow, Tensor to)
    {
        for (int s = 0; s < slotOfRow.Elements; s++) to.AsSpan<float>()[slotOfRow.GetInt(s)] = from.AsSpan<float>()[s];
    }

    public void UpdateBias(Tensor bias, Tensor load, float gamma)
    {
        Span<long> loads = load.AsSpan<long>();
        long total = 0;
        foreach (long l in loads) total += l;
        for (int e = 0; e < loads.Length; e++)
        {
            // Compare without the division: mean - load has the sign of total - load·E.
            bias.AsSpan<float>()[e] += gamma * Math.Sign(total - loads[e] * loads.Length);
        }
    }

    private static double Score(Tensor logits, ScoringFunction scoring, long row, int expert)
    {
        if (scoring == ScoringFunction.Sigmoid) return 1 / (1 + Math.Exp(-logits.Get(row, expert)));
        double max = double.NegativeInfinity, sum = 0;
        for (int e = 0; e < logits.Columns; e++) max = Math.Max(max, logits.Get(row, e));
        for (int e = 0; e < logits.Columns; e++) sum += Math.Exp(logits.Get(row, e) - max);
        return Math.Exp(logits.Get(row, expert) - max) / sum;
    }

    private static void MaskGroups(float[] choice, RoutingOptions options)
    {
        int size = options.Experts / options.Groups;
        var groupScores = new float[options.Groups];
        for (int g = 0; g < options.Groups; g++)
        {
            ReadOnlySpan<float> group = choice.AsSpan(g * size, size);
            int[] best = Highest(group, Math.Min(2, size));
            groupScores[g] = group[best[0]];
            if (options.Method == TopKMethod.NoAuxTc && size > 1) groupScores[g] += group[best[1]];
        }

        int[] kept = Highest(groupScores, options.TopKGroups);
        for (int e = 0; e < choice.Length; e++)
        {
            if (!kept.Contains(e / size)) choice[e] = float.NegativeInfinity;
        }
    }

    private static int[] Highest(ReadOnlySpan<float> values, int count)
    {
        var indices = new int[count];
        var taken = new bool[values.Length];
        for (int k = 0; k < count; k++)
        {
            int best = -1;
            for (int i = 0; i < values.Length; i++)
            {
                if (!taken[i] && (best < 0 || values[i] > values[best])) best = i;
            }

            taken[best] = true;
            indices[k] = best;
        }

        return indices;
    }
}

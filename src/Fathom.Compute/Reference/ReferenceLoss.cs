using Fathom.Compute.Operators;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="ILossOperators"/>.</summary>
internal sealed class ReferenceLoss : ILossOperators
{
    public void CrossEntropy(Tensor logits, Tensor targets, float gradientScale, Tensor losses, Tensor correct)
    {
        for (long m = 0; m < logits.Rows; m++)
        {
            Span<float> row = logits.Row<float>(m);
            int target = targets.GetInt(m), best = 0;
            for (int v = 1; v < row.Length; v++)
            {
                if (row[v] > row[best]) best = v;
            }

            double largest = row[best], sum = 0;
            for (int v = 0; v < row.Length; v++) sum += Math.Exp(row[v] - largest);
            losses.Set(m, target < 0 ? 0 : Math.Log(sum) + (largest - row[target]));
            if (!correct.IsEmpty) correct.AsSpan<int>()[(int)m] = target == best ? 1 : 0;
            if (gradientScale == 0) continue;
            for (int v = 0; v < row.Length; v++)
                row[v] = target < 0 ? 0 : (float)((Math.Exp(row[v] - largest) / sum - (v == target ? 1 : 0)) * gradientScale);
        }
    }
}

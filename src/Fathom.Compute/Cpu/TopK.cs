// The K highest of a short list, best first, ties to the lower index. One pass with an insertion into a sorted list: most values are
// turned away by one comparison.

namespace Fathom.Compute.Cpu;

/// <summary>Choice of the highest values. Every backend must choose the same, so the rule for NaN is part of it.</summary>
internal static class TopK
{
    /// <summary>
    /// Indices of the highest values, best first. A NaN is not greater than anything and nothing is greater than it: it is taken
    /// where it is the first of the values not yet taken.
    /// </summary>
    /// <param name="values">What to choose from, at least as many as indices.</param>
    /// <param name="indices">[K]: the result.</param>
    /// <param name="best">[K]: the values at these indices.</param>
    public static void Highest(ReadOnlySpan<float> values, Span<int> indices, Span<float> best)
    {
        int filled = 0;
        for (int i = 0; i < values.Length; i++)
        {
            float value = values[i];
            if (float.IsNaN(value))
            {
                HighestAmongNaN(values, indices, best);
                return;
            }

            if (filled == indices.Length && value <= best[^1]) continue;
            int place = filled < indices.Length ? filled++ : filled - 1;
            for (; place > 0 && value > best[place - 1]; place--)
            {
                best[place] = best[place - 1];
                indices[place] = indices[place - 1];
            }

            best[place] = value;
            indices[place] = i;
        }
    }

    private static void HighestAmongNaN(ReadOnlySpan<float> values, Span<int> indices, Span<float> best)
    {
        for (int k = 0; k < indices.Length; k++)
        {
            int highest = -1;
            for (int i = 0; i < values.Length; i++)
            {
                if ((highest < 0 || values[i] > values[highest]) && !indices[..k].Contains(i)) highest = i;
            }

            indices[k] = highest;
            best[k] = values[highest];
        }
    }
}

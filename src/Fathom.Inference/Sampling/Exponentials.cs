// The part of sampling that meets the whole vocabulary, in vectors. With tens of streams and a vocabulary of 100,000 it would otherwise take
// longer than the model. Sums run in one order on every machine: sixteen lanes within a piece, pieces in double precision.
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Fathom.Inference;

/// <summary>Largest element, exponentials and the search in their running sum.</summary>
internal static class Exponentials
{
    private const int Lanes = 16, Piece = 256;

    /// <summary>The first of the largest; not-a-numbers are none of them, unless all are: then 0.</summary>
    public static int IndexOfMax(ReadOnlySpan<float> values)
    {
        ReadOnlySpan<Vector512<float>> vectors = MemoryMarshal.Cast<float, Vector512<float>>(values);
        Vector512<float> largest = Vector512.Create(float.NegativeInfinity);
        foreach (Vector512<float> v in vectors) largest = Vector512.ConditionalSelect(Vector512.GreaterThan(v, largest), v, largest);
        float max = float.NegativeInfinity;
        for (int i = 0; i < Lanes; i++) max = largest[i] > max ? largest[i] : max;
        for (int i = vectors.Length * Lanes; i < values.Length; i++) max = values[i] > max ? values[i] : max;
        return Math.Max(0, values.IndexOf(max));
    }

    /// <summary>results[i] = exp((logits[i] - max) / temperature).</summary>
    /// <returns>Their sum.</returns>
    public static double Of(ReadOnlySpan<float> logits, float max, float temperature, Span<float> results)
    {
        ReadOnlySpan<Vector512<float>> from = MemoryMarshal.Cast<float, Vector512<float>>(logits);
        Span<Vector512<float>> to = MemoryMarshal.Cast<float, Vector512<float>>(results);
        Vector512<float> most = Vector512.Create(max), divisor = Vector512.Create(temperature);
        for (int i = 0; i < from.Length; i++) to[i] = Vector512.Exp((from[i] - most) / divisor);
        for (int i = from.Length * Lanes; i < logits.Length; i++) results[i] = Vector512.Exp(Vector512.Create((logits[i] - max) / temperature))[0];
        double sum = 0;
        for (int start = 0; start < logits.Length; start += Piece) sum += Sum(results.Slice(start, Math.Min(Piece, logits.Length - start)));
        return sum;
    }

    /// <summary>The first element behind which the running sum of positive numbers is above a value.</summary>
    /// <returns>Its index; the last positive one where rounding took the sum below the value; null where none is positive.</returns>
    public static int? Find(ReadOnlySpan<float> values, double value)
    {
        int? last = null;
        for (int start = 0; start < values.Length; start += Piece)
        {
            ReadOnlySpan<float> piece = values.Slice(start, Math.Min(Piece, values.Length - start));
            double sum = Sum(piece);
            if (value >= sum)
            {
                value -= sum;
                if (sum > 0) last = start + piece.LastIndexOfAnyExcept(0);
                continue;
            }

            for (int i = 0; i < piece.Length; i++)
            {
                value -= piece[i];
                if (piece[i] > 0) last = start + i;
                if (value < 0 && piece[i] > 0) return start + i;
            }
        }

        return last;
    }

    private static double Sum(ReadOnlySpan<float> piece)
    {
        ReadOnlySpan<Vector512<float>> vectors = MemoryMarshal.Cast<float, Vector512<float>>(piece);
        Vector512<float> lanes = Vector512<float>.Zero;
        foreach (Vector512<float> v in vectors) lanes += v;
        double sum = 0;
        for (int i = 0; i < Lanes; i++) sum += lanes[i];
        for (int i = vectors.Length * Lanes; i < piece.Length; i++) sum += piece[i];
        return sum;
    }
}

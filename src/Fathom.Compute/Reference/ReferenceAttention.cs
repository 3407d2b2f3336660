using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="IAttentionOperators"/>.</summary>
internal sealed class ReferenceAttention(IQuantizationOperators quantization) : IAttentionOperators
{
    public void CausalForward(Tensor q, Tensor kv, Tensor kRope, float scale, int batch, Tensor output, Tensor logSumExp)
    {
        var dims = new Dimensions(q, kv, kRope, output, batch);
        for (int b = 0; b < batch; b++)
        {
            for (int h = 0; h < dims.Heads; h++)
            {
                for (int i = 0; i < dims.Queries; i++)
                {
                    double[] p = Probabilities(dims, q, kv, kRope, scale, b, h, i, out double lse);
                    long row = ((long)b * dims.Queries + i) * dims.Heads + h;
                    for (int v = 0; v < dims.Value; v++)
                    {
                        double sum = 0;
                        for (int j = 0; j < p.Length; j++) sum += p[j] * kv.Get(dims.KeyRow(b, h, j), dims.Nope + v);
                        output.Set(row, v, sum);
                    }

                    if (!logSumExp.IsEmpty) logSumExp.Set(((long)b * dims.Heads + h) * dims.Queries + i, lse);
                }
            }
        }
    }

    public void CausalBackward(
        Tensor q, Tensor kv, Tensor kRope, in ScaledTensor output, Tensor logSumExp, Tensor doutput,
        float scale, int batch, Tensor dq, Tensor dkv, Tensor dkRope)
    {
        Tensor values = AttentionChecks.Values(output);
        var dims = new Dimensions(q, kv, kRope, values, batch);
        foreach (Tensor gradient in (ReadOnlySpan<Tensor>)[dq, dkv, dkRope])
        {
            for (long r = 0; r < gradient.Rows; r++) gradient.Row<float>(r).Clear();
        }

        for (int b = 0; b < batch; b++)
        {
            for (int h = 0; h < dims.Heads; h++)
            {
                for (int i = 0; i < dims.Queries; i++)
                {
                    double[] p = Probabilities(dims, q, kv, kRope, scale, b, h, i, out _);
                    long row = ((long)b * dims.Queries + i) * dims.Heads + h;
                    double delta = 0;
                    for (int v = 0; v < dims.Value; v++) delta += doutput.Get(row, v) * values.Get(row, v);
                    for (int j = 0; j < p.Length; j++)
                    {
                        long key = dims.KeyRow(b, h, j), rope = (long)b * dims.Keys + j;
                        double dp = 0;
                        for (int v = 0; v < dims.Value; v++)
                        {
                            dp += doutput.Get(row, v) * kv.Get(key, dims.Nope + v);
                            dkv.Put(key, dims.Nope + v, p[j] * doutput.Get(row, v), true);
                        }

                        double ds = p[j] * (dp - delta) * scale;
                        for (int d = 0; d < dims.Nope; d++)
                        {
                            dq.Put(row, d, ds * kv.Get(key, d), true);
                            dkv.Put(key, d, ds * q.Get(row, d), true);
                        }

                        for (int d = 0; d < dims.Rope; d++)
                        {
                            dq.Put(row, dims.Nope + d, ds * kRope.Get(rope, d), true);
                            dkRope.Put(rope, d, ds * q.Get(row, dims.Nope + d), true);
                        }
                    }
                }
            }
        }
    }

    public void LatentDecode(Tensor q, in ScaledTensor scaledKvB, Tensor cache, Tensor blockTables, Tensor lengths, float scale, Tensor output)
    {
        Tensor kvB = scaledKvB.Elements;
        if (scaledKvB.Layout != ScaleLayout.None) quantization.Dequantize(scaledKvB, kvB = HostMemory.Allocate(scaledKvB.Shape, DType.F32));
        LatentRow layout = LatentRow.Of(cache, kvB.Columns);
        int batch = (int)q.Shape[0], heads = (int)q.Shape[1], latent = layout.Latent, rope = layout.Rope;
        int nope = (int)q.Columns - rope, value = (int)output.Columns, blockSize = (int)cache.Shape[1];
        if (layout.IsQuantized) cache = Restored(cache, layout);
        for (int b = 0; b < batch; b++)
        {
            int length = lengths.GetInt(b);
            for (int h = 0; h < heads; h++)
            {
                long row = (long)b * heads + h, weights = (long)h * (nope + value);
                var u = new double[latent];
                for (int r = 0; r < latent; r++)
                {
                    for (int d = 0; d < nope; d++) u[r] += q.Get(row, d) * kvB.Get(weights + d, r);
                }

                var p = new double[length];
                for (int j = 0; j < length; j++)
                {
                    long at = (long)blockTables.GetInt(b * blockTables.Columns + j / blockSize) * blockSize + j % blockSize;
                    double score = 0;
                    for (int r = 0; r < latent; r++) score += u[r] * cache.Get(at, r);
                    for (int d = 0; d < rope; d++) score += q.Get(row, nope + d) * cache.Get(at, latent + d);
                    p[j] = score * scale;
                }

                Softmax(p);
                var context = new double[latent];
                for (int j = 0; j < length; j++)
                {
                    long at = (long)blockTables.GetInt(b * blockTables.Columns + j / blockSize) * blockSize + j % blockSize;
                    for (int r = 0; r < latent; r++) context[r] += p[j] * cache.Get(at, r);
                }

                for (int v = 0; v < value; v++)
                {
                    double sum = 0;
                    for (int r = 0; r < latent; r++) sum += context[r] * kvB.Get(weights + nope + v, r);
                    output.Set(row, v, sum);
                }
            }
        }
    }

    private static Tensor Restored(Tensor cache, LatentRow layout)
    {
        Tensor values = HostMemory.Allocate(new Shape(cache.Rows, layout.Latent + layout.Rope), DType.F32);
        for (long r = 0; r < cache.Rows; r++)
            ReferenceCache.Restore(layout, cache.Row<byte>(r), values.Row<float>(r)[..layout.Latent], values.Row<float>(r)[layout.Latent..]);
        return values;
    }

    private static double[] Probabilities(
        in Dimensions dims, Tensor q, Tensor kv, Tensor kRope, float scale, int b, int h, int i, out double logSumExp)
    {
        long row = ((long)b * dims.Queries + i) * dims.Heads + h;
        var scores = new double[dims.Keys - dims.Queries + i + 1];
        for (int j = 0; j < scores.Length; j++)
        {
            double score = 0;
            for (int d = 0; d < dims.Nope; d++) score += q.Get(row, d) * kv.Get(dims.KeyRow(b, h, j), d);
            for (int d = 0; d < dims.Rope; d++) score += q.Get(row, dims.Nope + d) * kRope.Get((long)b * dims.Keys + j, d);
            scores[j] = score * scale;
        }

        logSumExp = Softmax(scores);
        return scores;
    }

    private static double Softmax(double[] scores)
    {
        double max = scores.Max(), sum = 0;
        for (int j = 0; j < scores.Length; j++) sum += scores[j] = Math.Exp(scores[j] - max);
        for (int j = 0; j < scores.Length; j++) scores[j] /= sum;
        return max + Math.Log(sum);
    }

    private readonly struct Dimensions(in Tensor q, in Tensor kv, in Tensor kRope, in Tensor output, int batch)
    {
        public readonly int Heads = (int)q.Shape[1];
        public readonly int Queries = (int)(q.Shape[0] / batch);
        public readonly int Keys = (int)(kv.Shape[0] / batch);
        public readonly int Rope = (int)kRope.Columns;
        public readonly int Nope = (int)(q.Columns - kRope.Columns);
        public readonly int Value = (int)output.Columns;

        public long KeyRow(int b, int h, int j) => ((long)b * Keys + j) * Heads + h;
    }
}

// Attention: every edge of the blocked kernels (one row, partial row tiles, partial key blocks, several key groups, fewer queries
// than keys, odd dimensions, strided keys; cached lengths around tile, block and split edges in shuffled blocks), and the shapes
// of a small training run and of DeepSeek-V3 for speed.
// Tolerances: the reference sums in F64; F32 sums of n products differ by about √n 2^-24 of the largest, and the exponential
// turns a score's absolute error into a relative one of its probability. That is a few 1e-7 for outputs, some times more for
// gradients, which are differences (dP - delta) summed over all queries.
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private const double AttentionTolerance = 2e-6, AttentionGradientTolerance = 5e-6;

    // With BF16 activations a device may round probabilities and their gradients to BF16 as well, as flash attention does.
    private const double AttentionRoundedTolerance = 1.0 / 128;

    /// <summary>Rows of <see cref="Operators.IAttentionOperators"/>.</summary>
    public static IEnumerable<OperatorCase> Attention()
    {
        (int B, int T, int S, int H, int Dn, int Dr, int Dv, int Pad)[] small =
        [
            (1, 1, 1, 1, 16, 8, 16, 0), (2, 2, 2, 3, 16, 8, 16, 0), (3, 7, 7, 2, 24, 8, 20, 5), (2, 33, 33, 3, 24, 8, 20, 0),
            (1, 64, 64, 2, 32, 16, 32, 3), (1, 65, 65, 4, 16, 8, 16, 0), (2, 130, 130, 2, 24, 8, 20, 1), (1, 97, 97, 1, 5, 3, 7, 0),
            (1, 240, 240, 2, 64, 32, 64, 0), (1, 700, 700, 1, 16, 8, 16, 0), (64, 3, 3, 1, 16, 8, 16, 0), (2, 0, 0, 2, 16, 8, 16, 0),
            (1, 150, 150, 2, 128, 64, 128, 0), (2, 130, 130, 1, 128, 64, 128, 8), (1, 257, 257, 3, 128, 64, 128, 0), (1, 63, 63, 2, 128, 64, 128, 8),
        ];
        (int B, int T, int S, int H, int Dn, int Dr, int Dv, int Pad)[] chunks =
            [(1, 1, 200, 2, 16, 8, 16, 0), (2, 7, 130, 3, 24, 8, 20, 2), (1, 65, 161, 2, 32, 16, 32, 0), (3, 50, 96, 1, 5, 3, 7, 0), (1, 70, 200, 2, 128, 64, 128, 0), (2, 129, 300, 1, 128, 64, 128, 8)];
        (int B, int T, int S, int H, int Dn, int Dr, int Dv, int Pad)[] large =
            [(1, 512, 512, 6, 64, 32, 64, 0), (1, 2048, 2048, 6, 64, 32, 64, 0), (1, 512, 512, 8, 128, 64, 128, 0), (1, 2048, 2048, 8, 128, 64, 128, 0)];
        foreach (var x in small)
        {
            yield return CausalForward(x.B, x.T, x.S, x.H, x.Dn, x.Dr, x.Dv, x.Pad, true);

            // With one key the gradient of the scores is zero: there is no size to compare a difference with.
            if (x.T == 1) continue;
            yield return CausalBackward(x.B, x.T, x.H, x.Dn, x.Dr, x.Dv, x.Pad, true);
            if (x.Dv == ScaledTensor.TileSize) yield return CausalBackward(x.B, x.T, x.H, x.Dn, x.Dr, x.Dv, x.Pad, true, codes: true);
        }

        foreach (var x in chunks) yield return CausalForward(x.B, x.T, x.S, x.H, x.Dn, x.Dr, x.Dv, x.Pad, true);
        foreach (var x in large)
        {
            yield return CausalForward(x.B, x.T, x.S, x.H, x.Dn, x.Dr, x.Dv, x.Pad, false);
            yield return CausalBackward(x.B, x.T, x.H, x.Dn, x.Dr, x.Dv, x.Pad, false);
        }

        foreach (DType cache in (DType[])[DType.F32, DType.BF16])
        {
            foreach (DType weights in (DType[])[DType.F32, DType.BF16])
            {
                yield return LatentDecode(6, 32, 16, 32, 64, 64, [1, 2, 63, 64, 65, 128, 129, 511, 512, 513], cache, weights, true);
                yield return LatentDecode(5, 12, 6, 7, 37, 16, [33, 1, 700], cache, weights, true);
            }
        }

        foreach (DType weights in (DType[])[DType.F8E4M3, DType.HiF8])
        {
            // Heads and latents that end within blocks of scales, one query and several, latents of whole and of broken vectors.
            foreach (int[] lengths in (int[][])[[65], [2, 70, 1]])
            {
                yield return LatentDecode(3, 128, 16, 128, 256, 16, lengths, DType.BF16, weights, true);
                yield return LatentDecode(5, 48, 8, 40, 144, 16, lengths, DType.BF16, weights, true);
                yield return LatentDecode(7, 13, 6, 7, 133, 16, lengths, DType.F32, weights, true);
            }
        }

        yield return LatentDecode(67, 16, 8, 16, 48, 32, [90, 5], DType.BF16, DType.BF16, true);
        yield return LatentDecode(1, 16, 8, 16, 32, 1, [20], DType.F32, DType.F32, true);
        yield return LatentDecode(20, 128, 64, 128, 512, 64, [600, 33], DType.BF16, DType.BF16, true);
        foreach (DType weights in (DType[])[DType.BF16, DType.F8E4M3])
        {
            // DeepSeek's sizes: tails of tiles and of splits, fewer and more than 64 heads, more than sixteen sequences, wide cache blocks.
            yield return LatentDecode(16, 128, 64, 128, 512, 64, [1], DType.BF16, weights, true, weightPad: 16);
            yield return LatentDecode(16, 128, 64, 128, 512, 64, [63, 1030, 64, 65, 513], DType.BF16, weights, true, weightPad: 16);
            yield return LatentDecode(80, 128, 64, 128, 512, 128, [130, 700], DType.BF16, weights, true, weightPad: 16);
            yield return LatentDecode(2, 128, 64, 128, 512, 64, [.. Enumerable.Range(1, 18)], DType.BF16, weights, true, weightPad: 16);
        }

        yield return LatentDecode(128, 128, 64, 128, 512, 64, [700, 4100], DType.BF16, DType.F8E4M3, true, weightPad: 16);

        // Latents in codes: ends of tiles, of scales and of splits, rows that tensor cores read and rows that they do not.
        yield return LatentDecode(16, 128, 64, 128, 512, 64, [63, 1030, 64, 65, 513], DType.F8E4M3, DType.BF16, true, weightPad: 16);
        yield return LatentDecode(80, 128, 64, 128, 512, 128, [130, 700], DType.F8E4M3, DType.F8E4M3, true, weightPad: 16);
        yield return LatentDecode(128, 128, 64, 128, 512, 64, [1], DType.F8E4M3, DType.BF16, true, weightPad: 16);
        yield return LatentDecode(3, 32, 8, 24, 400, 32, [1, 33, 390], DType.F8E4M3, DType.BF16, true);
        yield return LatentDecode(5, 16, 8, 16, 200, 16, [33, 1, 700], DType.F8E4M3, DType.F32, true);
        yield return LatentDecode(2, 12, 6, 7, 36, 16, [70], DType.F8E4M3, DType.F32, true);
        yield return LatentDecode(2, 128, 64, 128, 512, 64, [12345], DType.BF16, DType.BF16, true); // splits of more than 384 tokens

        yield return LatentDecode(6, 64, 32, 64, 128, 64, [4096], DType.F32, DType.F32, false);
        yield return LatentDecode(6, 64, 32, 64, 128, 64, [1024, 1024, 1024, 1024, 1024, 1024, 1024, 1024], DType.BF16, DType.BF16, false);
        yield return LatentDecode(128, 128, 64, 128, 512, 64, [4096], DType.BF16, DType.BF16, false);
        yield return LatentDecode(128, 128, 64, 128, 512, 64, [4096], DType.BF16, DType.F8E4M3, false);
        yield return LatentDecode(128, 128, 64, 128, 512, 64, [4096], DType.F8E4M3, DType.F8E4M3, false);
        yield return LatentDecode(128, 128, 64, 128, 512, 64, [1], DType.BF16, DType.BF16, false);
        yield return LatentDecode(128, 128, 64, 128, 512, 64, [1], DType.BF16, DType.F8E4M3, false);
        yield return LatentDecode(128, 128, 64, 128, 512, 64, [4096, 4096, 4096, 4096], DType.BF16, DType.BF16, false);
    }

    private static OperatorCase CausalForward(int b, int t, int s, int h, int dn, int dr, int dv, int pad, bool small)
    {
        double pairs = VisiblePairs(b, t, s, h);
        return new OperatorCase
        {
            Name = "attention.causal_forward",
            Label = CausalLabel(b, t, s, h, dn, dr, dv, pad),
            Operands =
            [
                new("q", new Shape(b * t, h, dn + dr), Fill.Normal, Activation: true),
                new("kv", new Shape(b * s, h, dn + dv), Fill.Normal, PadColumns: pad, Activation: true),
                new("kRope", new Shape(b * s, dr), Fill.Normal, PadColumns: pad, Activation: true),
                new("output", new Shape(b * t, h, dv), Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                new("logSumExp", new Shape(b, h, t), Fill.Poison, Compare: true),
            ],
            Run = (device, x) => device.Attention.CausalForward(x[0], x[1], x[2], 1 / MathF.Sqrt(dn + dr), b, x[3], x[4]),
            Flops = 2 * pairs * (dn + dr + dv),
            Bytes = 4.0 * (b * t * h * (dn + dr + dv) + b * s * (h * (dn + dv) + dr)),
            Tolerance = AttentionTolerance,
            RoundedTolerance = AttentionRoundedTolerance,
            Small = small,
        };
    }

    // In codes the output is numbers of their own, so that these are the same to the bit on every device; values of codes are numbers of BF16.
    private static OperatorCase CausalBackward(int b, int t, int h, int dn, int dr, int dv, int pad, bool small, bool codes = false)
    {
        Shape output = new(b * t, h, dv);
        float scale = 1 / MathF.Sqrt(dn + dr);
        return new OperatorCase
        {
            Name = "attention.causal_backward",
            Label = CausalLabel(b, t, t, h, dn, dr, dv, pad) + (codes ? " output in codes" : ""),
            Operands =
            [
                new("q", new Shape(b * t, h, dn + dr), Fill.Normal, PadColumns: pad, Activation: true),
                new("kv", new Shape(b * t, h, dn + dv), Fill.Normal, Activation: true),
                new("kRope", new Shape(b * t, dr), Fill.Normal, PadColumns: pad, Activation: true),
                new("output", output, Fill.Poison, Activation: true),
                new("logSumExp", new Shape(b, h, t), Fill.Poison),
                new("doutput", new Shape(b * t, h, dv), Fill.Normal, Activation: true),
                new("dq", new Shape(b * t, h, dn + dr), Fill.Poison, Compare: true, Activation: true),
                new("dkv", new Shape(b * t, h, dn + dv), Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                new("dkRope", new Shape(b * t, dr), Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
                .. codes ? Kept() : [],
            ],
            Setup = (device, x) =>
            {
                device.Attention.CausalForward(x[0], x[1], x[2], scale, b, x[3], x[4]);
                if (codes) device.Quantization.Quantize(x[9], new ScaledTensor(x[10], x[11], ScaleLayout.RowTile));
            },
            Run = (device, x) =>
            {
                ScaledTensor result = codes ? new ScaledTensor(x[10], x[11], ScaleLayout.RowTile) : x[3];
                if (codes && !device.Traits.ReadsAttentionCodes(x[0].DType, OperandTraits.Of(result), new CausalSizes(b, h, t, t, dn, dr, dv), pad))
                {
                    device.Quantization.Dequantize(result, x[3]);
                    result = x[3];
                }

                device.Attention.CausalBackward(x[0], x[1], x[2], result, x[4], x[5], scale, b, x[6], x[7], x[8]);
            },
            Flops = 2 * VisiblePairs(b, t, t, h) * (3 * (dn + dr) + 2 * dv),
            Bytes = 4.0 * b * t * (h * (4 * (dn + dr) + 5 * dv) + 2 * dr),
            Tolerance = AttentionGradientTolerance,
            RoundedTolerance = 2 * AttentionRoundedTolerance,
            Small = small,
        };

        Operand[] Kept() =>
        [
            new("kept output", output, Fill.Normal),
            new("codes", ScaledTensor.ElementShape(output, DType.E5M6Pair), Fill.Poison, DType.E5M6Pair),
            new("scales", ScaledTensor.ScaleShape(output, ScaleLayout.RowTile), Fill.Poison, DType.F8E8M0),
        ];
    }

    private static OperatorCase LatentDecode(
        int h, int dn, int dr, int dv, int r, int blockSize, int[] lengths, DType cacheType, DType weightType, bool small, int weightPad = 3)
    {
        int b = lengths.Length, columns = lengths.Max(n => (n + blockSize - 1) / blockSize) + 1, blocks = b * columns;
        var row = new LatentRow(cacheType, r, dr);
        double tokens = lengths.Sum(n => (double)n), weights = (double)h * (dn + dv) * r;
        bool stored = weightType is DType.F8E4M3 or DType.HiF8;
        return new OperatorCase
        {
            Name = "attention.latent_decode",
            Label = $"H={h} dn={dn} dr={dr} dv={dv} R={r} block={blockSize} lengths={string.Join(',', lengths)} cache={cacheType} kvB={weightType}",
            Operands =
            [
                new("q", new Shape(b, h, dn + dr), Fill.Normal, Activation: true),
                stored ? new("kvB", new Shape(h * (dn + dv), r), Fill.Custom, weightType, PadColumns: weightPad, Initialize: Codes(weightType)) : new("kvB", new Shape(h * (dn + dv), r), Fill.Weight, weightType),
                CacheOperand(row, new Shape(blocks, blockSize, row.Columns)),
                new("blockTables", new Shape(b, columns), Fill.Custom, DType.I32, Initialize: (tensor, random) => ShuffledBlocks(tensor, random, lengths, blockSize)),
                new("lengths", new Shape(b), Fill.Custom, DType.I32, Initialize: (tensor, _) => lengths.CopyTo(tensor.AsSpan<int>())),
                new("output", new Shape(b, h, dv), Fill.Poison, Compare: true, Activation: true),
                StoredScales(new Shape(h * (dn + dv), r), weightType, DType.F32, 0),
            ],
            Run = (device, x) => device.Attention.LatentDecode(
                x[0], stored ? new ScaledTensor(x[1], x[6], ScaleLayout.Block) : x[1], x[2], x[3], x[4], 1 / MathF.Sqrt(dn + dr), x[5]),
            Flops = 2 * b * weights + 2 * tokens * h * (2 * r + dr),
            Bytes = tokens * row.Bytes + weights * weightType.SizeInBytes(),
            Tolerance = AttentionTolerance,
            RoundedTolerance = AttentionRoundedTolerance,
            Small = small,
        };
    }

    // Every cache block belongs to at most one sequence, in no order; entries past a sequence's length hold what is never read.
    private static void ShuffledBlocks(Tensor table, Random random, int[] lengths, int blockSize)
    {
        int[] order = [.. Enumerable.Range(0, (int)table.Elements)];
        random.Shuffle(order);
        order.CopyTo(table.AsSpan<int>());
        for (int b = 0; b < lengths.Length; b++) table.Row<int>(b)[((lengths[b] + blockSize - 1) / blockSize)..].Fill(int.MaxValue);
    }

    private static double VisiblePairs(int b, int t, int s, int h) => (double)b * h * t * (s - t + (t + 1) / 2.0);

    private static string CausalLabel(int b, int t, int s, int h, int dn, int dr, int dv, int pad) =>
        $"B={b} T={t} S={s} H={h} dn={dn} dr={dr} dv={dv} pad={pad}";
}

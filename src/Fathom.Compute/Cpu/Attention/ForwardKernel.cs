// Causal attention of one block of queries: for each block of keys, scores of twelve rows at a time, online softmax, and the
// product with the values. What lies above the diagonal is left out by blocks, then by column steps of the scores, then
// exactly in the depth of the second product.

namespace Fathom.Compute.Cpu.Attention;

/// <summary>Operands of a forward call.</summary>
internal readonly unsafe struct ForwardTask
{
    public required CausalShape Shape { get; init; }

    public required int QueryBlock { get; init; }

    public required RowView Q { get; init; }

    public required RowView Kv { get; init; }

    public required RowView KRope { get; init; }

    public required RowView Output { get; init; }

    /// <summary>[B, H, T], or null.</summary>
    public required float* LogSumExp { get; init; }

    public required float Scale { get; init; }

    /// <summary>Number of tasks.</summary>
    public int Tiles => Shape.Batch * Shape.Heads * CausalShape.Blocks(Shape.Queries, QueryBlock);
}

/// <summary>A worker's memory in the forward pass.</summary>
internal readonly unsafe ref struct ForwardBuffers
{
    public readonly int KeyLength, ValueLength, ScoreLength;
    public readonly float* Queries; // [QueryBlock, dn + dr], times scale log2 e
    public readonly float* Context; // [QueryBlock, dv], unnormalised
    public readonly float* Keys; // [dn + dr, KeyBlock]
    public readonly float* Values; // [KeyBlock, dv]
    public readonly float* Scores; // [RowTile, KeyBlock]
    public readonly float* Largest, Sums; // [QueryBlock]
    public readonly long Floats;

    public ForwardBuffers(float* start, in CausalShape shape, int queryBlock)
    {
        KeyLength = Scratch.RowLength(shape.Key);
        ValueLength = Scratch.RowLength(shape.Value);
        ScoreLength = Scratch.RowLength(CausalShape.KeyBlock);
        var layout = new Layout(start);
        Queries = layout.Take((long)queryBlock * KeyLength);
        Context = layout.Take((long)queryBlock * ValueLength);
        Keys = layout.Take((long)shape.Key * ScoreLength);
        Values = layout.Take((long)CausalShape.KeyBlock * ValueLength);
        Scores = layout.Take((long)CausalShape.RowTile * ScoreLength);
        Largest = layout.Take(queryBlock);
        Sums = layout.Take(queryBlock);
        Floats = layout.Floats;
    }
}

internal sealed unsafe partial class AttentionKernels<TSimd, TVector>
{
    private const float Log2E = 1.44269504f;
    private const double Ln2 = 0.69314718055994531;

    /// <inheritdoc/>
    public override void Forward(in ForwardTask task, int tile, float* scratch)
    {
        CausalShape shape = task.Shape;
        var buffers = new ForwardBuffers(scratch, shape, task.QueryBlock);

        // The last blocks see the most keys, so they go first.
        int pairs = shape.Batch * shape.Heads, blocks = CausalShape.Blocks(shape.Queries, task.QueryBlock);
        int first = (blocks - 1 - tile / pairs) * task.QueryBlock, batch = tile % pairs / shape.Heads, head = tile % pairs % shape.Heads;
        int rows = Math.Min(task.QueryBlock, shape.Queries - first), position = shape.Keys - shape.Queries + first;
        long query = ((long)batch * shape.Queries + first) * shape.Heads + head;
        for (int r = 0; r < rows; r++)
        {
            Prefetch.Row(task.Q[query + (r + Prefetch.Ahead) * (long)shape.Heads], shape.Key);
            Rows<TSimd, TVector>.Scale(task.Q[query + (long)r * shape.Heads], buffers.Queries + r * buffers.KeyLength, shape.Key, task.Scale * Log2E);
            buffers.Largest[r] = float.NegativeInfinity;
            buffers.Sums[r] = 0;
        }

        int end = position + rows;
        for (int start = 0; start < end; start += CausalShape.KeyBlock)
        {
            int keys = Math.Min(CausalShape.KeyBlock, end - start);
            long token = (long)batch * shape.Keys + start;
            float* kv = task.Kv[token * shape.Heads + head];
            nint kvRow = (nint)(task.Kv[(token + 1) * shape.Heads + head] - kv);
            PackKeys(shape, kv, kvRow, task.KRope[token], (nint)(task.KRope[token + 1] - task.KRope[token]), keys, buffers.Keys, buffers.ScoreLength);
            Rows<TSimd, TVector>.Copy(kv + shape.Nope, kvRow, buffers.Values, buffers.ValueLength, keys, shape.Value);

            // The next block's keys and values come to the cache while this one is multiplied.
            int row = Math.Max(0, start - position), fetched = keys, tiles = CausalShape.Blocks(rows - row, CausalShape.RowTile);
            int next = Math.Min(keys + CausalShape.KeyBlock, end - start), share = CausalShape.Blocks(next - keys, tiles);
            for (; row < rows; row += CausalShape.RowTile)
            {
                for (int until = Math.Min(fetched + share, next); fetched < until; fetched++) Prefetch.Row(kv + fetched * kvRow, shape.Nope + shape.Value);
                AttendRows(buffers, shape, row, Math.Min(CausalShape.RowTile, rows - row), position + row - start + 1, keys, start == 0);
            }
        }

        for (int r = 0; r < rows; r++)
        {
            Rows<TSimd, TVector>.Scale(
                buffers.Context + r * buffers.ValueLength, task.Output[query + (long)r * shape.Heads], shape.Value, 1 / buffers.Sums[r]);
            if (task.LogSumExp == null) continue;
            task.LogSumExp[((long)batch * shape.Heads + head) * shape.Queries + first + r] =
                (float)((buffers.Largest[r] + Math.Log2(buffers.Sums[r])) * Ln2);
        }
    }

    /// <summary>Rows from <paramref name="r"/> on against the packed keys, of which the first row sees <paramref name="seen"/>.</summary>
    private static void AttendRows(in ForwardBuffers buffers, in CausalShape shape, int r, int count, int seen, int keys, bool firstBlock)
    {
        int width = Math.Min(keys, seen + count - 1);
        float* scores = buffers.Scores, context = buffers.Context + r * buffers.ValueLength;
        Product<TSimd, TVector>.Run(
            count, Padded(width), shape.Key, buffers.Queries + r * buffers.KeyLength, buffers.KeyLength, 1,
            buffers.Keys, buffers.ScoreLength, scores, buffers.ScoreLength, false);
        for (int i = 0; i < count; i++)
        {
            float factor = Softmax<TSimd, TVector>.Step(
                scores + i * buffers.ScoreLength, Math.Min(keys, seen + i), width, ref buffers.Largest[r + i], ref buffers.Sums[r + i]);
            float* row = context + i * buffers.ValueLength;
            if (factor != 1 && !firstBlock) Rows<TSimd, TVector>.Scale(row, row, shape.Value, factor);
        }

        Product<TSimd, TVector>.Run(
            count, Padded(shape.Value), width, scores, buffers.ScoreLength, 1,
            buffers.Values, buffers.ValueLength, context, buffers.ValueLength, !firstBlock);
    }

    /// <summary>A head's keys, transposed: [dn + dr, keys], its own part above the part that all heads share.</summary>
    private static void PackKeys(in CausalShape shape, float* nope, nint nopeRow, float* rope, nint ropeRow, int keys, float* packed, int packedRow)
    {
        Transposition.Run(nope, nopeRow, keys, shape.Nope, packed, packedRow);
        Transposition.Run(rope, ropeRow, keys, shape.Rope, packed + (nint)shape.Nope * packedRow, packedRow);
    }
}

// Gradients of causal attention, with the probabilities recomputed from the forward pass's log-sum-exp (Dao et al., arXiv
// 2205.14135, algorithm 4). One task takes a head and a group of keys: block by block of keys it goes over all queries that see
// them, so the gradients of keys and values are whole when a block is done, and the gradient of the queries adds up in scratch
// memory. Three sums cross tasks and are made afterwards in a fixed order: query gradients over key groups, and the rotary
// key's gradient over heads. The softmax scale is applied once, to the finished sums.
using System.Runtime.InteropServices;

namespace Fathom.Compute.Cpu.Attention;

/// <summary>Operands of a backward call.</summary>
internal readonly unsafe struct BackwardTask
{
    /// <summary>Rows of the rotary key's gradient that one task adds up.</summary>
    public const int RotaryRows = 64;

    public required CausalShape Shape { get; init; }

    public required RowView Q { get; init; }

    public required RowView Kv { get; init; }

    public required RowView KRope { get; init; }

    public required RowView Output { get; init; }

    /// <summary>[B, H, T].</summary>
    public required float* LogSumExp { get; init; }

    public required RowView Doutput { get; init; }

    public required float Scale { get; init; }

    public required RowView Dq { get; init; }

    public required RowView Dkv { get; init; }

    public required RowView DkRope { get; init; }

    /// <summary>The heads' parts of the rotary key's gradient, [B·T, H, dr], then the query gradients of key groups 1, 2, …</summary>
    public required float* Shared { get; init; }

    /// <summary>Number of tasks of the main pass.</summary>
    public int Tiles => Shape.Batch * Shape.Heads * Shape.KeyGroups;

    /// <summary>Floats of the shared block.</summary>
    public static long SharedFloats(in CausalShape shape) => QueryPart(shape, shape.KeyGroups);

    /// <summary>A head's part of the rotary key's gradient of one token.</summary>
    public float* RotaryPart(long token, int head) => Shared + (token * Shape.Heads + head) * Shape.Rope;

    /// <summary>What a key group adds to a sequence's query gradients: [T - first key of the group, dn + dr].</summary>
    public float* QueryPart(int group, int batch, int head) =>
        Shared + QueryPart(Shape, group) + ((long)batch * Shape.Heads + head) * (Shape.Queries - group * Shape.KeyGroup) * Shape.Key;

    private static long QueryPart(in CausalShape shape, int group)
    {
        long rows = 0;
        for (int g = 1; g < group; g++) rows += shape.Queries - g * shape.KeyGroup;
        return (long)shape.Batch * shape.Heads * ((long)shape.Queries * shape.Rope + rows * shape.Key);
    }
}

/// <summary>A worker's memory in the backward pass.</summary>
internal readonly unsafe ref struct BackwardBuffers
{
    public readonly int KeyLength, ValueLength, ScoreLength;
    public readonly float* Queries, QueryGradients; // [T, dn + dr]
    public readonly float* OutputGradients; // [T, dv]
    public readonly float* LogSums, Deltas; // [T]: log2 of the denominators, Σ doutput output
    public readonly float* Keys, KeyGradients; // [KeyBlock, dn + dr]
    public readonly float* KeysAcross; // [dn + dr, KeyBlock]
    public readonly float* ValuesAcross; // [dv, KeyBlock]
    public readonly float* ValueGradients; // [KeyBlock, dv]
    public readonly float* Probabilities, ScoreGradients; // [RowGroup, KeyBlock]
    public readonly long Floats;

    public BackwardBuffers(float* start, in CausalShape shape)
    {
        KeyLength = Scratch.RowLength(shape.Key);
        ValueLength = Scratch.RowLength(shape.Value);
        ScoreLength = Scratch.RowLength(CausalShape.KeyBlock);
        var layout = new Layout(start);
        Queries = layout.Take((long)shape.Queries * KeyLength);
        QueryGradients = layout.Take((long)shape.Queries * KeyLength);
        OutputGradients = layout.Take((long)shape.Queries * ValueLength);
        LogSums = layout.Take(shape.Queries);
        Deltas = layout.Take(shape.Queries);
        Keys = layout.Take((long)CausalShape.KeyBlock * KeyLength);
        KeyGradients = layout.Take((long)CausalShape.KeyBlock * KeyLength);
        KeysAcross = layout.Take((long)shape.Key * ScoreLength);
        ValuesAcross = layout.Take((long)shape.Value * ScoreLength);
        ValueGradients = layout.Take((long)CausalShape.KeyBlock * ValueLength);
        Probabilities = layout.Take((long)CausalShape.RowGroup * ScoreLength);
        ScoreGradients = layout.Take((long)CausalShape.RowGroup * ScoreLength);
        Floats = layout.Floats;
    }
}

internal sealed unsafe partial class AttentionKernels<TSimd, TVector>
{
    /// <inheritdoc/>
    public override void Backward(in BackwardTask task, int tile, float* scratch)
    {
        CausalShape shape = task.Shape;
        var buffers = new BackwardBuffers(scratch, shape);

        // The first groups are seen by the most queries, so they go first.
        int pairs = shape.Batch * shape.Heads;
        int group = tile / pairs, batch = tile % pairs / shape.Heads, head = tile % pairs % shape.Heads;
        int first = group * shape.KeyGroup, queries = shape.Queries - first, end = Math.Min(first + shape.KeyGroup, shape.Keys);
        PackQueries(task, buffers, batch, head, first, queries);
        for (int start = first; start < end; start += CausalShape.KeyBlock)
        {
            int keys = Math.Min(CausalShape.KeyBlock, end - start);
            long token = (long)batch * shape.Keys + start;
            PackBlock(task, buffers, token, head, keys);
            for (int r = start - first; r < queries; r += CausalShape.RowGroup)
                BackwardRows(buffers, shape, task.Scale * Log2E, r, Math.Min(CausalShape.RowGroup, queries - r), r - (start - first) + 1, keys);
            for (int j = 0; j < keys; j++)
            {
                float* gradient = task.Dkv[(token + j) * shape.Heads + head], keyGradient = buffers.KeyGradients + j * buffers.KeyLength;
                Rows<TSimd, TVector>.Scale(keyGradient, gradient, shape.Nope, task.Scale);
                Rows<TSimd, TVector>.Scale(buffers.ValueGradients + j * buffers.ValueLength, gradient + shape.Nope, shape.Value, 1);
                Rows<TSimd, TVector>.Scale(keyGradient + shape.Nope, task.RotaryPart(token + j, head), shape.Rope, task.Scale);
            }
        }

        float* part = task.QueryPart(group, batch, head);
        for (int r = 0; r < queries; r++)
        {
            float* target = group == 0 ? task.Dq[((long)batch * shape.Queries + r) * shape.Heads + head] : part + (long)r * shape.Key;
            Rows<TSimd, TVector>.Scale(buffers.QueryGradients + (nint)r * buffers.KeyLength, target, shape.Key, task.Scale);
        }
    }

    /// <inheritdoc/>
    public override void AddQueryGradients(in BackwardTask task, int tile)
    {
        CausalShape shape = task.Shape;
        int batch = tile / shape.Heads, head = tile % shape.Heads;
        for (int group = 1; group < shape.KeyGroups; group++)
        {
            int first = group * shape.KeyGroup;
            float* part = task.QueryPart(group, batch, head);
            for (int r = first; r < shape.Queries; r++, part += shape.Key)
                Rows<TSimd, TVector>.AddScaled(part, task.Dq[((long)batch * shape.Queries + r) * shape.Heads + head], shape.Key, 1);
        }
    }

    /// <inheritdoc/>
    public override void AddRotaryGradients(in BackwardTask task, int tile)
    {
        CausalShape shape = task.Shape;
        long start = (long)tile * BackwardTask.RotaryRows, end = Math.Min(start + BackwardTask.RotaryRows, (long)shape.Batch * shape.Keys);
        for (long token = start; token < end; token++)
        {
            float* gradient = task.DkRope[token];
            Rows<TSimd, TVector>.Scale(task.RotaryPart(token, 0), gradient, shape.Rope, 1);
            for (int head = 1; head < shape.Heads; head++)
                Rows<TSimd, TVector>.AddScaled(task.RotaryPart(token, head), gradient, shape.Rope, 1);
        }
    }

    private static void PackQueries(in BackwardTask task, in BackwardBuffers buffers, int batch, int head, int first, int queries)
    {
        CausalShape shape = task.Shape;
        float* logSumExp = task.LogSumExp + ((long)batch * shape.Heads + head) * shape.Queries + first;
        for (int r = 0; r < queries; r++)
        {
            long row = ((long)batch * shape.Queries + first + r) * shape.Heads + head, ahead = row + Prefetch.Ahead * shape.Heads;
            Prefetch.Row(task.Q[ahead], shape.Key);
            Prefetch.Row(task.Doutput[ahead], shape.Value);
            Prefetch.Row(task.Output[ahead], shape.Value);
            Rows<TSimd, TVector>.Scale(task.Q[row], buffers.Queries + (nint)r * buffers.KeyLength, shape.Key, 1);
            Rows<TSimd, TVector>.Scale(task.Doutput[row], buffers.OutputGradients + (nint)r * buffers.ValueLength, shape.Value, 1);
            buffers.LogSums[r] = logSumExp[r] * Log2E;
            buffers.Deltas[r] = Rows<TSimd, TVector>.Dot(task.Doutput[row], task.Output[row], shape.Value);
        }

        Clear(buffers.QueryGradients, (long)queries * buffers.KeyLength);
    }

    private static void PackBlock(in BackwardTask task, in BackwardBuffers buffers, long token, int head, int keys)
    {
        CausalShape shape = task.Shape;
        float* kv = task.Kv[token * shape.Heads + head], rope = task.KRope[token];
        nint kvRow = (nint)(task.Kv[(token + 1) * shape.Heads + head] - kv), ropeRow = (nint)(task.KRope[token + 1] - rope);
        PackKeys(shape, kv, kvRow, rope, ropeRow, keys, buffers.KeysAcross, buffers.ScoreLength);
        Transposition.Run(kv + shape.Nope, kvRow, keys, shape.Value, buffers.ValuesAcross, buffers.ScoreLength);
        Rows<TSimd, TVector>.Copy(kv, kvRow, buffers.Keys, buffers.KeyLength, keys, shape.Nope);
        Rows<TSimd, TVector>.Copy(rope, ropeRow, buffers.Keys + shape.Nope, buffers.KeyLength, keys, shape.Rope);
        Clear(buffers.KeyGradients, (long)keys * buffers.KeyLength);
        Clear(buffers.ValueGradients, (long)keys * buffers.ValueLength);
    }

    private static void Clear(float* start, long floats) => NativeMemory.Clear(start, (nuint)floats * sizeof(float));

    /// <summary>What query rows <paramref name="r"/> to r + count - 1 and the packed keys give each other; the first row sees <paramref name="seen"/> keys.</summary>
    private static void BackwardRows(in BackwardBuffers buffers, in CausalShape shape, float factor, int r, int count, int seen, int keys)
    {
        int scoreLength = buffers.ScoreLength, keyLength = buffers.KeyLength, valueLength = buffers.ValueLength;
        float* queries = buffers.Queries + (nint)r * keyLength, outputGradients = buffers.OutputGradients + (nint)r * valueLength;
        float* queryGradients = buffers.QueryGradients + (nint)r * keyLength;
        for (int t = 0; t < count; t += CausalShape.RowTile)
        {
            int rows = Math.Min(CausalShape.RowTile, count - t), width = Math.Min(keys, seen + t + rows - 1);
            float* p = buffers.Probabilities + t * scoreLength, ds = buffers.ScoreGradients + t * scoreLength;
            Product<TSimd, TVector>.Run(
                rows, Padded(width), shape.Key, queries + (nint)t * keyLength, keyLength, 1, buffers.KeysAcross, scoreLength, p, scoreLength, false);
            Product<TSimd, TVector>.Run(
                rows, Padded(width), shape.Value, outputGradients + (nint)t * valueLength, valueLength, 1,
                buffers.ValuesAcross, scoreLength, ds, scoreLength, false);
            for (int i = 0; i < rows; i++)
            {
                Softmax<TSimd, TVector>.Backward(
                    p + i * scoreLength, ds + i * scoreLength, Math.Min(keys, seen + t + i), keys, factor, buffers.LogSums[r + t + i], buffers.Deltas[r + t + i]);
            }

            Product<TSimd, TVector>.Run(
                rows, Padded(shape.Key), width, ds, scoreLength, 1, buffers.Keys, keyLength, queryGradients + (nint)t * keyLength, keyLength, true);
        }

        // Keys that every row sees go together; on the diagonal, a few keys at a time take the rows from the first that sees them.
        int step = seen >= keys ? keys : CausalShape.RowTile;
        for (int j = 0; j < keys; j += step)
        {
            int from = Math.Max(0, j + 1 - seen), columns = Math.Min(step, keys - j);
            if (from >= count) break;
            Product<TSimd, TVector>.Run(
                columns, Padded(shape.Value), count - from, buffers.Probabilities + from * scoreLength + j, 1, scoreLength,
                outputGradients + (nint)from * valueLength, valueLength, buffers.ValueGradients + j * valueLength, valueLength, true);
            Product<TSimd, TVector>.Run(
                columns, Padded(shape.Key), count - from, buffers.ScoreGradients + from * scoreLength + j, 1, scoreLength,
                queries + (nint)from * keyLength, keyLength, buffers.KeyGradients + j * keyLength, keyLength, true);
        }
    }
}

// Absorbed decode (DeepSeek-V2, arXiv 2405.04434, §2.1.2) in three steps, each a job of its own: queries into the latent space,
// one task a head; attention over the cached latents, one task for some heads and a split of a sequence's tokens; splits joined
// and taken out of the latent space, again a head a task. All heads share the cached tokens, so a tile of tokens is read once
// for up to 64 heads and both products of attention are matrix products.
// How a sequence is split follows from its own length alone, and a head's sums are its own however heads are grouped: a result
// depends neither on the batch nor on the threads.
using Fathom.Compute.Cpu.Gemm;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Attention;

/// <summary>Sizes of a decode call and the choices that follow from them.</summary>
/// <param name="Batch">B.</param>
/// <param name="Heads">H.</param>
/// <param name="Nope">dn.</param>
/// <param name="Rope">dr.</param>
/// <param name="Value">dv.</param>
/// <param name="Latent">R.</param>
/// <param name="BlockSize">Tokens of a cache block.</param>
internal readonly record struct DecodeShape(int Batch, int Heads, int Nope, int Rope, int Value, int Latent, int BlockSize)
{
    /// <summary>Tokens that are read and multiplied at a time.</summary>
    public const int TokenTile = 64;

    private const int SmallestSplit = 512, MostSplits = 16, LeastHeads = 8, MostHeads = 64;

    /// <summary>R + dr.</summary>
    public int Key => Latent + Rope;

    /// <summary>Row length of absorbed queries.</summary>
    public int QueryLength => Scratch.RowLength(Key);

    /// <summary>Row length of sums of latents.</summary>
    public int ContextLength => Scratch.RowLength(Latent);

    /// <summary>Heads of a task: all that share a tile of tokens well, fewer where threads would find nothing to do.</summary>
    /// <param name="splits">Splits of all sequences together.</param>
    /// <param name="threads">Threads of the team.</param>
    public int HeadBlock(int splits, int threads)
    {
        int blocks = Math.Max(CausalShape.Blocks(Heads, MostHeads), CausalShape.Blocks(threads, splits));
        return Math.Max(Math.Min(Heads, LeastHeads), CausalShape.Blocks(Heads, blocks));
    }

    /// <summary>Tokens of a split of a sequence.</summary>
    public static int Split(int length) => Math.Max(SmallestSplit, Scratch.RoundUp(CausalShape.Blocks(length, MostSplits), SmallestSplit));

    /// <summary>Number of splits of a sequence.</summary>
    public static int Splits(int length) => CausalShape.Blocks(length, Split(length));
}

/// <summary>Operands of a decode call.</summary>
internal readonly unsafe struct DecodeTask
{
    public required DecodeShape Shape { get; init; }

    public required RowView Q { get; init; }

    public required KeyValueWeights KvB { get; init; }

    public required byte* Cache { get; init; }

    /// <summary>Bytes from one cached token to the next.</summary>
    public required long CacheRow { get; init; }

    /// <summary>How a cached token lies.</summary>
    public required LatentRow CacheLayout { get; init; }

    public required int* BlockTables { get; init; }

    /// <summary>Columns of the block tables.</summary>
    public required long BlockColumns { get; init; }

    public required int* Lengths { get; init; }

    public required float Scale { get; init; }

    public required RowView Output { get; init; }

    /// <summary>Splits of all sequences together.</summary>
    public required int Splits { get; init; }

    /// <summary>Heads of a task of <see cref="AttentionKernels.Attend"/>.</summary>
    public required int HeadBlock { get; init; }

    public required float* Shared { get; init; }

    /// <summary>Tasks of a split.</summary>
    public int HeadBlocks => CausalShape.Blocks(Shape.Heads, HeadBlock);

    /// <summary>Number of tasks of <see cref="AttentionKernels.Attend"/>.</summary>
    public int AttendTiles => Splits * HeadBlocks;

    /// <summary>Floats of the shared block.</summary>
    public static long SharedFloats(in DecodeShape shape, int splits) =>
        (long)shape.Batch * shape.Heads * shape.QueryLength + (long)splits * shape.Heads * (shape.ContextLength + 2);

    /// <summary>A cached token of a sequence.</summary>
    public byte* Token(int sequence, int token) =>
        Cache + ((long)BlockTables[sequence * BlockColumns + token / Shape.BlockSize] * Shape.BlockSize + token % Shape.BlockSize) * CacheRow;

    /// <summary>[B, H, R + dr]: queries in the latent space, then the rotary part, times scale log2 e.</summary>
    public float* Absorbed(int sequence, int head) => Shared + ((long)sequence * Shape.Heads + head) * Shape.QueryLength;

    /// <summary>[splits, H, R]: sums of latents relative to the split's largest score.</summary>
    public float* Context(int split, int head) => Absorbed(Shape.Batch, 0) + ((long)split * Shape.Heads + head) * Shape.ContextLength;

    /// <summary>[splits, H]: a head's largest score in a split.</summary>
    public float* Largest(int split, int head) => Context(Splits, 0) + (long)split * Shape.Heads + head;

    /// <summary>[splits, H]: the sum of powers relative to it.</summary>
    public float* Sum(int split, int head) => Largest(Splits, 0) + (long)split * Shape.Heads + head;
}

/// <summary>A worker's memory in decode; the three steps use it one after the other.</summary>
internal readonly unsafe ref struct DecodeBuffers
{
    /// <summary>Rows of weights that a kernel takes at a time.</summary>
    public const int WeightRows = 4;

    public readonly int TokenLength, ScoreLength, QueryLength, WeightLength;
    public readonly float* Tokens; // [TokenTile, R + dr]
    public readonly float* Scores; // [RowTile, TokenTile]
    public readonly float* Queries; // [B, dn]
    public readonly float* Latents; // [B, R]
    public readonly float* Weights; // [dn or 4, R]: values of codes, or weights whose R is not a multiple of a product's column step
    public readonly long Floats;

    public DecodeBuffers(float* start, in DecodeShape shape)
    {
        TokenLength = Scratch.RowLength(shape.Key);
        ScoreLength = Scratch.RowLength(DecodeShape.TokenTile);
        QueryLength = Scratch.RowLength(shape.Nope);
        WeightLength = shape.ContextLength;
        var layout = new Layout(start);
        Tokens = layout.Take((long)DecodeShape.TokenTile * TokenLength);
        Scores = layout.Take((long)CausalShape.RowTile * ScoreLength);
        Queries = layout.Take((long)shape.Batch * QueryLength);
        Latents = layout.Take((long)shape.Batch * shape.ContextLength);
        Weights = layout.Take((long)Math.Max(WeightRows, shape.Nope) * WeightLength);
        Floats = layout.Floats;
    }
}

internal sealed unsafe partial class AttentionKernels<TSimd, TVector>
{
    /// <inheritdoc/>
    public override void Absorb(in DecodeTask task, int tile, float* scratch)
    {
        if (task.KvB.Type == DType.BF16) Absorb<FormatBF16>(task, tile, scratch);
        else Absorb<FormatF32>(task, tile, scratch);
    }

    /// <inheritdoc/>
    public override void Project(in DecodeTask task, int tile, float* scratch)
    {
        if (task.KvB.Type == DType.BF16) Project<FormatBF16>(task, tile, scratch);
        else Project<FormatF32>(task, tile, scratch);
    }

    private static void Absorb<TElement>(in DecodeTask task, int head, float* scratch) where TElement : struct, IElementFormat
    {
        DecodeShape shape = task.Shape;
        var buffers = new DecodeBuffers(scratch, shape);
        float factor = task.Scale * Log2E;
        for (int b = 0; b < shape.Batch; b++)
            Rows<TSimd, TVector>.Scale(task.Q[(long)b * shape.Heads + head], buffers.Queries + (nint)b * buffers.QueryLength, shape.Nope, factor);
        long row = head * (long)(shape.Nope + shape.Value);
        float* absorbed = task.Absorbed(0, head);
        nint absorbedRow = (nint)shape.Heads * shape.QueryLength;
        if (shape.Batch == 1 && shape.Nope % DecodeBuffers.WeightRows == 0)
        {
            // One query: rows of weights stream past a sum that stays in the cache, with the very steps of the product.
            new Span<float>(absorbed, shape.Latent).Clear();
            for (int d = 0; d < shape.Nope; d += DecodeBuffers.WeightRows)
            {
                byte* weights = task.KvB.Rows(row + d, DecodeBuffers.WeightRows, buffers.Weights, buffers.WeightLength, out nint pitch);
                Rows<TSimd, TVector>.AccumulateFour<TElement>(buffers.Queries + d, weights, pitch, shape.Latent, absorbed);
            }
        }
        else if (shape.Latent == Padded(shape.Latent))
        {
            byte* weights = task.KvB.Rows(row, shape.Nope, buffers.Weights, buffers.WeightLength, out nint pitch);
            if (!task.KvB.AreCodes) FetchWeights<TElement>(weights, pitch, shape);
            Product<TSimd, TVector>.Run<TElement>(
                shape.Batch, shape.Latent, shape.Nope, buffers.Queries, buffers.QueryLength, 1,
                weights, pitch / TElement.Size, absorbed, absorbedRow, false);
        }
        else
        {
            byte* weights = task.KvB.Rows(row, shape.Nope, buffers.Weights, buffers.WeightLength, out nint pitch);
            for (int d = 0; d < shape.Nope && !task.KvB.AreCodes; d++)
                Rows<TSimd, TVector>.Widen<TElement>(weights + d * pitch, buffers.Weights + (nint)d * buffers.WeightLength, shape.Latent);
            Product<TSimd, TVector>.Run(
                shape.Batch, Padded(shape.Latent), shape.Nope, buffers.Queries, buffers.QueryLength, 1,
                buffers.Weights, buffers.WeightLength, absorbed, absorbedRow, false);
        }

        // After the product, whose last column step may reach into these columns.
        for (int b = 0; b < shape.Batch; b++)
            Rows<TSimd, TVector>.Scale(task.Q[(long)b * shape.Heads + head] + shape.Nope, absorbed + b * absorbedRow + shape.Latent, shape.Rope, factor);
    }

    /// <inheritdoc/>
    public override void Attend(in DecodeTask task, int tile, float* scratch)
    {
        DecodeShape shape = task.Shape;
        var buffers = new DecodeBuffers(scratch, shape);
        int split = tile / task.HeadBlocks, firstHead = tile % task.HeadBlocks * task.HeadBlock, heads = Math.Min(task.HeadBlock, shape.Heads - firstHead);
        int sequence = 0, within = split;
        for (int splits; within >= (splits = DecodeShape.Splits(task.Lengths[sequence])); sequence++) within -= splits;
        int length = task.Lengths[sequence], first = within * DecodeShape.Split(length), end = Math.Min(first + DecodeShape.Split(length), length);
        for (int h = firstHead; h < firstHead + heads; h++)
        {
            *task.Largest(split, h) = float.NegativeInfinity;
            *task.Sum(split, h) = 0;
        }

        for (int start = first; start < end; start += DecodeShape.TokenTile)
        {
            int tokens = Math.Min(DecodeShape.TokenTile, end - start);
            Gather(task, sequence, start, end, buffers.Tokens, buffers.TokenLength);
            for (int h = 0; h < heads; h += CausalShape.RowTile)
            {
                int rows = Math.Min(CausalShape.RowTile, heads - h);
                AttendHeads(task, buffers, sequence, split, firstHead + h, rows, tokens, start == first);
            }
        }
    }

    /// <summary>Some heads of a sequence against a tile of its tokens.</summary>
    private static void AttendHeads(in DecodeTask task, in DecodeBuffers buffers, int sequence, int split, int head, int rows, int tokens, bool firstTile)
    {
        DecodeShape shape = task.Shape;
        float* context = task.Context(split, head), scores = buffers.Scores;
        RowProducts.Run<FormatF32>(
            rows, tokens, shape.Key, task.Absorbed(sequence, head), shape.QueryLength, (byte*)buffers.Tokens, buffers.TokenLength, scores, buffers.ScoreLength);
        for (int i = 0; i < rows; i++)
        {
            float factor = Softmax<TSimd, TVector>.Step(
                scores + i * buffers.ScoreLength, tokens, tokens, ref *task.Largest(split, head + i), ref *task.Sum(split, head + i));
            float* row = context + (nint)i * shape.ContextLength;
            if (factor != 1 && !firstTile) Rows<TSimd, TVector>.Scale(row, row, shape.Latent, factor);
        }

        Product<TSimd, TVector>.Run(
            rows, Padded(shape.Latent), tokens, scores, buffers.ScoreLength, 1,
            buffers.Tokens, buffers.TokenLength, context, shape.ContextLength, !firstTile);
    }

    private static void Project<TElement>(in DecodeTask task, int head, float* scratch) where TElement : struct, IElementFormat
    {
        DecodeShape shape = task.Shape;
        var buffers = new DecodeBuffers(scratch, shape);
        int split = 0;
        for (int b = 0; b < shape.Batch; b++)
        {
            int splits = DecodeShape.Splits(task.Lengths[b]);
            Join(task, split, splits, head, buffers.Latents + (nint)b * shape.ContextLength);
            split += splits;
        }

        long row = head * (long)(shape.Nope + shape.Value) + shape.Nope;
        float* output = task.Output[head];
        nint outputRow = (nint)task.Output.Stride * shape.Heads;
        int rows = task.KvB.AreCodes ? DecodeBuffers.WeightRows : shape.Value;
        for (int v = 0; v < shape.Value; v += rows)
        {
            int count = Math.Min(rows, shape.Value - v);
            byte* weights = task.KvB.Rows(row + v, count, buffers.Weights, buffers.WeightLength, out nint pitch);
            RowProducts.Run<TElement>(
                shape.Batch, count, shape.Latent, buffers.Latents, shape.ContextLength, weights, pitch / TElement.Size, output + v, outputRow);
        }
    }

    /// <summary>
    /// Asks for a head's rows of kv_b_proj in the order in which they lie. The products go through them in strips of columns, and
    /// would wait for memory at every row.
    /// </summary>
    private static void FetchWeights<TElement>(byte* weights, nint pitch, in DecodeShape shape) where TElement : struct, IElementFormat
    {
        for (int row = 0; row < shape.Nope; row++) Prefetch.Bytes(weights + row * pitch, shape.Latent * TElement.Size);
    }

    /// <summary>The weighted mean of latents over all splits of a sequence.</summary>
    private static void Join(in DecodeTask task, int first, int splits, int head, float* latent)
    {
        int count = task.Shape.Latent;
        float largest = float.NegativeInfinity, sum = 0;
        for (int s = first; s < first + splits; s++) largest = MathF.Max(largest, *task.Largest(s, head));
        for (int s = first; s < first + splits; s++)
        {
            float weight = MathF.Exp((*task.Largest(s, head) - largest) * (float)Ln2);
            sum += weight * *task.Sum(s, head);
            if (s == first) Rows<TSimd, TVector>.Scale(task.Context(s, head), latent, count, weight);
            else Rows<TSimd, TVector>.AddScaled(task.Context(s, head), latent, count, weight);
        }

        Rows<TSimd, TVector>.Scale(latent, latent, count, 1 / sum);
    }

    /// <summary>Reads cached tokens, wherever their blocks lie, as F32 rows, and asks for those of the next tile.</summary>
    private static void Gather(in DecodeTask task, int sequence, int start, int end, float* rows, int rowLength)
    {
        LatentRow layout = task.CacheLayout;
        int key = task.Shape.Key, tokens = Math.Min(DecodeShape.TokenTile, end - start);
        for (int t = 0; t < tokens; t++)
        {
            int next = start + t + DecodeShape.TokenTile;
            if (next < end) Prefetch.Bytes(task.Token(sequence, next), layout.Bytes);
            byte* token = task.Token(sequence, start + t);
            float* row = rows + (nint)t * rowLength;
            if (layout.IsQuantized) Expand(layout, token, row);
            else if (layout.Type == DType.BF16) Rows<TSimd, TVector>.Widen<FormatBF16>(token, row, key);
            else Rows<TSimd, TVector>.Widen<FormatF32>(token, row, key);
        }
    }

    /// <summary>The numbers of a token in codes, once for all heads that the task has.</summary>
    private static void Expand(in LatentRow layout, byte* token, float* row)
    {
        float* scales = (float*)(token + layout.Latent);
        for (int first = 0; first < layout.Latent; first += LatentRow.Tile)
            CodeRows.Expand(DType.F8E4M3, token + first, Math.Min(LatentRow.Tile, layout.Latent - first), scales[first / LatentRow.Tile], row + first);
        Rows<TSimd, TVector>.Widen<FormatBF16>(token + layout.RopeOffset, row + layout.Latent, layout.Rope);
    }
}

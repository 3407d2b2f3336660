using Fathom.Compute.Cpu.Attention;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

internal sealed unsafe partial class CpuAttention
{
    public void LatentDecode(Tensor q, in ScaledTensor kvB, Tensor cache, Tensor blockTables, Tensor lengths, float scale, Tensor output)
    {
        const string op = "attention.latent_decode";
        DecodeShape shape = CheckDecode(op, q, kvB, cache, blockTables, lengths, output);
        if (shape.Batch == 0 || shape.Heads == 0) return;
        int splits = 0;
        foreach (int length in lengths.AsSpan<int>()) splits += DecodeShape.Splits(length);
        lock (oneCallAtATime)
        {
            scratch.Reserve(new DecodeBuffers(null, shape).Floats, DecodeTask.SharedFloats(shape, splits));
            var task = new DecodeTask
            {
                Shape = shape,
                Q = new RowView(q),
                KvB = new KeyValueWeights(kvB),
                Cache = cache.Pointer<byte>(),
                CacheRow = cache.RowStride * cache.DType.SizeInBytes(),
                CacheIsBF16 = cache.DType == DType.BF16,
                BlockTables = blockTables.Pointer<int>(),
                BlockColumns = blockTables.Columns,
                Lengths = lengths.Pointer<int>(),
                Scale = scale,
                Output = new RowView(output),
                Splits = splits,
                HeadBlock = shape.HeadBlock(splits, team.Size),
                Shared = scratch.Shared,
            };
            team.For(shape.Heads, new AbsorbJob(kernels, scratch, task));
            team.For(task.AttendTiles, new AttendJob(kernels, scratch, task));
            team.For(shape.Heads, new ProjectJob(kernels, scratch, task));
        }
    }

    private static DecodeShape CheckDecode(
        string op, in Tensor q, in ScaledTensor kvB, in Tensor cache, in Tensor blockTables, in Tensor lengths, in Tensor output)
    {
        CheckRank(op, "q", q, "[B, H, dn + dr]");
        CheckRank(op, "cache", cache, "[blocks, block size, R + dr]");
        CheckRank(op, "output", output, "[B, H, dv]");
        if (kvB.Shape.Rank != 2 || !KeyValueWeights.Reads(kvB))
            throw new ArgumentException($"{op}: kvB is {kvB}, expected F32, BF16 or codes with scales by block [H·(dn + dv), R]");
        if (cache.DType is not (DType.F32 or DType.BF16))
            throw new ArgumentException($"{op}: cache is {cache}, expected F32 or BF16 [blocks, block size, R + dr]");
        long rope = cache.Columns - kvB.Shape.Columns, nope = q.Columns - rope, batch = q.Shape[0], heads = q.Shape[1];
        if (rope < 0 || nope < 0)
            throw new ArgumentException($"{op}: q {q.Shape}, kvB {kvB.Shape} and cache {cache.Shape} do not fit: R + dr is {cache.Columns}, R {kvB.Shape.Columns}, dn + dr {q.Columns}");
        var shape = new DecodeShape(
            checked((int)batch), checked((int)heads), (int)nope, (int)rope, checked((int)output.Columns), checked((int)kvB.Shape.Columns), checked((int)cache.Shape[1]));
        Require.Matrix(op, "q", q, batch * heads, nope + rope);
        Require.Matrix(op, "kvB", kvB.Elements, heads * (nope + shape.Value), shape.Latent, kvB.DType);
        Require.Matrix(op, "output", output, batch * heads, shape.Value);
        Require.Writable(op, "output", output);
        Require.Vector(op, "lengths", lengths, batch, DType.I32);
        Require.Vector(op, "blockTables", blockTables, batch * blockTables.Columns, DType.I32);
        CheckTables(op, shape, (int)Math.Min(int.MaxValue, cache.Shape[0]), blockTables, lengths);
        return shape;
    }

    private static void CheckTables(string op, in DecodeShape shape, int blocks, in Tensor blockTables, in Tensor lengths)
    {
        long columns = blockTables.Columns;
        for (int b = 0; b < shape.Batch; b++)
        {
            int length = lengths.Pointer<int>()[b];
            if (length < 1 || length > columns * shape.BlockSize)
                throw new ArgumentException($"{op}: lengths[{b}] is {length}, expected 1 to {columns * shape.BlockSize} ({columns} blocks of {shape.BlockSize} tokens)");
            int* table = blockTables.Pointer<int>() + b * columns;
            for (int i = 0; i < CausalShape.Blocks(length, shape.BlockSize); i++)
            {
                if ((uint)table[i] >= (uint)blocks)
                    throw new ArgumentException($"{op}: blockTables[{b}, {i}] is {table[i]}, expected a cache block from 0 to {blocks - 1}");
            }
        }
    }

    private readonly struct AbsorbJob(AttentionKernels kernels, Scratch scratch, DecodeTask task) : ITileJob
    {
        private readonly DecodeTask task = task;

        public void Run(int tile, int worker) => kernels.Absorb(task, tile, scratch.Worker(worker));
    }

    private readonly struct AttendJob(AttentionKernels kernels, Scratch scratch, DecodeTask task) : ITileJob
    {
        private readonly DecodeTask task = task;

        public void Run(int tile, int worker) => kernels.Attend(task, tile, scratch.Worker(worker));
    }

    private readonly struct ProjectJob(AttentionKernels kernels, Scratch scratch, DecodeTask task) : ITileJob
    {
        private readonly DecodeTask task = task;

        public void Run(int tile, int worker) => kernels.Project(task, tile, scratch.Worker(worker));
    }
}

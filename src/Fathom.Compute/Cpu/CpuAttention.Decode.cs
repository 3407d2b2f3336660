using Fathom.Compute.Cpu.Attention;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

internal sealed unsafe partial class CpuAttention
{
    public void LatentDecode(Tensor q, in ScaledTensor kvB, Tensor cache, Tensor blockTables, Tensor lengths, float scale, Tensor output)
    {
        DecodeSizes sizes = AttentionChecks.CheckDecode(DType.F32, q, kvB, cache, blockTables, lengths, output);
        var shape = new DecodeShape(sizes.Batch, sizes.Heads, sizes.Nope, sizes.Rope, sizes.Value, sizes.Latent, sizes.BlockSize);
        CheckTables(AttentionChecks.Decode, shape, (int)Math.Min(int.MaxValue, cache.Shape[0]), blockTables, lengths);
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
                CacheLayout = new LatentRow(cache.DType, sizes.Latent, sizes.Rope),
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

// When Hopper's attention kernels take a call, and in how many blocks: pure functions of sizes.
using Fathom.Compute.Cuda.Hopper;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class HopperAttentionPlanTests(ITestOutputHelper output)
{
    private const int Multiprocessors = 132, SharedBytes = 227 << 10;
    private const float Scale = 0.07f;

    private static readonly CausalSizes DeepSeek = new(1, 128, 4096, 4096, 128, 64, 128);

    [Fact]
    public void DeepSeek_is_taken_on_Hopper_alone()
    {
        Assert.True(HopperAttentionPlan.Takes(DType.BF16, DeepSeek, Scale, true, 90));
        Assert.True(HopperAttentionPlan.Takes(DType.BF16, DeepSeek with { Queries = 100, Keys = 5000 }, Scale, true, 90));
        foreach (int capability in (int[])[80, 86, 89, 100, 120]) Assert.False(HopperAttentionPlan.Takes(DType.BF16, DeepSeek, Scale, true, capability));
        Assert.False(HopperAttentionPlan.Takes(DType.F32, DeepSeek, Scale, true, 90));
        Assert.False(HopperAttentionPlan.Takes(DType.BF16, DeepSeek, Scale, false, 90));
        Assert.False(HopperAttentionPlan.Takes(DType.BF16, DeepSeek with { Value = 64 }, Scale, true, 90));
        Assert.False(HopperAttentionPlan.Takes(DType.BF16, DeepSeek with { Nope = 64 }, Scale, true, 90));
        Assert.False(HopperAttentionPlan.Takes(DType.BF16, DeepSeek with { Queries = 64 }, Scale, true, 90));
        Assert.True(HopperAttentionPlan.CanTake(DType.BF16, DeepSeek with { Queries = 1, Keys = 1 }, Scale, true, 90));

        // The largest score is found before scaling, and copies of nothing have no map.
        Assert.False(HopperAttentionPlan.CanTake(DType.BF16, DeepSeek, -Scale, true, 90));
        Assert.False(HopperAttentionPlan.CanTake(DType.BF16, DeepSeek, 0, true, 90));
        Assert.False(HopperAttentionPlan.CanTake(DType.BF16, DeepSeek with { Batch = 0 }, Scale, true, 90));
        Assert.False(HopperAttentionPlan.CanTake(DType.BF16, DeepSeek with { Heads = 0 }, Scale, true, 90));
    }

    [Fact]
    public void A_block_fits_a_multiprocessor()
    {
        output.WriteLine($"forward {HopperAttentionPlan.ForwardSharedBytes} bytes, gradients {HopperAttentionPlan.GradientSharedBytes}");
        Assert.InRange(HopperAttentionPlan.ForwardSharedBytes, 208 << 10, SharedBytes);
        Assert.InRange(HopperAttentionPlan.GradientSharedBytes, 192 << 10, SharedBytes);
    }

    [Theory]
    [InlineData(1, 128, 4096, 132)]
    [InlineData(4, 16, 4096, 132)]
    [InlineData(1, 3, 129, 3)]
    [InlineData(2, 5, 257, 20)]
    public void Pairs_of_blocks_are_shared_out_evenly(int batch, int heads, int tokens, int blocks)
    {
        CausalSizes sizes = DeepSeek with { Batch = batch, Heads = heads, Queries = tokens, Keys = tokens };
        Assert.Equal((blocks, 1L, 1L), HopperAttentionPlan.ForwardShape(sizes, Multiprocessors).Grid);

        // As QueryBlocks of hopper_attention.cuh goes through them: every block once, and key tiles as evenly as whole pairs allow.
        int own = (tokens + 127) / 128, pairs = (own + 1) / 2;
        var work = new long[blocks];
        var seen = new HashSet<(int Row, int Block)>();
        for (int pair = 0; pair < HopperAttentionPlan.Pairs(sizes); pair++)
        {
            int row = pair / pairs, place = pair % pairs;
            foreach (int block in new HashSet<int> { own - 1 - place, place })
            {
                Assert.True(seen.Add((row, block)));
                work[pair % blocks] += block + 1;
            }
        }

        Assert.Equal(batch * heads * own, seen.Count);
        output.WriteLine($"{sizes}: {HopperAttentionPlan.Pairs(sizes)} pairs, {work.Min()} to {work.Max()} key tiles a block, mean {work.Average():F1}");
        Assert.True(work.Max() - work.Min() <= own + 1);
    }

    [Theory]
    [InlineData(1, 128, 4096)]
    [InlineData(8, 128, 4096)]
    [InlineData(1, 1, 100)]
    [InlineData(1, 7, 65)]
    [InlineData(1, 128, 512)]
    [InlineData(1, 128, 131072)]
    public void Sums_over_blocks_stay_small_and_nobody_waits_for_a_later_block(int batch, int heads, int tokens)
    {
        CausalSizes sizes = DeepSeek with { Batch = batch, Heads = heads, Queries = tokens, Keys = tokens };
        int slots = HopperAttentionPlan.Slots(sizes, Multiprocessors);
        long blocks = (tokens + 127) / 128, tiles = (tokens + 63) / 64, bytes = HopperAttentionPlan.QuerySumBytes(sizes, slots);
        output.WriteLine($"{sizes}: {slots} heads at a time, {bytes} bytes and {HopperAttentionPlan.RotarySumBytes(sizes)} of rotary keys");
        Assert.Equal((blocks * heads * batch, 1L, 1L), HopperAttentionPlan.GradientShape(sizes).Grid);
        Assert.InRange(slots, 1, heads * batch);
        Assert.True(slots == heads * batch || (slots - 1) * blocks >= 2 * Multiprocessors);
        Assert.True(bytes <= 48L << 20 || slots <= 5);

        // As Keys of hopper_attention_sums.cuh counts: every word once, and the turns of a sum in the order in which blocks are taken.
        var counts = new Dictionary<long, uint>();
        for (int number = 0; number < Math.Min(blocks * heads * batch, 4 * slots * blocks); number++)
        {
            long row = number / blocks, block = blocks - 1 - number % blocks, use = row / slots;
            for (int team = 0; team < 2; team++)
            {
                for (long at = 2 * block; at < tiles; at++) Take(1 + 2 * (row % slots * tiles + at) + team, (uint)(use * (at / 2 + 1) + at / 2 - block));
                Take(1 + 2 * (slots * tiles + row / heads * blocks + block) + team, (uint)(row % heads));
            }
        }

        Assert.InRange(counts.Keys.Max(), 1, HopperAttentionPlan.CountWords(sizes, slots) - 1);

        void Take(long word, uint turn)
        {
            Assert.Equal(counts.GetValueOrDefault(word), turn);
            counts[word] = turn + 1;
        }
    }
}

// Which attention kernels take a call, and in how many blocks: pure functions of sizes.
using Fathom.Compute.Cuda;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CudaAttentionPlanTests(ITestOutputHelper output)
{
    private const int Multiprocessors = 132, SharedBytes = 227 << 10, MultiprocessorSharedBytes = 228 << 10, ReservedBytes = 1 << 10;

    private static readonly CausalSizes DeepSeek = new(1, 128, 4096, 4096, 128, 64, 128);

    [Fact]
    public void DeepSeek_runs_on_tensor_cores_two_blocks_to_a_multiprocessor()
    {
        var variant = CausalVariant.Choose(DType.BF16, DeepSeek, aligned: true, SharedBytes);
        Assert.Equal("causal_forward_mma<128, 64, 128>", variant.Forward);
        Assert.Equal("causal_key_gradient_mma<128, 64, 128>", variant.KeyGradient);
        output.WriteLine($"forward {variant.ForwardSharedBytes} bytes, gradients {variant.GradientSharedBytes}");
        Assert.True(2 * (variant.ForwardSharedBytes + ReservedBytes) <= MultiprocessorSharedBytes);
        Assert.True(2 * (variant.GradientSharedBytes + ReservedBytes) <= MultiprocessorSharedBytes);
        Assert.Equal((32L, 128L, 1L), variant.ForwardShape(DeepSeek).Grid);
        Assert.Equal((64L, 128L, 1L), variant.QueryGradientShape(DeepSeek).Grid);
        Assert.Equal((13L, 64L, 1L), variant.KeyGradientShape(DeepSeek, 13).Grid);
    }

    [Theory]
    [InlineData(8, 8, 8, 16, 16, 16)]
    [InlineData(64, 32, 64, 64, 32, 64)]
    [InlineData(40, 24, 56, 48, 32, 64)]
    public void Head_dimensions_go_up_to_the_next_sixteen(int nope, int rope, int value, int paddedNope, int paddedRope, int paddedValue) =>
        Assert.Equal(
            new CausalVariant(DType.BF16, true, paddedNope, paddedRope, paddedValue),
            CausalVariant.Choose(DType.BF16, new CausalSizes(1, 2, 5, 5, nope, rope, value), aligned: true, SharedBytes));

    [Fact]
    public void What_tensor_cores_do_not_take_runs_on_the_general_ones()
    {
        CausalSizes odd = DeepSeek with { Rope = 4 }, wide = DeepSeek with { Value = 256 }, noRope = DeepSeek with { Rope = 0 };
        CausalVariant[] general =
        [
            CausalVariant.Choose(DType.F32, DeepSeek, true, SharedBytes), CausalVariant.Choose(DType.BF16, DeepSeek, false, SharedBytes),
            CausalVariant.Choose(DType.BF16, DeepSeek, true, 99 << 10), CausalVariant.Choose(DType.BF16, odd, true, SharedBytes),
            CausalVariant.Choose(DType.BF16, wide, true, SharedBytes), CausalVariant.Choose(DType.BF16, noRope, true, SharedBytes),
        ];
        foreach (CausalVariant variant in general)
        {
            Assert.False(variant.TensorCores);
            Assert.True(variant.ForwardSharedBytes <= 99 << 10);
        }

        Assert.Equal("causal_forward<float, 2>", general[0].Forward);
        Assert.Equal("causal_gradient<float, OfKeys, 3>", general[0].KeyGradient);
        // Two chunks of 128 value columns for each tile of 64 queries.
        Assert.Equal((2 * 64L, 128L, 1L), general[4].ForwardShape(wide).Grid);
        Assert.Equal((2L, 128L, 64L), general[4].ValueGradientShape(wide).Grid);
    }

    [Theory]
    [InlineData(1, 128, 4096)]
    [InlineData(8, 128, 4096)]
    [InlineData(1, 1, 100)]
    [InlineData(1, 7, 65)]
    [InlineData(64, 3, 3)]
    [InlineData(1, 128, 131072)]
    public void Groups_of_heads_fill_the_gpu_and_their_sums_stay_small(int batch, int heads, int tokens)
    {
        CausalSizes sizes = DeepSeek with { Batch = batch, Heads = heads, Queries = tokens, Keys = tokens };
        int groupHeads = CausalVariant.GroupHeads(sizes, Multiprocessors), groups = (heads + groupHeads - 1) / groupHeads;
        long tiles = (tokens + 63L) / 64 * batch, bytes = (long)groups * batch * tokens * sizes.Rope * sizeof(float);
        output.WriteLine($"{sizes}: {groupHeads} heads a group, {groups} groups, {groups * tiles} blocks, {bytes} bytes");
        Assert.InRange(groupHeads, 1, heads);
        Assert.True(groups == heads || groups * tiles >= 4 * Multiprocessors);
        Assert.True(groups == 1 || bytes <= 64L << 20);
    }

    [Fact]
    public void Decode_takes_more_heads_to_a_block_as_the_batch_grows()
    {
        var sizes = new DecodeSizes(1, 128, 128, 64, 128, 512, 64);
        DecodeVariant one = Choose(sizes, 8), some = Choose(sizes with { Batch = 8 }, 8), many = Choose(sizes with { Batch = 128 }, 8);
        Assert.Equal("decode_attend_mma<16, 512, 576, bf16>", one.Attend);
        Assert.Equal("decode_absorb<bf16, e4m3, bf16, 1>", one.Absorb);
        Assert.Equal((8L, 8L, 1L), one.AttendShape(sizes, 8).Grid);
        Assert.Equal(32, some.Heads);
        Assert.Equal("decode_attend_mma<64, 512, 576, bf16>", many.Attend);
        Assert.Equal("decode_project<bf16, e4m3, 8>", many.Project);
        Assert.True(many.TensorSharedBytes <= SharedBytes);
        Assert.Equal(16, Choose(sizes with { Heads = 6, Batch = 512 }, 8).Heads);
        Assert.False(DecodeVariant.Choose(DType.F32, DType.BF16, DType.BF16, sizes, 8, true, Multiprocessors, SharedBytes).TensorCores);
        Assert.False(Choose(sizes with { Latent = 500 }, 8).TensorCores);
        DecodeVariant codes = DecodeVariant.Choose(DType.BF16, DType.F8E4M3, DType.F8E4M3, sizes with { Batch = 128 }, 8, true, Multiprocessors, SharedBytes);
        Assert.Equal("decode_attend_mma<64, 512, 576, latent8>", codes.Attend);
        Assert.Equal("decode_attend<latent8, 2>", DecodeVariant.Choose(DType.BF16, DType.F8E4M3, DType.F8E4M3, sizes, 8, false, Multiprocessors, SharedBytes).Attend);

        static DecodeVariant Choose(DecodeSizes sizes, int splits) =>
            DecodeVariant.Choose(DType.BF16, DType.F8E4M3, DType.BF16, sizes, splits, true, Multiprocessors, SharedBytes);
    }

    [Fact]
    public void Launched_splits_cover_every_length_that_the_tables_hold()
    {
        int most = 0;
        for (int tokens = 1; tokens < 200_000; tokens += 61)
        {
            long part = DecodeVariant.SplitTokens(tokens);
            most = Math.Max(most, (int)((tokens + part - 1) / part));
            Assert.Equal(0, part % HopperDecodeVariant.Tile);
            // Of this length and of every shorter one.
            Assert.InRange(most, 1, DecodeVariant.MostSplits(tokens));
        }

        output.WriteLine($"at most {most} splits; 4096 tokens in splits of {DecodeVariant.SplitTokens(4096)}, 32768 of {DecodeVariant.SplitTokens(32768)}");
        Assert.Equal(32, most);
    }

    [Fact]
    public void DeepSeek_decodes_by_Hoppers_own_kernels()
    {
        var sizes = new DecodeSizes(128, 128, 128, 64, 128, 512, 64);
        HopperDecodeVariant one = HopperDecodeVariant.Choose(DType.F8E4M3, sizes with { Batch = 16 }), many = HopperDecodeVariant.Choose(DType.BF16, sizes);
        Assert.Equal("decode_absorb_mma<e4m3, 1>", one.Absorb);
        Assert.Equal("decode_project_mma<e4m3>", one.Project);
        Assert.Equal((128L, 1L, 1L), one.AbsorbShape(sizes with { Batch = 16 }).Grid);
        Assert.Equal(128, one.AbsorbShape(sizes).Block);
        Assert.Equal("decode_absorb_mma<bf16, 2>", many.Absorb);
        Assert.Equal((128L, 4L, 1L), many.AbsorbShape(sizes).Grid);
        Assert.Equal(256, many.AbsorbShape(sizes).Block);
        Assert.Equal((128L, 8L, 1L), HopperDecodeVariant.ProjectShape(sizes).Grid);

        // A block for each part, until every multiprocessor has one.
        Assert.Equal(22L, HopperDecodeVariant.AttendShape(sizes with { Batch = 1 }, 11, Multiprocessors).Grid.X);
        Assert.Equal(1L, HopperDecodeVariant.AttendShape(sizes with { Batch = 1, Heads = 5 }, 1, Multiprocessors).Grid.X);
        Assert.Equal((long)Multiprocessors, HopperDecodeVariant.AttendShape(sizes, 11, Multiprocessors).Grid.X);
        output.WriteLine($"attention: {HopperDecodeVariant.AttendSharedBytes} of {SharedBytes} bytes of shared memory");
        Assert.True(HopperDecodeVariant.AttendSharedBytes <= SharedBytes);
    }

    [Fact]
    public void Hoppers_decode_takes_what_the_copy_engine_and_the_fragments_can_read()
    {
        var sizes = new DecodeSizes(3, 16, 128, 64, 128, 512, 64);
        Tensor cache = HostMemory.Allocate(new Shape(2, 64, 576), DType.BF16), weights = HostMemory.Allocate(new Shape(16 * 256, 512), DType.BF16);
        Assert.True(Fits(sizes));
        Assert.True(Fits(sizes with { BlockSize = 128 }));
        Assert.False(Fits(sizes with { BlockSize = 32 }));
        Assert.False(Fits(sizes with { Latent = 256 }));
        Assert.False(Fits(sizes with { Nope = 64 }));
        Assert.False(HopperDecodeVariant.Fits(80, DType.BF16, sizes, weights, cache, true));
        Assert.False(HopperDecodeVariant.Fits(90, DType.F32, sizes, weights, cache, true));
        Assert.False(HopperDecodeVariant.Fits(90, DType.BF16, sizes, weights, cache, false));
        Assert.False(HopperDecodeVariant.Fits(90, DType.BF16, sizes, HostMemory.Allocate(weights.Shape, DType.F32), cache, true));
        Assert.False(HopperDecodeVariant.Fits(90, DType.BF16, sizes, weights, HostMemory.Allocate(new Shape(0, 64, 576), DType.BF16), true));

        bool Fits(DecodeSizes s) => HopperDecodeVariant.Fits(90, DType.BF16, s, weights, cache, true);
    }
}

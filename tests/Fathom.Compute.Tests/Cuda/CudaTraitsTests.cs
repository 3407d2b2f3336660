// What a GPU keeps beside weights and how it takes operands, without one: capability, types and sizes decide.
using Fathom.Compute.Cuda;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CudaTraitsTests
{
    private static readonly OperandTraits
        Rows = new(DType.F8E4M3, ScaleLayout.RowTile, DType.F32),
        Blocks = new(DType.F8E4M3, ScaleLayout.Block, DType.F32),
        Powers = new(DType.F8E4M3, ScaleLayout.Block, DType.F8E8M0);

    public static TheoryData<bool, string, OperandTraits, OperandTraits, long, long, int> Kept => new()
    {
        { true, "a weight", Rows, Blocks, 7168, 2048, 0 },
        { true, "experts", Rows, Blocks, 2048, 7168, 256 },
        { true, "the least that rows of 16 bytes allow", Rows, Blocks, 16, 8, 0 },
        { true, "gradients that were dispatched", Rows with { Scales = DType.F8E8M0 }, Blocks, 7168, 2048, 256 },
        { true, "a weight with powers of two, which cuBLASLt takes", Rows, Powers, 7168, 2048, 0 },
        { false, "experts with powers of two", Rows, Powers, 7168, 2048, 256 },
        { false, "more experts than a grouped product has", Rows, Blocks, 7168, 2048, 1025 },
        { false, "outputs that are no whole 16 bytes", Rows, Blocks, 24, 8, 0 },
        { false, "inputs that are no whole 16 bytes of BF16", Rows, Blocks, 16, 12, 0 },
        { false, "gradients in BF16", new(DType.BF16, ScaleLayout.None, DType.F32), Blocks, 7168, 2048, 0 },
        { false, "gradients with one scale", Rows with { Layout = ScaleLayout.Tensor }, Blocks, 7168, 2048, 0 },
        { false, "gradients in E5M2", Rows with { Elements = DType.F8E5M2 }, Blocks, 7168, 2048, 0 },
        { false, "HiFloat8", Rows with { Elements = DType.HiF8 }, Blocks with { Elements = DType.HiF8 }, 7168, 2048, 0 },
        { false, "weights with one scale", Rows, Blocks with { Layout = ScaleLayout.Tensor }, 7168, 2048, 0 },
    };

    [Theory]
    [MemberData(nameof(Kept))]
    public void Codes_are_kept_transposed_where_a_product_can_take_them(
        bool kept, string what, OperandTraits gradient, OperandTraits weight, long outputs, long inputs, int experts)
    {
        Assert.True(kept == CudaTraits.Of(90).KeepsTransposed(gradient, weight, outputs, inputs, experts), what);
        Assert.False(CudaTraits.Of(80).KeepsTransposed(gradient, weight, outputs, inputs, experts));
        Assert.False(DeviceTraits.Processor.KeepsTransposed(gradient, weight, outputs, inputs, experts));
    }

    [Theory]
    [InlineData(90, DType.F8E4M3, DType.F32, 2048, 7168, ScaleLayout.TransposedColumnTile)]
    [InlineData(90, DType.F8E4M3, DType.F8E8M0, 2048, 7168, ScaleLayout.ColumnTile)]
    [InlineData(90, DType.F8E5M2, DType.F32, 2048, 7168, ScaleLayout.ColumnTile)]
    [InlineData(90, DType.F8E4M3, DType.F32, 2044, 7168, ScaleLayout.ColumnTile)]
    [InlineData(90, DType.F8E4M3, DType.F32, 2048, 7164, ScaleLayout.ColumnTile)]
    [InlineData(89, DType.F8E4M3, DType.F32, 2048, 7168, ScaleLayout.ColumnTile)]
    public void Operands_over_tokens_lie_transposed_on_Hopper(int capability, DType elements, DType scales, long outputs, long inputs, ScaleLayout expected)
    {
        Assert.Equal(expected, CudaTraits.Of(capability).TokenLayout(elements, scales, outputs, inputs));
        Assert.Equal(ScaleLayout.ColumnTile, DeviceTraits.Processor.TokenLayout(elements, scales, outputs, inputs));
    }

    [Fact]
    public void Attention_reads_codes_of_its_result_where_kernels_for_Hopper_compute_the_call()
    {
        var sizes = new CausalSizes(1, 128, 4096, 4096, 128, 64, 128);
        OperandTraits codes = new(DType.E5M6Pair, ScaleLayout.RowTile, DType.F8E8M0);
        Assert.True(Reads(90, DType.BF16, codes, sizes));
        Assert.False(Reads(80, DType.BF16, codes, sizes));
        Assert.False(Reads(90, DType.F32, codes, sizes));
        Assert.False(Reads(90, DType.BF16, codes with { Scales = DType.F32 }, sizes));
        Assert.False(Reads(90, DType.BF16, codes with { Elements = DType.F8E4M3 }, sizes));
        Assert.False(Reads(90, DType.BF16, codes with { Layout = ScaleLayout.Tensor }, sizes));
        Assert.False(Reads(90, DType.BF16, new(DType.BF16, ScaleLayout.None, DType.F32), sizes));
        Assert.False(Reads(90, DType.BF16, codes, sizes with { Value = 64 }));
        Assert.False(Reads(90, DType.BF16, codes, sizes with { Queries = 64, Keys = 64 }));
        Assert.False(Reads(90, DType.BF16, codes, sizes, latent: 500));
        Assert.False(DeviceTraits.Processor.ReadsAttentionCodes(DType.BF16, codes, sizes, 512));

        static bool Reads(int capability, DType type, OperandTraits output, CausalSizes sizes, long latent = 512) =>
            CudaTraits.Of(capability).ReadsAttentionCodes(type, output, sizes, latent);
    }

    [Theory]
    [InlineData(DType.BF16, 2048, true)]
    [InlineData(DType.BF16, 2044, false)]
    [InlineData(DType.F32, 2048, false)]
    public void SwiGLU_quantises_on_its_way_where_rows_are_whole_16_bytes_of_BF16(DType type, long columns, bool fused)
    {
        foreach (int capability in (int[])[80, 90]) Assert.Equal(fused, CudaTraits.Of(capability).FusesSwiGluQuantization(type, columns));
        Assert.False(DeviceTraits.Processor.FusesSwiGluQuantization(type, columns));
    }

    [Theory]
    [InlineData(DType.BF16, 7168, 7168, true)]
    [InlineData(DType.BF16, 512, 576, true)]
    [InlineData(DType.BF16, 512, 580, false)]
    [InlineData(DType.BF16, 1532, 1536, false)]
    [InlineData(DType.F32, 7168, 7168, false)]
    public void Norms_quantise_on_their_way_where_rows_are_whole_aligned_16_bytes_of_BF16(DType type, long columns, long stride, bool fused)
    {
        foreach (int capability in (int[])[80, 90]) Assert.Equal(fused, CudaTraits.Of(capability).FusesNormQuantization(type, columns, stride));
        Assert.False(DeviceTraits.Processor.FusesNormQuantization(type, columns, stride));
    }
}

// What of Hopper's products needs no GPU: sizes of tiles, the choice between them, and which operands are taken.
using System.Runtime.CompilerServices;
using Fathom.Compute.Cuda.Hopper;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class HopperTileTests(ITestOutputHelper output)
{
    private const int Multiprocessors = 132, MostBlockBytes = 227 << 10;

    [Fact]
    public void Tiles_fit_into_shared_memory_and_registers()
    {
        foreach ((HopperTile tile, bool scaled) in HopperTile.Fp8Rows.Concat(HopperTile.BFloat16).Select(t => (t, false)).Concat(HopperTile.Fp8Weights.Select(t => (t, true))))
        {
            int bytes = tile.SharedBytes(HopperTile.MostGroups, scaled);
            output.WriteLine($"{tile}: {bytes} bytes a block");
            Assert.InRange(bytes, 1, MostBlockBytes);
            Assert.InRange((bytes + HopperTile.ReservedBytes) * tile.PerMultiprocessor, 1, HopperTile.MultiprocessorSharedBytes);
            Assert.InRange(tile.Rows, 64, 256);
            Assert.Equal(0, tile.Columns % 32);
        }
    }

    [Fact]
    public void The_parameter_has_the_size_that_kernels_expect()
    {
        Assert.Equal(HopperProduct.Bytes, Unsafe.SizeOf<HopperProduct>());
        Assert.Equal(128, Unsafe.SizeOf<TensorMap>());
    }

    [Theory]
    [InlineData(4096, 24576, 1536, 0.85)]
    [InlineData(4096, 7168, 16384, 0.9)]
    [InlineData(4096, 4096, 7168, 0.85)]
    [InlineData(4096, 2112, 7168, 0.75)]
    [InlineData(4096, 7168, 2048, 0.8)]
    public void Large_products_are_predicted_near_the_tensor_cores_rate(int m, int n, int k, double share)
    {
        HopperTile tile = HopperTile.Choose(HopperTile.Fp8Rows, m, n, k, 1, true, 2, Multiprocessors, 1);
        double clocks = tile.Clocks(m, n, k, 1, true, 2, Multiprocessors, 1), floor = 2.0 * m * n * k / 8192 / Multiprocessors;
        output.WriteLine($"{m} x {n} x {k}: {tile}, {floor / clocks:P1} of the tensor cores' rate");
        Assert.InRange(floor / clocks, share, 1);
    }

    [Theory]
    [InlineData(1, 7168, 16384)]
    [InlineData(64, 7168, 16384)]
    [InlineData(64, 4096, 7168)]
    public void Few_rows_take_small_tiles_that_fill_the_gpu(int m, int n, int k)
    {
        HopperTile tile = HopperTile.Choose(HopperTile.Fp8Rows, m, n, k, 1, true, 2, Multiprocessors, 1);
        output.WriteLine($"{m} x {n} x {k}: {tile}, {tile.Count(m, n, 1)} tiles");
        Assert.Equal(64, tile.Rows);
        Assert.InRange(tile.Count(m, n, 1), 0.7 * Multiprocessors, Multiprocessors);
    }

    [Theory]
    [InlineData(4, 8192, 4096, 7168)]
    [InlineData(8, 4096, 7168, 2048)]
    [InlineData(256, 128, 4096, 7168)]
    [InlineData(32, 256, 7168, 2048)]
    public void Groups_do_not_waste_most_of_their_tiles(int groups, int rows, int n, int k)
    {
        HopperTile tile = HopperTile.Choose(HopperTile.Fp8Rows, (long)groups * rows, n, k, groups, true, 2, Multiprocessors, 1);
        double used = (double)groups * rows * n / (tile.Count((long)groups * rows, n, groups) * tile.Rows * tile.Columns);
        output.WriteLine($"{groups} groups of {rows} x {n} x {k}: {tile}, {used:P0} of the tiles used");
        Assert.True(used > 0.6);
    }

    // As they were timed: the copy engine where sums are short and nothing is added, two blocks a multiprocessor where they are long.
    [Theory]
    [InlineData(256, 128, 4, true, 1)]
    [InlineData(256, 128, 8, false, 2)]
    [InlineData(32, 256, 4, false, 2)]
    [InlineData(8, 4096, 4, false, 2)]
    [InlineData(8, 4096, 8, false, 2)]
    public void Weight_gradients_are_stored_as_it_is_fastest(int groups, int depth, int resultBytes, bool copies, int perMultiprocessor)
    {
        foreach ((int n, int k) in ((int, int)[])[(4096, 7168), (7168, 2048), (2048, 7168)])
        {
            HopperTile tile = HopperTile.Choose(HopperTile.Fp8Weights, n, k, depth, groups, false, resultBytes, Multiprocessors, 1);
            output.WriteLine($"{groups} x {n} x {k}, sums of {depth}, {resultBytes} bytes: {tile}");
            Assert.Equal((copies, perMultiprocessor), (tile.Copies, tile.PerMultiprocessor));
        }
    }

    [Fact]
    public void Only_what_the_copy_engine_reads_is_taken()
    {
        HopperMatrix good = new(4096, 1, 300, 264, 272);
        Assert.True(good.CanBeLoaded);
        Assert.False((good with { Address = 4104 }).CanBeLoaded);
        Assert.False((good with { RowStride = 264 }).CanBeLoaded);
        Assert.False((good with { Rows = 0 }).CanBeLoaded);
        Assert.False((good with { Count = 0 }).CanBeLoaded);
        Assert.False((good with { Count = 2, MatrixStride = 300 * 272 + 8 }).CanBeLoaded);
        Assert.True((good with { Count = 2, MatrixStride = 300 * 272 }).CanBeLoaded);
        Assert.True(new HopperMatrix(4096, 2, 300, 264, 264).CanBeLoaded);
    }

    [Fact]
    public void Only_the_scales_of_the_kernels_are_taken()
    {
        ScaledTensor x = Fake(64, 256, ScaleLayout.RowTile), w = Fake(128, 256, ScaleLayout.Block);
        ScaledTensor tokens = new(new Tensor(4096, DType.F8E4M3, new Shape(256, 128), null), new Tensor(1 << 24, DType.F32, new Shape(1, 256), null), ScaleLayout.TransposedColumnTile);
        Tensor y = new(4096, DType.BF16, new Shape(64, 128), null), dw = new(4096, DType.F32, new Shape(256, 256), null);
        Assert.True(HopperLimits.IsFp8Rows(x, w, y));
        Assert.False(HopperLimits.IsFp8Rows(tokens, w, y));
        Assert.False(HopperLimits.IsFp8Rows(x, x, y));
        Assert.False(HopperLimits.IsFp8Rows(x, w, new Tensor(4096, DType.BF16, new Shape(64, 132), null)));
        Assert.False(HopperLimits.IsFp8Rows(x, w, new Tensor(4100, DType.BF16, new Shape(64, 128), null)));
        Assert.False(HopperLimits.IsBFloat16(x, w, y));
        Assert.True(HopperLimits.IsFp8Weights(tokens, tokens, dw));
        Assert.False(HopperLimits.IsFp8Weights(x, tokens, dw));
        Assert.False(HopperLimits.IsFp8Weights(Fake(64, 256, ScaleLayout.ColumnTile), tokens, dw));
        Assert.False(HopperLimits.IsFp8Weights(tokens, tokens, new Tensor(4096, DType.BF16, new Shape(256, 256), null)));
    }

    [Theory]
    [InlineData(4096, 576, 7168, true)]
    [InlineData(4096, 1536, 24576, true)]
    [InlineData(4096, 2112, 7168, true)]
    [InlineData(4096, 4096, 7168, false)]
    [InlineData(512, 1536, 7168, false)]
    [InlineData(128, 18432, 7168, true)]
    [InlineData(64, 2112, 7168, true)]
    [InlineData(128, 7168, 16384, false)]
    public void Products_of_few_rows_or_columns_are_faster_than_the_librarys(int rows, int columns, int depth, bool own) =>
        Assert.Equal(own, HopperLimits.IsFasterThanLibrary(rows, columns, depth));

    [Fact]
    public void Experts_must_lie_equally_far_apart()
    {
        ScaledTensor[] experts = [.. Enumerable.Range(0, 4).Select(e => Fake(128, 256, ScaleLayout.Block, 4096 + e * 65536, 1 << 24 | e * 64))];
        HopperExperts even = HopperExperts.Of(new ExpertWeights(experts));
        Assert.Equal((4, 65536), (even.Elements.Count, even.Elements.MatrixStride));
        Assert.Equal(16, even.Scales.MatrixStride);
        Assert.Equal(0, HopperExperts.Of(new ExpertWeights([experts[0], experts[1], experts[3]])).Elements.Count);
    }

    private static ScaledTensor Fake(int rows, int columns, ScaleLayout layout, int address = 4096, int scales = 1 << 24) => new(
        new Tensor(address, DType.F8E4M3, new Shape(rows, columns), null),
        new Tensor(scales, DType.F32, ScaledTensor.ScaleShape(new Shape(rows, columns), layout), null), layout);
}

// Cuts of work for the GPU, which need none: every row, chunk, tile and slot must have exactly one thread.
using Fathom.Compute.Cuda;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CudaLaunchTests(ITestOutputHelper output)
{
    private const int Multiprocessors = 132;

    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(7, 14, 4)]
    [InlineData(32768, 14, 4)]
    [InlineData(700, 896, 4)]
    [InlineData(700, 896, 1)]
    [InlineData(3, 7168, 1)]
    [InlineData(5, 129, 1)]
    [InlineData(1000, 128, 1)]
    [InlineData(2, 100_003, 4)]
    public void Every_chunk_of_every_row_has_one_thread(long rows, long chunks, int chunksOfThread)
    {
        var cut = RowCut.For(rows, chunks, chunksOfThread, Multiprocessors);
        LaunchShape shape = cut.Shape(rows, chunks);
        output.WriteLine($"{rows} rows of {chunks} chunks, {chunksOfThread} a thread: {cut}, {shape}");
        Assert.True(shape.Block is >= 32 and <= 256 && shape.Block % 32 == 0, $"{shape}");
        Assert.True(shape.Block >= cut.Width * cut.RowsOfBlock && shape.Grid.Y <= 65535 && shape.Grid.Y == cut.Pieces, $"{shape}");
        var times = new int[rows, chunks];
        for (long y = 0; y < shape.Grid.Y; y++)
        {
            for (long row = 0; row < rows; row++)
            {
                Assert.True(row / cut.RowsOfBlock < shape.Grid.X);
                for (int thread = 0; thread < cut.Width; thread++)
                {
                    for (int i = 0; i < chunksOfThread; i++)
                    {
                        long chunk = y * chunksOfThread * cut.Width + thread + i * cut.Width;
                        if (chunk < chunks) times[row, chunk]++;
                    }
                }
            }
        }

        foreach (int count in times) Assert.True(count == 1, $"a chunk has {count} threads");
    }

    [Fact]
    public void Rows_of_nothing_launch_nothing()
    {
        Assert.True(RowCut.For(5, 0, 4, Multiprocessors).Shape(5, 0).IsEmpty);
        Assert.True(RowCut.For(0, 5, 4, Multiprocessors).Shape(0, 5).IsEmpty);
        Assert.True(CudaRouting.WarpPerToken(0, 64).IsEmpty);
    }

    [Fact]
    public void Rows_of_v3_leave_no_thread_idle()
    {
        // A row of 7,168 BF16 is 896 chunks of 16 bytes: a block of seven warps, four chunks a thread; summed, four such blocks.
        Assert.Equal(new RowCut(224, 1, 1), RowCut.For(32768, 896, 4, Multiprocessors));
        Assert.Equal(new RowCut(224, 1, 4), RowCut.For(4096, 896, 1, Multiprocessors));
        // A row of 56 scales is 14 chunks: rows share a block, and one row alone does not wait for others.
        Assert.Equal(new RowCut(4, 64, 1), RowCut.For(32768, 14, 4, Multiprocessors));
        Assert.Equal(new RowCut(4, 1, 1), RowCut.For(8, 14, 4, Multiprocessors));
    }

    [Fact]
    public void Tiles_are_covered()
    {
        Assert.Equal(new LaunchShape(4096 * 56 / 32, 256), CudaQuantization.RowTiles(4096, 7168));
        Assert.Equal(new LaunchShape(1, 256), CudaQuantization.RowTiles(3, 129));
        Assert.Equal(new LaunchShape(2, 256), CudaQuantization.RowTiles(33, 128));
        Assert.Equal(new LaunchShape(1024, 256), CudaQuantization.Parts(4096, 7168));
        Assert.Equal(new LaunchShape(32 * 112, 256), CudaQuantization.Strips(4096, 7168, 0));
        Assert.Equal(new LaunchShape(ScaledTensor.GroupedTileRows(1000, 5) * 2, 256), CudaQuantization.Strips(1000, 65, 5));
        Assert.Equal(new LaunchShape(2 * 3, 512), CudaQuantization.Blocks(129, 257));
        Assert.Equal(new LaunchShape((32, 56, 1), 512), CudaQuantization.Transposed(32, 7168));
        Assert.Equal(new LaunchShape((3, 2, 1), 512), CudaQuantization.Transposed(3, 129));
        Assert.Throws<OverflowException>(() => CudaQuantization.RowTiles(1L << 31, 1024));
    }

    [Theory]
    [InlineData(DType.F32, DType.F8E4M3, 0, 0, 256, 256, 256, true)]
    [InlineData(DType.BF16, DType.F8E4M3, 0, 0, 256, 256, 256, true)]
    [InlineData(DType.BF16, DType.F8E4M3, 0, 0, 252, 256, 256, false)] // half a chunk is left
    [InlineData(DType.F32, DType.F8E4M3, 0, 0, 252, 256, 256, true)]
    [InlineData(DType.F32, DType.F8E4M3, 8, 0, 256, 256, 256, false)] // values off by two
    [InlineData(DType.F32, DType.F8E4M3, 0, 2, 256, 256, 256, false)] // codes off by two
    [InlineData(DType.F32, DType.F8E4M3, 0, 4, 256, 256, 256, true)]
    [InlineData(DType.BF16, DType.HiF8, 0, 4, 256, 256, 256, false)]
    [InlineData(DType.F32, DType.F8E4M3, 0, 0, 256, 258, 256, false)] // odd strides
    [InlineData(DType.F32, DType.F8E4M3, 0, 0, 256, 256, 258, false)]
    [InlineData(DType.BF16, DType.E5M6Pair, 0, 0, 256, 256, 132, true)]
    [InlineData(DType.BF16, DType.E5M6Pair, 0, 0, 256, 256, 130, false)]
    [InlineData(DType.F32, DType.E5M6Pair, 0, 0, 256, 256, 130, true)]
    public void Wide_accesses_need_aligned_rows(DType plain, DType codes, int plainOffset, int codeOffset, int columns, int plainStride, int codeStride, bool wide)
    {
        Tensor x = new Tensor((1 << 20) + plainOffset, plain, new Shape(5, plainStride), null).ColumnRange(0, columns);
        Tensor to = new Tensor((1 << 20) + codeOffset, codes, new Shape(5, codeStride), null).ColumnRange(0, codes == DType.E5M6Pair ? columns / 2 : columns);
        Assert.Equal(wide, CudaQuantization.IsWide(x, to));
    }

    [Theory]
    [InlineData(0, 4, 1, 0)]
    [InlineData(8, 256, 1, 32)]
    [InlineData(1000, 256, 8, 128)]
    [InlineData(32768, 256, 32, 1024)]
    [InlineData(1_000_000, 256, 32, 31264)]
    [InlineData(32768, 4096, 14, 2368)]
    [InlineData(100, 100_000, 0, 0)]
    public void Slots_are_dealt_to_warps_that_fit(long slots, long experts, int warps, long slotsOfWarp)
    {
        const int SharedBytes = 227 << 10;
        (int Warps, long SlotsOfWarp) cut = CudaRouting.SortCut(slots, experts, SharedBytes);
        Assert.Equal((warps, slotsOfWarp), cut);
        if (warps > 0) Assert.True(cut.Warps * cut.SlotsOfWarp >= slots && cut.SlotsOfWarp % 32 == 0 && cut.Warps * experts * 4 <= SharedBytes - 1024);
    }

    [Fact]
    public void Bits_tell_all_experts_apart()
    {
        foreach ((long experts, int bits) in ((long, int)[])[(1, 0), (2, 1), (3, 2), (256, 8), (257, 9)]) Assert.Equal(bits, CudaRouting.BitsOf(experts));
    }

    [Fact]
    public void Many_experts_take_fewer_warps()
    {
        Assert.Equal(8, CudaRouting.WarpsOfBlock(4 * (256 + 8 + 8)));
        Assert.Equal(3, CudaRouting.WarpsOfBlock(16 << 10));
        Assert.Equal(1, CudaRouting.WarpsOfBlock(1 << 20));
    }

    [Theory]
    [InlineData(DType.BF16, 7168, 7168, 16)]
    [InlineData(DType.F32, 56, 56, 16)]
    [InlineData(DType.F32, 5, 5, 4)]
    [InlineData(DType.BF16, 7, 8, 1)]
    [InlineData(DType.F8E4M3, 48, 64, 16)]
    [InlineData(DType.F8E4M3, 48, 52, 4)]
    [InlineData(DType.E5M6Pair, 16, 16, 16)]
    public void Rows_move_in_the_widest_pieces_that_fit(DType type, int columns, int stride, int bytes)
    {
        Tensor x = new Tensor(1 << 20, type, new Shape(9, stride), null).ColumnRange(0, columns), y = new(1 << 21, type, new Shape(9, columns), null);
        Assert.Equal(bytes, CudaRouting.PieceBytes(x, y));
    }
}

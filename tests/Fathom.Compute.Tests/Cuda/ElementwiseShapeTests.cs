// The heuristics of element-wise kernels, without a GPU: every element is one thread's, whatever the shape, and wide accesses are
// chosen only where every one of them is aligned.
using System.Globalization;
using System.Text.RegularExpressions;
using Fathom.Compute.Cuda;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class ElementwiseShapeTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(0, 8, 1)]
    [InlineData(3, 0, 1)]
    [InlineData(1, 1, 1)]
    [InlineData(1, 100_000, 4)]
    [InlineData(7, 17, 1)]
    [InlineData(1000, 64, 8)]
    [InlineData(5, 255, 1)]
    [InlineData(5, 256, 1)]
    [InlineData(5, 257, 1)]
    [InlineData(9, 7168, 8)]
    [InlineData(300, 192, 2)]
    public void Every_access_is_one_threads(long rows, long columns, int width)
    {
        LaunchShape shape = Elementwise.Shape(rows, columns, width);
        var taken = new int[rows * (columns / width)];
        for (long block = 0; block < shape.Grid.X; block++)
        {
            for (int thread = 0; thread < shape.Block; thread++)
            {
                if (Place(rows, columns, width, block, thread, shape.Block) is { } access) taken[access]++;
            }
        }

        output.WriteLine($"[{rows}, {columns}] by {width}: {shape}");
        Assert.All(taken, count => Assert.Equal(1, count));
    }

    [Fact]
    public void Accesses_are_wide_only_where_every_row_allows_it()
    {
        Assert.Equal(4, Width(64, View(DType.F32, 5, 64, 64, 0)));
        Assert.Equal(8, Width(64, View(DType.BF16, 5, 64, 64, 0)));
        Assert.Equal(8, Width(64, View(DType.BF16, 5, 64, 64, 0), View(DType.F32, 5, 64, 68, 0)));
        Assert.Equal(1, Width(60, View(DType.BF16, 5, 60, 64, 0))); // 60 is not a multiple of 8
        Assert.Equal(1, Width(64, View(DType.F32, 5, 64, 67, 0))); // the second row begins at 67 · 4 bytes
        Assert.Equal(4, Width(64, View(DType.F32, 1, 64, 67, 0))); // there is no second row
        Assert.Equal(1, Width(64, View(DType.F32, 5, 64, 64, 2))); // the first row begins at 8 bytes
        Assert.Equal(4, Width(3 * 20, View(DType.F32, 3, 20, 20, 0))); // all elements as one row
        Assert.Equal(4, Width(3 * 12, View(DType.F32, 3, 12, 12, 0), View(DType.F32, 3, 12, 12, 4)));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(17)]
    [InlineData(384)]
    [InlineData(2048)]
    [InlineData(2049)]
    [InlineData(7168)]
    [InlineData(8192)]
    [InlineData(16_384)]
    [InlineData(100_000)]
    public void A_norms_block_covers_its_row(long columns)
    {
        foreach (int width in (int[])[1, 4, 8])
        {
            if (columns % width != 0) continue;
            NormShape shape = NormShape.Choose(columns, width);
            output.WriteLine($"{columns} by {width}: {shape}");
            Assert.True(shape.Items == 0 || (long)shape.Items * shape.Threads * width >= columns);
            Assert.True(shape.Threads % 32 == 0 && shape.Threads <= NormShape.MostThreads);
            Assert.True(shape.Items > 0 || 4L * NormShape.MostThreads * width < columns);
        }
    }

    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(65, 384, 8)]
    [InlineData(4096, 7168, 8)]
    [InlineData(4096, 512, 8)]
    [InlineData(1_000_000, 33, 1)]
    public void Pieces_of_a_norms_weight_gradient_cover_all_rows(long rows, long columns, int width)
    {
        NormPieces pieces = NormPieces.Choose(rows, columns, width);
        output.WriteLine($"[{rows}, {columns}] by {width}: {pieces}");
        Assert.True(pieces.Rows * pieces.Count >= rows && pieces.Rows * (pieces.Count - 1) < rows);
        Assert.True(pieces.ColumnBlocks * 32 * width >= columns);
        Assert.InRange(pieces.Count, 1, 512);
    }

    [Fact]
    public void Rows_of_logits_fit_into_the_cache()
    {
        Assert.Equal(50, CudaLoss.RowsAtOnce(129_280, 50 << 20));
        Assert.Equal(1, CudaLoss.RowsAtOnce(129_280, 0));
        Assert.Equal(0, CudaLoss.PieceColumns % 4);
    }

    [Fact]
    public void Sums_have_blocks_for_all_elements_and_no_more_than_one_pass_over_them_takes()
    {
        Assert.Equal(1, CudaReduction.SumBlocks(1));
        Assert.Equal(2, CudaReduction.SumBlocks(16_385));
        Assert.Equal(1024, CudaReduction.SumBlocks(1L << 40));
    }

    [Fact]
    public void No_access_of_the_cache_crosses_from_the_latent_to_the_key()
    {
        Tensor cache = View(DType.BF16, 4, 576, 576, 0), rope = View(DType.BF16, 4, 64, 64, 0);
        Assert.Equal(8, CudaCache.Width(View(DType.BF16, 4, 512, 512, 0), rope, cache));
        Assert.Equal(1, CudaCache.Width(View(DType.BF16, 4, 508, 512, 0), View(DType.BF16, 4, 68, 72, 0), cache));
        Assert.Equal(1, CudaCache.Width(View(DType.BF16, 4, 512, 512, 0), View(DType.BF16, 4, 64, 66, 0), cache));
    }

    [Fact]
    public void Every_fault_of_the_kernels_has_its_message()
    {
        MatchCollection codes = Regex.Matches(KernelSource.Read("faults.cuh"), @"constexpr int32_t \w+Fault = (\d+);");
        Assert.NotEmpty(codes);
        foreach (Match match in codes)
        {
            string message = DeviceFaults.Describe(new DeviceFaults.Note(int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture), 7, 3, 5));
            output.WriteLine($"{match.Value} {message}");
            Assert.DoesNotContain("unknown", message, StringComparison.Ordinal);
        }

        Assert.Contains("unknown", DeviceFaults.Describe(new DeviceFaults.Note(codes.Count + 1, 7, 3, 5)), StringComparison.Ordinal);
        Assert.Equal("embedding: token id 7 at place 3 is outside the vocabulary of 5", DeviceFaults.Describe(new DeviceFaults.Note(1, 7, 3, 5)));
    }

    [Fact]
    public void Kernels_of_two_types_are_found_by_their_types()
    {
        string[] names = [.. ElementKernels.Instances("convert", 2)];
        Assert.Equal(
            ["convert<float, float, 1>", "convert<float, float, 4>", "convert<float, bf16, 1>", "convert<float, bf16, 8>",
             "convert<bf16, float, 1>", "convert<bf16, float, 8>", "convert<bf16, bf16, 1>", "convert<bf16, bf16, 8>"],
            names);
        Assert.Equal(["add<float, 1>", "add<float, 4>", "add<bf16, 1>", "add<bf16, 8>"], ElementKernels.Instances("add", 1));
    }

    // place_of_thread of elementwise.cuh: the number of the access in row-major order, or none.
    private static long? Place(long rows, long columns, int width, long block, int thread, int threads)
    {
        long accesses = columns / width;
        if (rows == 1) return block * threads + thread is var a && a < accesses ? a : null;
        if (accesses >= threads)
        {
            long blocks = (accesses + threads - 1) / threads, row = block / blocks, access = (block - row * blocks) * threads + thread;
            return access < accesses ? row * accesses + access : null;
        }

        long rowsOfBlock = threads / accesses, rowInBlock = thread / accesses, place = block * rowsOfBlock + rowInBlock;
        return rowInBlock < rowsOfBlock && place < rows ? place * accesses + thread - rowInBlock * accesses : null;
    }

    // A view of no memory: heuristics look at addresses and strides alone.
    private static Tensor View(DType type, long rows, long columns, long stride, int offset) =>
        new Tensor(0x1000 + offset * type.SizeInBytes(), type, new Shape(rows, stride), null).ColumnRange(0, columns);

    private static int Width(long columns, params ReadOnlySpan<Tensor> operands) => Elementwise.Width(columns, operands);
}

// Which kernel multiplies what, and in how many blocks; what cuBLASLt is asked for; where scales lie. Pure functions of types and sizes.
using System.Runtime.CompilerServices;
using Fathom.Compute.Cuda.Interop;
using Fathom.Compute.Cuda.Linear;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class GemmPlanTests(ITestOutputHelper output)
{
    private const int Multiprocessors = 132, Hopper = 90, Cuda13 = 130000;
    private const int MultiprocessorSharedBytes = 228 << 10, ReservedBytes = 1 << 10;

    private static readonly GemmSide Plain = new(DType.BF16, false, ScaleLayout.None, true, true);
    private static readonly GemmSide Rows128 = new(DType.F8E4M3, false, ScaleLayout.RowTile, true, true);
    private static readonly GemmSide Blocks128 = new(DType.F8E4M3, false, ScaleLayout.Block, true, true);
    private static readonly GemmSide Tokens128 = new(DType.F8E4M3, false, ScaleLayout.TransposedColumnTile, true, true);
    private static readonly GemmSide Columns128 = new(DType.F8E4M3, true, ScaleLayout.ColumnTile, true, true);

    [Fact]
    public void Structures_are_as_long_as_their_twins_in_device_code()
    {
        Assert.Equal(40, Unsafe.SizeOf<GemmScales>());
        Assert.Equal(56, Unsafe.SizeOf<GemmOperand>());
        Assert.Equal(32, Unsafe.SizeOf<GemmExpert>());
        Assert.Equal(200, Unsafe.SizeOf<GemmProduct>());
        Assert.Equal(96, Unsafe.SizeOf<MatmulHeuristic>());
    }

    [Fact]
    public void Every_product_of_both_recipes_runs_on_tensor_cores()
    {
        GemmSide w = Blocks128 with { Transposed = true }, dy = Rows128;
        foreach ((GemmSide a, GemmSide b, DType staged) in ((GemmSide, GemmSide, DType)[])
            [
                (Plain, Plain, DType.BF16), (Plain, Plain with { Transposed = true }, DType.BF16), (Plain with { Transposed = true }, Plain with { Transposed = true }, DType.BF16),
                (Rows128, Blocks128, DType.F8E4M3), (dy, w, DType.BF16), (Columns128, Columns128, DType.BF16), (Plain, Blocks128, DType.BF16),
            ])
        {
            GemmPlan plan = GemmPlan.Choose(Product(a, b, 4096, 7168, 2048), Multiprocessors);
            Assert.Equal((GemmWay.Tensor, 128, staged, (32 * 56L, 1L, 1L)), (plan.Way, plan.Tile, plan.Staged, plan.Shape.Grid));
        }
    }

    [Fact]
    public void What_tensor_cores_do_not_take_runs_in_F32()
    {
        GemmSide single = Plain with { DType = DType.F32 }, odd = Plain with { WholeChunks = false };
        GemmSide[][] general =
        [
            [single, single], [Plain, single], [single, Blocks128], [odd, Plain], [Plain, odd], [Rows128 with { Layout = ScaleLayout.ColumnTile }, Blocks128],
            [Columns128, Columns128 with { Layout = ScaleLayout.RowTile }],
        ];
        foreach (GemmSide[] sides in general) Assert.Equal(GemmWay.Simt, GemmPlan.Choose(Product(sides[0], sides[1], 4096, 7168, 2048), Multiprocessors).Way);
        // Blocks of scales begin anew every 128 rows, groups do not.
        GemmSide across = Blocks128 with { Transposed = true };
        Assert.Equal(GemmWay.Tensor, GemmPlan.Choose(Product(across, across, 512, 512, 512), Multiprocessors).Way);
        Assert.Equal(GemmWay.Simt, GemmPlan.Choose(Product(across, across, 512, 512, 512) with { Grouping = GemmGrouping.Depth, Groups = 4 }, Multiprocessors).Way);
    }

    [Fact]
    public void Few_rows_read_weights_once()
    {
        GemmPlan decode = GemmPlan.Choose(Product(Plain, Blocks128, 8, 7168, 2048), Multiprocessors);
        Assert.Equal((GemmWay.FewTensor, (56L, 1L, 4L), 4), (decode.Way, decode.Shape.Grid, decode.Splits));
        GemmPlan latent = GemmPlan.Choose(Product(Plain, Plain, 1, 576, 7168), Multiprocessors);
        Assert.Equal((GemmWay.FewTensor, (5L, 1L, 14L), 14), (latent.Way, latent.Shape.Grid, latent.Splits));
        GemmPlan router = GemmPlan.Choose(Product(Plain, Plain with { DType = DType.F32 }, 16, 256, 7168), Multiprocessors);
        Assert.Equal((GemmWay.FewSimt, (64L, 2L, 1L)), (router.Way, router.Shape.Grid));
        Assert.Equal(GemmWay.Tensor, GemmPlan.Choose(Product(Plain, Plain, 17, 7168, 2048), Multiprocessors).Way);
        // What cuBLASLt has no product for: up to 64 rows share a block's weights.
        GemmPlan many = GemmPlan.Choose(Product(Plain, Blocks128, 100, 18432, 7168), Multiprocessors);
        Assert.Equal((GemmWay.Codes, 64, (288L, 1L, 3L)), (many.Way, many.Tile, many.Shape.Grid));
        Assert.Equal(GemmWay.Tensor, GemmPlan.Choose(Product(Plain, Blocks128, 129, 18432, 7168), Multiprocessors).Way);
        // Experts of one token each: as many tiles of rows as tokens.
        GemmPlan experts = GemmPlan.Choose(Product(Plain, Blocks128, 8, 2048, 7168) with { Grouping = GemmGrouping.Rows, Groups = 256 }, Multiprocessors);
        Assert.Equal((GemmWay.FewTensor, (16L, 8L, 2L), 2), (experts.Way, experts.Shape.Grid, experts.Splits));
    }

    // Which rows share a tile changes no bit; how many blocks share a sum would.
    [Fact]
    public void Products_by_row_share_the_depth_alike_for_any_number_of_rows()
    {
        GemmSide single = Plain with { DType = DType.F32 };
        foreach ((GemmSide a, GemmSide b, GemmWay way) in ((GemmSide, GemmSide, GemmWay)[])[(Plain, Plain, GemmWay.Tensor), (Plain, Blocks128, GemmWay.Codes), (Plain, single, GemmWay.FewSimt)])
        {
            foreach ((int columns, int depth) in ((int, int)[])[(576, 7168), (7168, 16384), (256, 7168), (129280, 7168)])
            {
                GemmPlan[] plans = [.. new[] { 1, 7, 16, 33, 128, 500, 1024 }.Select(rows => GemmPlan.ByRow(Product(a, b, rows, columns, depth), Multiprocessors))];
                output.WriteLine($"{way}, N={columns} K={depth}: {plans[0].Splits} blocks share a sum");
                Assert.All(plans, plan => Assert.Equal((way, plans[0].Splits), (plan.Way, plan.Splits)));
                Assert.All(plans, plan => Assert.True(2 * (plan.Shape.SharedBytes + ReservedBytes) <= MultiprocessorSharedBytes, $"{plan}"));
            }
        }
    }

    [Fact]
    public void Grids_cover_every_division_of_rows_into_groups()
    {
        var random = new Random(5);
        long tightest = long.MaxValue;
        for (int trial = 0; trial < 20_000; trial++)
        {
            int groups = random.Next(1, 40), tile = random.Next(3) switch { 0 => 8, 1 => 64, _ => 128 }, rows = 0;
            long tiles = 0;
            for (int e = 0; e < groups; e++)
            {
                int count = random.Next(3) == 0 ? random.Next(300) : random.Next(2) * (1 + tile * random.Next(2));
                rows += count;
                tiles += (count + tile - 1) / tile;
            }

            long most = GemmPlan.MostTiles(rows, groups, tile);
            Assert.True(tiles <= most, $"{tiles} tiles of {tile} in {groups} groups of {rows} rows, {most} expected at most");
            tightest = Math.Min(tightest, most - tiles);
        }

        output.WriteLine($"at least {tightest} blocks too many");
        Assert.Equal(0, tightest);
    }

    [Fact]
    public void Two_blocks_of_plain_tiles_share_a_multiprocessor()
    {
        int plain = GemmPlan.TensorSharedBytes(128, false), scaled = GemmPlan.TensorSharedBytes(128, true), small = GemmPlan.TensorSharedBytes(64, true);
        output.WriteLine($"{plain}, {scaled}, {small} bytes");
        Assert.True(2 * (plain + ReservedBytes) <= MultiprocessorSharedBytes && scaled + ReservedBytes <= MultiprocessorSharedBytes);
        Assert.True(3 * (small + ReservedBytes) <= MultiprocessorSharedBytes);
    }

    [Theory]
    [InlineData(ScaleLayout.Tensor)]
    [InlineData(ScaleLayout.RowTile)]
    [InlineData(ScaleLayout.ColumnTile)]
    [InlineData(ScaleLayout.Block)]
    public void Scales_lie_where_the_layout_says(ScaleLayout layout)
    {
        const int Rows = 300, Columns = 270;
        Shape shape = new(Rows, Columns), expected = ScaledTensor.ScaleShape(shape, layout);
        var matrix = new ScaledTensor(HostMemory.Allocate(shape, DType.F8E4M3), HostMemory.Allocate(expected, DType.F32), layout);
        GemmScales along = GemmScales.Of(matrix, transposed: false, groupedDepth: false), across = GemmScales.Of(matrix, transposed: true, groupedDepth: false);
        for (int r = 0; r < Rows; r++)
        {
            for (int c = 0; c < Columns; c++)
            {
                long row = layout is ScaleLayout.RowTile ? r : r / 128, column = layout is ScaleLayout.ColumnTile ? c : c / 128;
                long place = layout == ScaleLayout.Tensor ? 0 : row * expected.Columns + column;
                Assert.Equal(place, Place(along, r, c));
                Assert.Equal(place, Place(across, c, r));
            }
        }
    }

    [Fact]
    public void The_library_computes_both_recipes_and_nothing_it_has_not()
    {
        GemmTraits plain = Product(Plain, Plain, 4096, 2048, 7168);
        CublasPlan forward = CublasPlan.Choose(plain, 7168, 7168, 2048, true, Cuda13, Hopper)!.Value;
        Assert.Equal(new CublasOperand(CudaDataType.BF16, true, 7168, MatmulScaleMode.Scalar), forward.A);
        GemmTraits codes = Product(Rows128, Blocks128, 4096, 2048, 7168);
        CublasPlan scaled = CublasPlan.Choose(codes, 7168, 7168, 2048, true, Cuda13, Hopper)!.Value;
        Assert.Equal((MatmulScaleMode.Vector128, MatmulScaleMode.Block128), (scaled.A.ScaleMode, scaled.B.ScaleMode));
        CublasPlan weights = CublasPlan.Choose(Product(Tokens128, Tokens128, 2048, 7168, 4096) with { C = DType.F32 }, 4096, 4096, 7168, true, Cuda13, Hopper)!.Value;
        Assert.Equal((true, 4096L, true, 4096L, MatmulScaleMode.Vector128), (weights.A.Along, weights.A.Stride, weights.B.Along, weights.B.Stride, weights.B.ScaleMode));

        Assert.Null(CublasPlan.Choose(codes, 7168, 7168, 2048, true, 120805, Hopper)); // too old
        Assert.Null(CublasPlan.Choose(codes, 7168, 7168, 2048, true, Cuda13, 100)); // another chip
        Assert.Null(CublasPlan.Choose(codes with { A = Blocks128 }, 7168, 7168, 2048, true, Cuda13, Hopper)); // blocks by blocks
        Assert.Null(CublasPlan.Choose(codes with { A = Plain }, 7168, 7168, 2048, true, Cuda13, Hopper)); // BF16 by E4M3
        Assert.Null(CublasPlan.Choose(codes with { Rows = 4094 }, 7168, 7168, 2048, true, Cuda13, Hopper)); // rows not in fours
        Assert.Null(CublasPlan.Choose(plain, 7168, 7168, 2048, false, Cuda13, Hopper)); // result not aligned
        Assert.Null(CublasPlan.Choose(plain, 7168, 7168, 2049, true, Cuda13, Hopper));
        Assert.Null(CublasPlan.Choose(plain with { Depth = 0 }, 7168, 7168, 2048, true, Cuda13, Hopper));
        Assert.Null(CublasPlan.Choose(plain with { A = Plain with { DType = DType.F32 } }, 7168, 7168, 2048, true, Cuda13, Hopper)); // F32 by BF16
    }

    private static GemmTraits Product(GemmSide a, GemmSide b, long rows, long columns, long depth) =>
        new(a, b, DType.BF16, GemmGrouping.None, 1, rows, columns, depth);

    private static long Place(in GemmScales s, long row, long d) => (row >> s.RowShift) * s.RowStride + (d >> s.DepthShift) * s.DepthStride;
}

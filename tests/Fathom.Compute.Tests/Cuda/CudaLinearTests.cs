// Products on a GPU beyond the shared table: every format with every layout of scales in every product, mixed operands, large tiles,
// blocks that share the depth, bits that do not change from run to run. Skipped, with the reason, where there is neither a GPU nor
// an emulator of one.
using Fathom.Compute.Cuda;
using Fathom.Compute.Operators;
using Fathom.Compute.Reference;
using Fathom.Compute.Table;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CudaLinearTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    private const double Tolerance = 2e-6;

    private static readonly ScaleLayout[] Layouts = [ScaleLayout.Tensor, ScaleLayout.RowTile, ScaleLayout.ColumnTile, ScaleLayout.Block];

    public enum Product
    {
        Forward,
        InputGradient,
        WeightGradient,
    }

    [Theory]
    [InlineData(Product.Forward)]
    [InlineData(Product.InputGradient)]
    [InlineData(Product.WeightGradient)]
    public void Every_layout_of_scales_goes_into_every_product(Product product)
    {
        foreach (ScaleLayout left in Layouts)
        {
            foreach (ScaleLayout right in Layouts)
            {
                Check(product, 150, 48, 272, (DType.F8E4M3, left, DType.F32), (DType.F8E4M3, right, DType.F8E8M0));
                if (product == Product.Forward) Check(product, 5, 48, 272, (DType.F8E4M3, left, DType.F32), (DType.F8E4M3, right, DType.F32));
            }
        }
    }

    [Theory]
    [InlineData(DType.F8E5M2)]
    [InlineData(DType.HiF8)]
    public void Every_format_goes_into_every_product(DType format)
    {
        foreach (Product product in Enum.GetValues<Product>())
        {
            bool weights = product == Product.WeightGradient;
            (DType, ScaleLayout, DType) left = (format, weights ? ScaleLayout.ColumnTile : ScaleLayout.RowTile, DType.F32);
            (DType, ScaleLayout, DType) right = (format, weights ? ScaleLayout.ColumnTile : ScaleLayout.Block, DType.F32);
            Check(product, 70, 64, 144, left, right);
            Check(product, 70, 64, 144, (DType.F8E4M3, left.Item2, DType.F8E8M0), right);
            Check(product, 21, 33, 37, left, right);
        }
    }

    [Fact]
    public void Plain_operands_meet_quantised_ones()
    {
        foreach (DType plain in (DType[])[DType.F32, DType.BF16])
        {
            foreach (int rows in (int[])[3, 16, 40, 140])
            {
                Check(Product.Forward, rows, 144, 272, (plain, ScaleLayout.None, DType.F32), (DType.F8E4M3, ScaleLayout.Block, DType.F32));
                Check(Product.Forward, rows, 144, 272, (DType.F8E4M3, ScaleLayout.RowTile, DType.F32), (plain, ScaleLayout.None, DType.F32));
            }

            Check(Product.InputGradient, 40, 144, 272, (plain, ScaleLayout.None, DType.F32), (DType.F8E4M3, ScaleLayout.Block, DType.F8E8M0));
            Check(Product.WeightGradient, 40, 144, 272, (plain, ScaleLayout.None, DType.F32), (DType.F8E4M3, ScaleLayout.ColumnTile, DType.F32));
        }
    }

    // Large tiles are for products that fill the GPU; the library transposes from 256 on, and Hopper sums 8-bit products in fewer bits.
    [Theory]
    [InlineData(Product.Forward, DType.BF16)]
    [InlineData(Product.InputGradient, DType.F8E4M3)]
    [InlineData(Product.WeightGradient, DType.F8E4M3)]
    public void Large_tiles(Product product, DType format)
    {
        bool weights = product == Product.WeightGradient, plain = format == DType.BF16;
        ScaleLayout left = plain ? ScaleLayout.None : weights ? ScaleLayout.ColumnTile : ScaleLayout.RowTile, right = plain ? left : weights ? left : ScaleLayout.Block;
        foreach (int rows in (int[])[272, 289]) Check(product, rows, 304, 272, (format, left, DType.F32), (format, right, DType.F32), plain ? 0 : OperatorTable.HopperSums);
    }

    [Fact]
    public void Blocks_share_a_long_depth()
    {
        Check(Product.Forward, 3, 7, 5001, (DType.F32, ScaleLayout.None, DType.F32), (DType.F32, ScaleLayout.None, DType.F32));
        Check(Product.Forward, 11, 20, 6016, (DType.BF16, ScaleLayout.None, DType.F32), (DType.F8E4M3, ScaleLayout.Block, DType.F32));
    }

    // Most of every sum cancels, so that what is left lies in the bits that the second and the third part hold.
    [Theory]
    [InlineData(70, 64, 264, false)]
    [InlineData(130, 256, 1024, true)]
    public void F32_operands_give_a_BF16_result_that_is_rounded_once(int m, int depth, int n, bool accumulate)
    {
        CudaDevice device = gpu.Device();
        var random = new Random(m);
        Tensor left = HostMemory.Allocate(new Shape(m, depth), DType.F32), right = HostMemory.Allocate(new Shape(depth, n), DType.F32), old = HostMemory.Allocate(new Shape(m, n), DType.F32);
        foreach (ref float x in right.AsSpan<float>()) x = OperatorCase.Normal(random);
        foreach (ref float x in old.AsSpan<float>()) x = MathF.ScaleB(OperatorCase.Normal(random), -10);
        for (int k = 0; k < depth / 2; k++)
        {
            for (int i = 0; i < m; i++)
            {
                float x = left.Row<float>(i)[k] = OperatorCase.Normal(random);
                left.Row<float>(i)[k + depth / 2] = -x * (1 + MathF.ScaleB(OperatorCase.Normal(random), -11));
            }

            right.Row<float>(k).CopyTo(right.Row<float>(k + depth / 2));
        }

        Tensor dy = device.Allocate(left.Shape, DType.F32, MemoryKind.Workspace), w = device.Allocate(right.Shape, DType.F32, MemoryKind.Workspace);
        Tensor dx = device.Allocate(old.Shape, DType.BF16, MemoryKind.Workspace), singles = device.Allocate(old.Shape, DType.F32, MemoryKind.Workspace), result = HostMemory.Allocate(old.Shape, DType.F32);
        device.Upload(left, dy);
        device.Upload(right, w);
        device.Upload(old, singles);
        device.Reduction.Convert(singles, dx);
        device.Reduction.Convert(dx, singles);
        device.Download(singles, old);
        device.Linear.InputGradient(dy, w, dx, accumulate);
        device.Reduction.Convert(dx, singles);
        device.Download(singles, result);
        double worst = 0;
        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < n; j++)
            {
                double sum = accumulate ? old.Row<float>(i)[j] : 0, magnitude = 0;
                for (int k = 0; k < depth; k++)
                {
                    double term = (double)left.Row<float>(i)[k] * right.Row<float>(k)[j];
                    sum += term;
                    magnitude += Math.Abs(term);
                }

                worst = Math.Max(worst, Math.Abs(result.Row<float>(i)[j] - sum) / (Math.Abs(sum) / 256 + magnitude * 1e-6));
            }
        }

        output.WriteLine($"{m} x {n}, sums of {depth}: {worst:P0} of half a unit of BF16 and 1e-6 of the terms' magnitudes");
        Assert.True(worst < 1);
    }

    [Fact]
    public void The_same_bits_in_every_run()
    {
        CudaDevice device = gpu.Device();
        foreach (OperatorCase row in OperatorTable.All().Where(c => c.Name is "linear.forward" or "linear.groupedWeightGradient" && c.Small && c.Flops > 4e6))
        {
            Tensor[] first = row.Prepare(device, 3), second = row.Prepare(device, 3);
            row.Run(device, first);
            row.Run(device, second);
            for (int i = 0; i < first.Length; i++)
            {
                if (!row.Operands[i].Compare) continue;
                (Tensor a, _) = OperatorCase.Fetch(device, first[i], row.Operands[i].PadColumns);
                (Tensor b, _) = OperatorCase.Fetch(device, second[i], row.Operands[i].PadColumns);
                for (long r = 0; r < a.Rows; r++) Assert.True(a.Row<int>(r).SequenceEqual(b.Row<int>(r)), $"{row}, row {r}");
            }
        }
    }

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        CudaDevice device = gpu.Device();
        Tensor Make(DType type, params long[] size) => device.Allocate(new Shape(size[0], size[1]), type, MemoryKind.Workspace);
        ILinearOperators linear = device.Linear;
        Tensor x = Make(DType.F32, 4, 8), w = Make(DType.F32, 6, 8), y = Make(DType.F32, 4, 6);
        void Fails(string message, Action call)
        {
            ArgumentException e = Assert.Throws<ArgumentException>(call);
            output.WriteLine(e.Message);
            Assert.Equal(message, e.Message);
        }

        Fails("linear forward: w is F32 [6, 7], expected [6, 8]", () => linear.Forward(x, Make(DType.F32, 6, 7), y));
        Fails("linear forward: w is F8E4M3 [6, 8], expected F32, BF16 or F8_E4M3, F8_E5M2 or HiF8 with scales", () => linear.Forward(x, Make(DType.F8E4M3, 6, 8), y));
        Fails("linear input gradient: dx is I32 [4, 8], expected F32 or BF16 [4, 8]", () => linear.InputGradient(y, w, Make(DType.I32, 4, 8)));
        Fails("linear weight gradient: dw is BF16 [6, 8], expected F32 [6, 8]", () => linear.WeightGradient(y, x, Make(DType.BF16, 6, 8)));
        Tensor offsets = device.Allocate(new Shape(3), DType.I32, MemoryKind.Workspace);
        Fails("grouped linear forward: rowOffsets is I32 [3], expected contiguous I32 of 2 elements", () => linear.GroupedForward(x, offsets, new ExpertWeights([w]), y));
        var tiles = new ScaledTensor(Make(DType.F8E4M3, 4, 8), Make(DType.F32, 1, 8), ScaleLayout.ColumnTile);
        Fails("grouped linear weight gradient: scales of x are F32 [1, 8], expected 2 rows for 4 rows in 2 groups",
            () => linear.GroupedWeightGradient(y, tiles, offsets, device.Allocate(new Shape(2, 6, 8), DType.F32, MemoryKind.Workspace)));
    }

    private void Check(Product product, int m, int n, int k, (DType Format, ScaleLayout Layout, DType Scales) left, (DType Format, ScaleLayout Layout, DType Scales) right, double narrowSums = 0)
    {
        (Shape a, Shape b, Shape c) = product switch
        {
            Product.Forward => (new Shape(m, k), new Shape(n, k), new Shape(m, n)),
            Product.InputGradient => (new Shape(m, n), new Shape(n, k), new Shape(m, k)),
            _ => (new Shape(m, n), new Shape(m, k), new Shape(n, k)),
        };
        var row = new OperatorCase
        {
            Name = $"linear.{product}",
            Label = $"M={m} N={n} K={k} {left} x {right}",
            Operands =
            [
                new("a", a, Fill.Normal, left.Format == DType.BF16 ? DType.BF16 : DType.F32), new("b", b, Fill.Normal, right.Format == DType.BF16 ? DType.BF16 : DType.F32),
                new("c", c, Fill.Normal, Compare: true),
            ],
            Run = (device, t) =>
            {
                ScaledTensor x = Quantized(device, t[0], left.Format, left.Layout, left.Scales), y = Quantized(device, t[1], right.Format, right.Layout, right.Scales);
                switch (product)
                {
                    case Product.Forward: device.Linear.Forward(x, y, t[2], accumulate: true); break;
                    case Product.InputGradient: device.Linear.InputGradient(x, y, t[2], accumulate: true); break;
                    default: device.Linear.WeightGradient(x, y, t[2]); break;
                }
            },
            Tolerance = Tolerance,
            NarrowSumTolerance = narrowSums,
        };
        CudaDevice cuda = gpu.Device();
        using var reference = new ReferenceDevice();
        foreach (OperatorDifference difference in OperatorCheck.Run(row, cuda, reference, 11))
        {
            output.WriteLine(difference.ToString());
            Assert.True(difference.Holds, difference.ToString());
        }
    }

    private static ScaledTensor Quantized(Device device, Tensor x, DType format, ScaleLayout layout, DType scales)
    {
        if (layout == ScaleLayout.None) return x;
        var quantized = new ScaledTensor(
            device.Allocate(x.Shape, format, MemoryKind.Workspace), device.Allocate(ScaledTensor.ScaleShape(x.Shape, layout), scales, MemoryKind.Workspace), layout);
        device.Quantization.Quantize(x, quantized);
        return quantized;
    }
}

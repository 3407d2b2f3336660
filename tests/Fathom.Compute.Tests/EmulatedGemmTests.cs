// The emulated accumulator: worked examples of the scalar one, the kernel bit for bit against it, and the error that makes promotion
// necessary.
using System.Runtime.InteropServices;
using Fathom.Compute.Cpu;
using Fathom.Compute.Cpu.Gemm;
using Fathom.Compute.Operators;
using Fathom.Compute.Reference;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed class EmulatedGemmTests(ITestOutputHelper output)
{
    private static readonly Accumulation[] Accumulations =
        [Accumulation.HopperWithoutPromotion, Accumulation.Hopper(32), Accumulation.Hopper(), Accumulation.Hopper(512)];

    public enum Role
    {
        Forward,
        InputGradient,
        WeightGradient,
    }

    [Theory]
    // 1 has exponent 0: what is kept reaches down to 2^-13, and the rest is cut toward zero whatever its sign.
    [InlineData(1.0, new[] { 1f, 0.0001220703125f }, new[] { 1f, 0.5f })]
    [InlineData(1.0001220703125, new[] { 1f, 0.0001220703125f }, new[] { 1f, 1f })]
    [InlineData(1.0001220703125, new[] { 1f, 0.0001220703125f }, new[] { 1f, 1.9375f })]
    [InlineData(1.0, new[] { 1f, -0.0001220703125f }, new[] { 1f, 0.96875f })]
    // The mantissas' product 1.5 · 1.5 = 2.25 stays under exponent 0, so 2^-13 is kept beside it, twice.
    [InlineData(2.250244140625, new[] { 1.5f, 0.0001220703125f, 0.0001220703125f }, new[] { 1.5f, 1f, 1f })]
    // Cutting happens before the large products cancel.
    [InlineData(0.0, new[] { 4096f, -4096f, 0.25f }, new[] { 1f, 1f, 1f })]
    [InlineData(0.5, new[] { 4096f, -4096f, 0.5f }, new[] { 1f, 1f, 1f })]
    // A large operand times zero raises no exponent.
    [InlineData(0.25, new[] { 32768f, 0.25f }, new[] { 0f, 1f })]
    // The sum 3 + 2^-13 has 15 significant bits; the register keeps 14.
    [InlineData(3.0, new[] { 1.5f, 1.5f, 0.0001220703125f }, new[] { 1f, 1f, 1f })]
    public void One_instruction_keeps_13_fraction_bits_below_the_largest_exponent(double expected, float[] a, float[] b)
    {
        var accumulator = new HopperAccumulator();
        accumulator.Add(a, b);
        Assert.Equal(expected, accumulator.Sum);
    }

    [Fact]
    public void A_running_sum_takes_part_in_the_alignment()
    {
        var accumulator = new HopperAccumulator();
        accumulator.Add([1024], [1]);
        for (int i = 0; i < 100; i++) accumulator.Add([0.0625f, 0.0625f], [1, 1]);
        Assert.Equal(1024, accumulator.Sum); // 200 · 2^-4, each below 2^(10-13)
        accumulator.Add([0.125f], [1]);
        Assert.Equal(1024.125f, accumulator.Sum);
    }

    [Fact]
    public void Subnormal_operands_align_by_their_formats_smallest_exponent()
    {
        // 2^-9 · 2^-9 in E4M3 aligns at 2^-12, so 2^-26 is lost beside it; as plain singles the exponent is -18 and it is kept.
        float[] a = [0.001953125f, MathF.ScaleB(1, -26)], b = [0.001953125f, 1];
        HopperAccumulator coded = new(), plain = new();
        coded.Add(a, b, -6, -6);
        plain.Add(a, b);
        Assert.Equal(MathF.ScaleB(1, -18), coded.Sum);
        Assert.Equal(MathF.ScaleB(1, -18) + MathF.ScaleB(1, -26), plain.Sum);
    }

    [Fact]
    public void The_kernel_has_the_bits_of_the_scalar_reference()
    {
        using var device = new CpuDevice(3);
        long compared = 0, products = 0;
        foreach (Role role in Enum.GetValues<Role>())
        {
            foreach ((int m, int n, int k) in ((int, int, int)[])[(1, 1, 1), (5, 37, 33), (3, 70, 300), (70, 33, 129), (2, 40, 1000)])
            {
                foreach ((ScaledTensor a, ScaledTensor b) in Operands(device, role, m, n, k))
                {
                    foreach (Accumulation accumulation in Accumulations)
                    {
                        foreach (bool accumulate in (bool[])[false, true])
                        {
                            Tensor expected = Random(device, m, n, 7), actual = Random(device, m, n, 7);
                            Multiply(new ReferenceEmulatedGemm(accumulation, device.Quantization), role, a, b, expected, accumulate);
                            Multiply(new EmulatedGemm(device.Team, accumulation), role, a, b, actual, accumulate);
                            Same(expected, actual, $"{role} {m} x {n} x {k}, {a} by {b}, {accumulation}");
                            compared += expected.Elements;
                            products++;
                        }
                    }
                }
            }
        }

        output.WriteLine($"{products} products, {compared:N0} sums: all have the reference's bits");
    }

    [Fact]
    public void Grouped_products_have_the_bits_of_the_scalar_reference()
    {
        const int Rows = 330, N = 40, K = 150, Experts = 4;
        int[] starts = [0, 131, 131, 140, 310];
        using var device = new CpuDevice(2);
        Tensor offsets = device.Allocate(new Shape(Experts + 1), DType.I32, MemoryKind.Workspace);
        starts.CopyTo(offsets.AsSpan<int>());
        ScaledTensor x = Quantized(device, Random(device, Rows, K, 1), DType.F8E4M3, ScaleLayout.RowTile);
        ScaledTensor dy = Quantized(device, Random(device, Rows, N, 2), DType.F8E4M3, ScaleLayout.RowTile);
        ScaledTensor dyBlocks = Quantized(device, Random(device, Rows, N, 2), DType.F8E4M3, ScaleLayout.Block);
        ScaledTensor xColumns = Quantized(device, Random(device, Rows, K, 1), DType.F8E4M3, ScaleLayout.ColumnTile, offsets);
        ScaledTensor dyColumns = Quantized(device, Random(device, Rows, N, 2), DType.F8E4M3, ScaleLayout.ColumnTile, offsets);
        var experts = new ExpertWeights((ScaledTensor[])[.. Enumerable.Range(0, Experts).Select(e => Quantized(device, Random(device, N, K, 10 + e), DType.F8E4M3, ScaleLayout.Block))]);
        foreach (Accumulation accumulation in Accumulations)
        {
            var reference = new ReferenceEmulatedGemm(accumulation, device.Quantization);
            var kernel = new EmulatedGemm(device.Team, accumulation);
            Tensor[] expected = Results(reference), actual = Results(kernel);
            for (int i = 0; i < expected.Length; i++) Same(expected[i], actual[i], $"result {i}, {accumulation}");
            output.WriteLine($"{accumulation}: {expected.Sum(t => t.Elements):N0} sums have the reference's bits");
        }

        Tensor[] Results(ILinearOperators linear)
        {
            Tensor y = Random(device, Rows, N, 3), dx = Random(device, Rows, K, 4), dw = Random(device, Experts * N, K, 5).Reshape(new Shape(Experts, N, K));
            linear.GroupedForward(x, offsets, experts, y);
            linear.GroupedInputGradient(dy, offsets, experts, dx, accumulate: true);
            linear.GroupedInputGradient(dyBlocks, offsets, experts, dx, accumulate: true); // blocks know nothing of groups
            linear.GroupedWeightGradient(dyColumns, xColumns, offsets, dw);
            return [y, dx, dw.Reshape(new Shape(Experts * N, K))];
        }
    }

    [Fact]
    public void Without_promotion_the_error_at_a_depth_of_4096_is_percents_and_promotion_every_128_removes_it()
    {
        const int M = 96, N = 96, K = 4096;
        using var device = new CpuDevice(2);
        ScaledTensor a = Quantized(device, Normal(device, M, K, 1), DType.F8E4M3, ScaleLayout.Tensor);
        ScaledTensor b = Quantized(device, Normal(device, N, K, 2), DType.F8E4M3, ScaleLayout.Tensor);
        double without = LargestError(Accumulation.HopperWithoutPromotion), promoted = LargestError(Accumulation.Hopper());
        output.WriteLine($"largest error over the results' root mean square: {without:P3} without promotion, {promoted:P4} with promotion every 128");
        Assert.InRange(without, 0.005, 0.03);
        Assert.True(promoted < without / 10);

        double LargestError(Accumulation accumulation)
        {
            Tensor y = Random(device, M, N, 3), valuesA = Random(device, M, K, 4), valuesB = Random(device, N, K, 5);
            new EmulatedGemm(device.Team, accumulation).Forward(a, b, y, accumulate: false);
            device.Quantization.Dequantize(a, valuesA);
            device.Quantization.Dequantize(b, valuesB);
            double largest = 0, squares = 0;
            for (int m = 0; m < M; m++)
            {
                for (int n = 0; n < N; n++)
                {
                    double exact = 0;
                    for (int k = 0; k < K; k++) exact += (double)valuesA.Row<float>(m)[k] * valuesB.Row<float>(n)[k];
                    largest = Math.Max(largest, Math.Abs(y.Row<float>(m)[n] - exact));
                    squares += exact * exact;
                }
            }

            return largest / Math.Sqrt(squares / (M * N));
        }
    }

    [Fact]
    public void Scales_stay_out_of_the_narrow_sum_where_no_tile_ends_between_promotions()
    {
        Assert.Equal(128, Accumulation.Hopper().ScaledRun(1000, 128));
        Assert.Equal(32, Accumulation.Hopper(32).ScaledRun(1000, 128));
        Assert.Equal(0, Accumulation.Hopper(96).ScaledRun(1000, 128));
        Assert.Equal(0, Accumulation.Hopper(512).ScaledRun(1000, 128));
        Assert.Equal(0, Accumulation.Hopper().ScaledRun(1000, 1));
        Assert.Equal(0, Accumulation.HopperWithoutPromotion.ScaledRun(1000, 128));
        Assert.Equal(100, Accumulation.HopperWithoutPromotion.ScaledRun(100, 128));
        Assert.Equal(1000, Accumulation.HopperWithoutPromotion.ScaledRun(1000, long.MaxValue));
    }

    [Fact]
    public void Mistakes_are_named()
    {
        using var device = new CpuDevice(1);
        Tensor x = Random(device, 4, 6, 1), w = Random(device, 5, 6, 2), y = Random(device, 4, 5, 3);
        var gemm = new EmulatedGemm(device.Team, Accumulation.Hopper());
        Fails("multiple of 32, not 48", () => Accumulation.Hopper(48));
        Fails("need no emulation", () => new EmulatedGemm(device.Team, Accumulation.Fp32));
        Fails("w is F32 [5, 5], expected F32, BF16 or an 8-bit float [5, 6]", () => gemm.Forward(x, w.ColumnRange(0, 5), y, false));
        Fails("x is I32 [4, 6]", () => gemm.Forward(device.Allocate(new Shape(4, 6), DType.I32, MemoryKind.Workspace), w, y, false));
        Fails("x is F32 [4, 6], expected F32, BF16 or an 8-bit float [3, 6]", () => gemm.Forward(x, w, y.Slice(0, 3), false));
    }

    [Fact]
    public void Repeated_calls_allocate_nothing()
    {
        using var device = new CpuDevice(2);
        ScaledTensor a = Quantized(device, Random(device, 20, 300, 1), DType.F8E4M3, ScaleLayout.RowTile), b = Quantized(device, Random(device, 50, 300, 2), DType.F8E4M3, ScaleLayout.Block);
        Tensor c = Random(device, 20, 50, 3);
        var gemm = new EmulatedGemm(device.Team, Accumulation.Hopper());
        gemm.Forward(a, b, c, false);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 5; i++) gemm.Forward(a, b, c, true);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private static void Fails(string text, Action action) => Assert.Contains(text, Assert.Throws<ArgumentException>(action).Message, StringComparison.Ordinal);

    private static void Multiply(ILinearOperators linear, Role role, in ScaledTensor a, in ScaledTensor b, Tensor c, bool accumulate)
    {
        if (role == Role.Forward) linear.Forward(a, b, c, accumulate);
        else if (role == Role.InputGradient) linear.InputGradient(a, b, c, accumulate);
        else linear.WeightGradient(a, b, c, accumulate);
    }

    private static IEnumerable<(ScaledTensor A, ScaledTensor B)> Operands(Device device, Role role, int m, int n, int k)
    {
        Tensor a = role == Role.WeightGradient ? Random(device, k, m, 1) : Random(device, m, k, 1);
        Tensor b = role == Role.Forward ? Random(device, n, k, 2) : Random(device, k, n, 2);
        // What the recipe does, then other formats and tiles, plain matrices, and rows that are apart.
        (ScaleLayout layoutA, ScaleLayout layoutB) = role == Role.WeightGradient ? (ScaleLayout.ColumnTile, ScaleLayout.ColumnTile) : (ScaleLayout.RowTile, ScaleLayout.Block);
        yield return (Quantized(device, a, DType.F8E4M3, layoutA), Quantized(device, b, DType.F8E4M3, layoutB));
        yield return (Quantized(device, a, DType.F8E5M2, layoutB), Quantized(device, b, DType.F8E4M3, layoutA));
        yield return (Quantized(device, a, DType.F8E4M3, ScaleLayout.Tensor), Quantized(device, b, DType.F8E4M3, ScaleLayout.Tensor));
        yield return (Quantized(device, a, DType.F8E4M3, layoutA, scales: DType.F8E8M0), b);
        Tensor apart = device.Allocate(new Shape(a.Rows, a.Columns + 9), DType.F32, MemoryKind.Workspace).ColumnRange(3, a.Columns);
        for (long r = 0; r < a.Rows; r++) a.Row<float>(r).CopyTo(apart.Row<float>(r));
        Tensor rounded = device.Allocate(b.Shape, DType.BF16, MemoryKind.Workspace);
        NumberFormats.ConvertSingleToBFloat16(b.AsSpan<float>(), rounded.AsSpan<ushort>());
        yield return (apart, rounded);
    }

    private static ScaledTensor Quantized(Device device, Tensor x, DType type, ScaleLayout layout, Tensor rowOffsets = default, DType scales = DType.F32)
    {
        Shape shape = rowOffsets.IsEmpty ? ScaledTensor.ScaleShape(x.Shape, layout) : new Shape(ScaledTensor.GroupedTileRows(x.Rows, (int)rowOffsets.Elements - 1), x.Columns);
        var quantized = new ScaledTensor(device.Allocate(x.Shape, type, MemoryKind.Workspace), device.Allocate(shape, scales, MemoryKind.Workspace), layout);
        device.Quantization.Quantize(x, quantized, default, rowOffsets);
        return quantized;
    }

    private static Tensor Random(Device device, int rows, int columns, int seed)
    {
        // Tiles of very different size, so that a scale of the wrong tile shows.
        Tensor tensor = Normal(device, rows, columns, seed);
        for (int r = 0; r < rows; r++)
        {
            Span<float> row = tensor.Row<float>(r);
            for (int c = 0; c < columns; c++) row[c] = MathF.ScaleB(row[c], -((r / 64 + 3 * (c / 64)) % 5));
        }

        return tensor;
    }

    private static Tensor Normal(Device device, int rows, int columns, int seed)
    {
        Tensor tensor = device.Allocate(new Shape(rows, columns), DType.F32, MemoryKind.Workspace);
        new Philox((ulong)seed, "emulated gemm").FillNormal(tensor.AsSpan<float>(), 0, 1);
        return tensor;
    }

    private static void Same(Tensor expected, Tensor actual, string what)
    {
        for (int r = 0; r < expected.Rows; r++)
        {
            if (MemoryMarshal.AsBytes(expected.Row<float>(r)).SequenceEqual(MemoryMarshal.AsBytes(actual.Row<float>(r)))) continue;
            int c = Enumerable.Range(0, (int)expected.Columns).First(i => BitConverter.SingleToInt32Bits(expected.Row<float>(r)[i]) != BitConverter.SingleToInt32Bits(actual.Row<float>(r)[i]));
            Assert.Fail($"{what}: [{r}, {c}] is {actual.Row<float>(r)[c]:R}, expected {expected.Row<float>(r)[c]:R}");
        }
    }
}

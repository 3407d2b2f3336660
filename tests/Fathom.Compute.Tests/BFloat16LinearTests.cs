// Products of BF16 numbers by the processor's instruction: against the instruction's definition bit for bit, against sums in F64, and row
// by row.
using Fathom.Compute.Cpu;
using Fathom.Compute.Cpu.Gemm;
using Fathom.Compute.Cpu.MachineCode;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed unsafe class BFloat16LinearTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(0), InlineData(1), InlineData(2), InlineData(31), InlineData(32), InlineData(33), InlineData(63), InlineData(64), InlineData(384), InlineData(1407)]
    public void Kernels_give_the_bits_of_the_instructions_definition(int depth)
    {
        SkipWithoutInstruction();
        const int Rows = 6, Weights = 4, Stride = 1440;
        using var device = new CpuDevice(1);
        // A hundredth of the numbers are subnormal, or become so when multiplied.
        Tensor x = Random(device, Rows, Stride, 1 + depth, tiny: 0.01), w = Random(device, Weights, Stride, 2 + depth, tiny: 0.01), sums = device.Allocate(new Shape(8 * Rows), DType.F32, MemoryKind.Workspace);
        BFloat16* a = x.Pointer<BFloat16>();
        byte* b = w.Pointer<byte>();
        nint pitch = Stride * sizeof(BFloat16);
        foreach (int rows in (int[])[1, 2, 4, 6])
        {
            sums.AsSpan<float>().Fill(-77);
            float* to = sums.Pointer<float>();
            switch (rows)
            {
                case 1:
                    BFloat16Kernels<NarrowNumbers>.Dot1(depth, a, b, b + pitch, b + 2 * pitch, b + 3 * pitch, 64, to);
                    break;
                case 2:
                    BFloat16Kernels<NarrowNumbers>.Dot2(depth, a, Stride, b, b + pitch, b + 2 * pitch, b + 3 * pitch, 64, to, 8);
                    break;
                case 4:
                    BFloat16Kernels<NarrowNumbers>.Dot4(depth, a, Stride, b, b + pitch, b + 2 * pitch, b + 3 * pitch, 64, to, 8);
                    break;
                default:
                    BFloat16Kernels<NarrowNumbers>.Dot6(depth, a, Stride, b, b + pitch, b + 2 * pitch, b + 3 * pitch, 64, to, 8);
                    break;
            }

            for (int m = 0; m < Rows; m++)
            {
                for (int j = 0; j < 8; j++)
                {
                    float expected = m < rows && j < Weights ? Dot(depth, a + m * Stride, (BFloat16*)(b + j * pitch)) : -77;
                    Assert.Equal(BitConverter.SingleToUInt32Bits(expected), BitConverter.SingleToUInt32Bits(to[8 * m + j]));
                }
            }
        }
    }

    [Fact]
    public void Kernels_read_nothing_behind_their_rows()
    {
        SkipWithoutInstruction();
        // Two pages, of which the second must not be touched: the row ends with the first.
        const int Depth = 77;
        nuint page = (nuint)Environment.SystemPageSize;
        byte* pages = (byte*)ExecutableMemory.Map(null, 2 * page, ExecutableMemory.Read | ExecutableMemory.Write, ExecutableMemory.Private | ExecutableMemory.Anonymous, -1, 0);
        Assert.Equal(0, ExecutableMemory.Protect(pages + page, page, 0));
        BFloat16* row = (BFloat16*)(pages + page) - Depth;
        for (int i = 0; i < Depth; i++) row[i] = (BFloat16)(1 + i / 64f);
        float* sums = stackalloc float[4];
        byte* w = (byte*)row;
        BFloat16Kernels<NarrowNumbers>.Dot1(Depth, row, w, w, w, w, 0, sums);
        for (int j = 0; j < 4; j++) Assert.Equal(Dot(Depth, row, row), sums[j]);
        Assert.Equal(0, ExecutableMemory.Unmap(pages, 2 * page));
    }

    [Theory]
    [InlineData(1, 4, 64), InlineData(7, 129, 384), InlineData(32, 1000, 1407), InlineData(61, 77, 31), InlineData(515, 258, 512)]
    public void Products_are_those_of_rounded_operands(int rows, int outputs, int inputs)
    {
        SkipWithoutInstruction();
        using var device = new CpuDevice(2);
        Tensor x = RandomSingles(device, rows, inputs, 3), w = Random(device, outputs, inputs, 4), y = device.Allocate(new Shape(rows, outputs), DType.F32, MemoryKind.Workspace);
        Tensor again = device.Allocate(new Shape(rows, outputs), DType.F32, MemoryKind.Workspace);
        y.AsSpan<float>().Fill(float.NaN);
        device.LinearInBFloat16!.Forward(x, w, y, false);
        AssertSums(y, inputs, (m, n, k) => (double)(float)(BFloat16)x.Row<float>(m)[k] * w.Row<BFloat16>(n)[k]);

        // Rounded before; added to what is there; and experts with rows of their own; and each row alone.
        Tensor narrow = device.Allocate(x.Shape, DType.BF16, MemoryKind.Workspace);
        device.Quantization.Quantize(x, narrow, default);
        device.LinearInBFloat16.Forward(narrow, w, again, false);
        Assert.Equal(y.AsSpan<float>(), again.AsSpan<float>());
        device.LinearInBFloat16.Forward(x, w, again, true);
        for (int i = 0; i < rows * outputs; i++) Assert.Equal(2 * y.AsSpan<float>()[i], again.AsSpan<float>()[i]);
        Tensor offsets = device.Allocate(new Shape(4), DType.I32, MemoryKind.Workspace);
        new[] { 0, rows / 3, rows / 3, rows }.CopyTo(offsets.AsSpan<int>());
        again.AsSpan<float>().Fill(float.NaN);
        device.LinearInBFloat16.GroupedForward(x, offsets, new ExpertWeights([w, w, w]), again);
        Assert.Equal(y.AsSpan<float>(), again.AsSpan<float>());
        for (int m = 0; m < rows; m += 13)
        {
            device.LinearInBFloat16.Forward(x.Slice(m, 1), w, again.Slice(0, 1), false);
            Assert.Equal(y.Row<float>(m), again.Row<float>(0));
        }
    }

    // E4M3 codes are BF16 numbers: products are those of activations times scales, rounded, with the codes' values.
    [Theory]
    [InlineData(1, 4, 64), InlineData(2, 300, 128), InlineData(7, 129, 384), InlineData(32, 260, 1407), InlineData(4, 77, 31), InlineData(71, 258, 512)]
    public void Products_with_codes_are_those_of_rounded_operands(int rows, int outputs, int inputs)
    {
        SkipWithoutInstruction();
        Assert.SkipUnless(BFloat16Code.TakesCodes, "the processor looks up no bytes (AVX512_VBMI)");
        using var device = new CpuDevice(2);
        Tensor x = RandomSingles(device, rows, inputs, 13), y = device.Allocate(new Shape(rows, outputs), DType.F32, MemoryKind.Workspace);
        var w = new ScaledTensor(
            device.Allocate(new Shape(outputs, inputs), DType.F8E4M3, MemoryKind.Workspace),
            device.Allocate(new Shape(ScaledTensor.Tiles(outputs), ScaledTensor.Tiles(inputs)), DType.F32, MemoryKind.Workspace), ScaleLayout.Block);
        device.Quantization.Quantize(RandomSingles(device, outputs, inputs, 14), w, default);
        y.AsSpan<float>().Fill(float.NaN);
        device.LinearInBFloat16!.Forward(x, w, y, false);
        AssertSums(y, inputs, (m, n, k) =>
        {
            float scale = w.Scales.Row<float>(n / ScaledTensor.TileSize)[k / ScaledTensor.TileSize];
            return (double)(float)(BFloat16)(x.Row<float>(m)[k] * scale) * (float)Float8E4M3.FromBits(w.Elements.Row<byte>(n)[k]);
        });

        // Each row alone, added to what is there, and as rows of experts.
        Tensor again = device.Allocate(new Shape(rows, outputs), DType.F32, MemoryKind.Workspace), offsets = device.Allocate(new Shape(3), DType.I32, MemoryKind.Workspace);
        for (int m = 0; m < rows; m += 5)
        {
            device.LinearInBFloat16.Forward(x.Slice(m, 1), w, again.Slice(0, 1), false);
            Assert.Equal(y.Row<float>(m), again.Row<float>(0));
            device.LinearInBFloat16.Forward(x.Slice(m, 1), w, again.Slice(0, 1), true);
            for (int n = 0; n < outputs; n++) Assert.Equal(2 * y.Row<float>(m)[n], again.Row<float>(0)[n]);
        }

        new[] { 0, rows / 2, rows }.CopyTo(offsets.AsSpan<int>());
        again.AsSpan<float>().Fill(float.NaN);
        device.LinearInBFloat16.GroupedForward(x, offsets, new ExpertWeights([w, w]), again);
        Assert.Equal(y.AsSpan<float>(), again.AsSpan<float>());

        // A code that is not a number is found wherever it is.
        w.Elements.Row<byte>(outputs - 1)[inputs - 1] = 0xFF;
        device.LinearInBFloat16.Forward(x, w, again, false);
        for (int m = 0; m < rows; m++)
        {
            Assert.True(float.IsNaN(again.Row<float>(m)[outputs - 1]));
            Assert.Equal(y.Row<float>(m)[..(outputs - 1)], again.Row<float>(m)[..(outputs - 1)]);
        }
    }

    [Fact]
    public void Other_weights_and_gradients_go_the_way_they_went()
    {
        SkipWithoutInstruction();
        using var device = new CpuDevice(2);
        Tensor x = RandomSingles(device, 9, 64, 5), w = RandomSingles(device, 40, 64, 6);
        Tensor y = device.Allocate(new Shape(9, 40), DType.F32, MemoryKind.Workspace), plain = device.Allocate(new Shape(9, 40), DType.F32, MemoryKind.Workspace);
        device.LinearInBFloat16!.Forward(x, w, y, false);
        device.LinearByRow.Forward(x, w, plain, false);
        Assert.Equal(plain.AsSpan<float>(), y.AsSpan<float>());
        Tensor narrow = Random(device, 40, 64, 7), dx = device.Allocate(new Shape(9, 64), DType.F32, MemoryKind.Workspace), expected = device.Allocate(new Shape(9, 64), DType.F32, MemoryKind.Workspace);
        device.LinearInBFloat16.InputGradient(y, narrow, dx, false);
        device.LinearByRow.InputGradient(y, narrow, expected, false);
        Assert.Equal(expected.AsSpan<float>(), dx.AsSpan<float>());
        Assert.Contains("w is", Assert.Throws<ArgumentException>(() => device.LinearInBFloat16.Forward(x, Random(device, 41, 64, 8), y, false)).Message, StringComparison.Ordinal);
        Assert.Contains("x is", Assert.Throws<ArgumentException>(() => device.LinearInBFloat16.Forward(x.Slice(0, 8), narrow, y, false)).Message, StringComparison.Ordinal);
    }

    private static void SkipWithoutInstruction() =>
        Assert.SkipUnless(CpuFeatures.BFloat16Dots, "the processor has no BF16 dot product, or the system lets no code be written");

    /// <summary>Results against sums in F64, as the largest error over the sum of magnitudes.</summary>
    private void AssertSums(Tensor y, int inputs, Func<int, int, int, double> product)
    {
        double worst = 0;
        for (int m = 0; m < y.Rows; m++)
        {
            for (int n = 0; n < y.Columns; n++)
            {
                double sum = 0, magnitude = 1e-30;
                for (int k = 0; k < inputs; k++)
                {
                    double term = product(m, n, k);
                    sum += term;
                    magnitude += Math.Abs(term);
                }

                worst = Math.Max(worst, Math.Abs(y.Row<float>(m)[n] - sum) / magnitude);
            }
        }

        output.WriteLine($"largest error {worst:E1} of the sum of magnitudes");
        Assert.InRange(worst, 0, 1e-6);
    }

    /// <summary>VDPBF16PS over whole vectors, then over the rest with zeros, then the kernels' tree over lanes.</summary>
    private static float Dot(int depth, BFloat16* x, BFloat16* w)
    {
        const int Lanes = 16;
        var lanes = new float[Lanes];
        for (int k = 0; k < depth; k += 2 * Lanes)
        {
            for (int lane = 0; lane < Lanes; lane++)
            {
                for (int i = k + 2 * lane + 1; i >= k + 2 * lane; i--)
                {
                    if (i < depth) lanes[lane] = FlushedSum(lanes[lane], Flushed(x[i]) * Flushed(w[i]));
                }
            }
        }

        var quarters = new float[4];
        for (int q = 0; q < 4; q++) quarters[q] = lanes[4 * q] + lanes[4 * q + 2] + (lanes[4 * q + 1] + lanes[4 * q + 3]);
        return quarters[0] + quarters[2] + (quarters[1] + quarters[3]);

        static float Flushed(float value) => float.IsSubnormal(value) ? MathF.CopySign(0, value) : value;
        static float FlushedSum(float left, float right) => Flushed(left + Flushed(right));
    }

    private static Tensor Random(CpuDevice device, int rows, int columns, int seed, double tiny = 0)
    {
        Tensor narrow = device.Allocate(new Shape(rows, columns), DType.BF16, MemoryKind.Workspace);
        device.Quantization.Quantize(RandomSingles(device, rows, columns, seed, tiny), narrow, default);
        return narrow;
    }

    private static Tensor RandomSingles(CpuDevice device, int rows, int columns, int seed, double tiny = 0)
    {
        Tensor values = device.Allocate(new Shape(rows, columns), DType.F32, MemoryKind.Workspace);
        var random = new Random(seed);
        foreach (ref float value in values.AsSpan<float>()) value = (float)((random.NextDouble() - 0.5) * Math.Pow(2, random.NextDouble() < tiny ? random.Next(-136, -60) : random.Next(-12, 4)));
        return values;
    }
}

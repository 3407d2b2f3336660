// What the operator table cannot show about products with weights as stored: every code's value at every vector width, the same bits
// whatever threads and neighbours, bounded working memory, silence of the allocator, clear errors.
using System.Runtime.Intrinsics;
using Fathom.Compute.Cpu;
using Fathom.Compute.Cpu.Gemm;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed unsafe class StoredLinearTests(ITestOutputHelper output)
{
    private static readonly DType[] Formats = [DType.F8E4M3, DType.HiF8];

    [Fact]
    public void Every_code_has_its_value_at_every_width()
    {
        // What reads as 480 is NaN: the kernels look for it.
        Check<E4M3Format>(code => (code & 0x7F) == E4M3Format.NaN ? code < 0x80 ? 480 : -480 : Float8E4M3.FromBits(code));
        Check<HiFloat8Format>(code => HiFloat8.FromBits(code));
        if (!HiFloat8Table.Expands) return;
        byte* codes = stackalloc byte[256];
        float* values = stackalloc float[64];
        for (int code = 0; code < 256; code++) codes[code] = (byte)code;
        HiFloat8Table table = HiFloat8Table.Instance;
        for (int code = 0; code < 256; code++)
        {
            table.Expand(codes + code / 64 * 64, out Vector512<float> v0, out Vector512<float> v1, out Vector512<float> v2, out Vector512<float> v3);
            v0.Store(values);
            v1.Store(values + 16);
            v2.Store(values + 32);
            v3.Store(values + 48);
            AssertSame(HiFloat8.FromBits((byte)code), values[code % 64], $"HiF8 {code:X2} of 64");
        }

        output.WriteLine("HiFloat8: 256 codes, 64 at a time");

        void Check<TFormat>(Func<byte, float> value) where TFormat : struct, IWeightFormat
        {
            CheckWidth<TFormat, Vector128<float>, Width128>(value);
            if (CpuFeatures.Avx2) CheckWidth<TFormat, Vector256<float>, Width256>(value);
            if (CpuFeatures.Avx512) CheckWidth<TFormat, Vector512<float>, Width512>(value);
        }
    }

    [Fact]
    public void Kernels_of_all_widths_give_the_same_sums()
    {
        const int Depth = 1029, Pitch = 1100, Stride = 1040, Rows = 6;
        var random = new Random(5);
        byte[] codes = new byte[4 * Pitch];
        random.NextBytes(codes);
        foreach (ref byte code in codes.AsSpan()) code = (code & 0x7F) == 0x7F ? (byte)0 : code;
        float[] x = [.. Enumerable.Range(0, Rows * Stride).Select(_ => random.NextSingle() - 0.5f)];
        var exact = new double[4 * Rows];
        for (int m = 0; m < Rows; m++)
        {
            for (int n = 0; n < 4; n++)
            {
                for (int k = 0; k < Depth; k++) exact[4 * m + n] += (double)x[m * Stride + k] * Float8E4M3.FromBits(codes[n * Pitch + k]);
            }
        }

        Check<FewRowsKernels<E4M3Format, Vector128<float>, Width128>>();
        if (CpuFeatures.Avx2) Check<FewRowsKernels<E4M3Format, Vector256<float>, Width256>>();
        if (CpuFeatures.Avx512) Check<FewRowsKernels<E4M3Format, Vector512<float>, Width512>>();

        void Check<TKernels>() where TKernels : struct, IDotKernels<float>
        {
            float* six = stackalloc float[4 * Rows], four = stackalloc float[16], two = stackalloc float[8], one = stackalloc float[4];
            double worst = 0, largest = exact.Max(Math.Abs);
            fixed (byte* w = codes)
            fixed (float* a = x)
            {
                TKernels.Dot6(Depth, a, Stride, w, w + Pitch, w + 2 * Pitch, w + 3 * Pitch, 0, six, 4);
                TKernels.Dot4(Depth, a, Stride, w, w + Pitch, w + 2 * Pitch, w + 3 * Pitch, 0, four, 4);
                TKernels.Dot2(Depth, a, Stride, w, w + Pitch, w + 2 * Pitch, w + 3 * Pitch, 0, two, 4);
                for (int m = 0; m < Rows; m++)
                {
                    TKernels.Dot1(Depth, a + m * Stride, w, w + Pitch, w + 2 * Pitch, w + 3 * Pitch, 0, one);
                    for (int n = 0; n < 4; n++)
                    {
                        Assert.Equal(BitConverter.SingleToInt32Bits(six[4 * m + n]), BitConverter.SingleToInt32Bits(one[n]));
                        if (m < 4) Assert.Equal(BitConverter.SingleToInt32Bits(four[4 * m + n]), BitConverter.SingleToInt32Bits(one[n]));
                        if (m < 2) Assert.Equal(BitConverter.SingleToInt32Bits(two[4 * m + n]), BitConverter.SingleToInt32Bits(one[n]));
                        worst = Math.Max(worst, Math.Abs(Math.ScaleB(one[n], TKernels.Shift) - exact[4 * m + n]));
                    }
                }
            }

            output.WriteLine($"{typeof(TKernels)}: largest difference {worst:E2} of {largest:E2}");
            Assert.InRange(worst, 0, 2e-6 * largest);
        }
    }

    [Fact]
    public void Results_have_the_same_bits_whatever_threads_and_neighbours()
    {
        const int M = 21, N = 300, K = 411;
        foreach (DType format in Formats)
        {
            using var one = new CpuDevice(1);
            ScaledTensor w = Weights(one, N, K, format);
            Tensor x = Normal(one, M, K), y = Normal(one, M, N);
            one.Linear.Forward(x, w, y);
            int compared = 0;
            foreach (int threads in (int[])[1, 2, 5])
            {
                using var device = new CpuDevice(threads);
                for (int rows = 1; rows <= M; rows += 3)
                {
                    for (int start = 0; start + rows <= M; start += 4)
                    {
                        Tensor part = Normal(device, rows, N);
                        device.Linear.Forward(x.Slice(start, rows), w, part);
                        AssertSameBits(y.Slice(start, rows), part, $"{format}, {threads} threads, rows {start} to {start + rows}");
                        Tensor offsets = Offsets(device, 0, rows, rows);
                        device.Linear.GroupedForward(x.Slice(start, rows), offsets, new ExpertWeights([w, w]), part);
                        AssertSameBits(y.Slice(start, rows), part, $"{format}, {threads} threads, an expert's rows {start} to {start + rows}");
                        compared++;
                    }
                }
            }

            output.WriteLine($"{format}: {compared} cuts of {M} rows have the bits of the whole with 1, 2 and 5 threads, alone and as an expert's");
        }
    }

    [Fact]
    public void Activations_and_scales_of_any_size_keep_their_digits()
    {
        // Products of numbers that are read 2^120 too small: from activations whose results are hardly normal to ones at the top.
        const int N = 140, K = 300;
        using var device = new CpuDevice(2);
        using var reference = new Reference.ReferenceDevice();
        Tensor x = Normal(device, 4, K), y = Normal(device, 4, N), expected = Normal(device, 4, N);
        foreach (int power in (int[])[-100, -60, -30, 0, 30, 60, 80])
        {
            foreach (int scalePower in (int[])[-20, 0, 20])
            {
                for (int m = 0; m < 4; m++)
                {
                    Normal(device, 4, K).Row<float>(m).CopyTo(x.Row<float>(m));
                    foreach (ref float value in x.Row<float>(m)) value = MathF.ScaleB(value, power);
                }

                // One row of tiny numbers beside one large that meets a zero.
                x.Row<float>(3)[5] = MathF.ScaleB(1, power + 20);
                ScaledTensor scaled = Weights(device, N, K, DType.F8E4M3);
                for (int n = 0; n < N; n++) scaled.Elements.Row<byte>(n)[5] = 0;
                for (int r = 0; r < scaled.Scales.Rows; r++)
                {
                    foreach (ref float scale in scaled.Scales.Row<float>(r)) scale = MathF.ScaleB(scale, scalePower);
                }

                reference.Linear.Forward(x, scaled, expected);
                device.Linear.Forward(x, scaled, y);
                for (int m = 0; m < 4; m++)
                {
                    double worst = 0, largest = 0;
                    for (int n = 0; n < N; n++)
                    {
                        largest = Math.Max(largest, Math.Abs(expected.Row<float>(m)[n]));
                        worst = Math.Max(worst, Math.Abs((double)y.Row<float>(m)[n] - expected.Row<float>(m)[n]));
                    }

                    Assert.InRange(worst, 0, 2e-6 * largest);
                    if (m == 3) output.WriteLine($"activations 2^{power}, scales 2^{scalePower}: largest difference {worst:E2} of {largest:E2}");
                }
            }
        }
    }

    [Fact]
    public void A_code_or_scale_that_is_no_number_reaches_exactly_its_sums()
    {
        const int N = 260, K = 300;
        using var device = new CpuDevice(2);
        foreach (DType format in Formats)
        {
            foreach (int rows in (int[])[1, 4, 70])
            {
                ScaledTensor w = Weights(device, N, K, format);
                w.Elements.Row<byte>(17)[299] = format == DType.F8E4M3 ? (byte)0x7F : (byte)0x80;
                w.Elements.Row<byte>(18)[0] = format == DType.F8E4M3 ? (byte)0xFF : (byte)0x80;
                w.Scales.Row<float>(1)[2] = float.NaN;
                Tensor y = Normal(device, rows, N);
                device.Linear.Forward(Normal(device, rows, K), w, y);
                for (int m = 0; m < rows; m++)
                {
                    for (int n = 0; n < N; n++) Assert.Equal(n is 17 or 18 or >= 128 and < 256, float.IsNaN(y.Row<float>(m)[n]));
                }
            }

            output.WriteLine($"{format}: 130 of {N} outputs are NaN, in each of 1, 4 and 70 rows");
        }
    }

    [Fact]
    public void Slabs_are_whole_rows_of_blocks_and_bounded()
    {
        foreach (long inputs in (long[])[1, 127, 2048, 7168, 16384, 18432, 1 << 20])
        {
            long rows = CpuScaledLinear.SlabRows(inputs);
            Assert.True(rows >= ScaledTensor.TileSize && rows % ScaledTensor.TileSize == 0, $"{rows} rows of {inputs}");
            Assert.True(rows * inputs <= CpuScaledLinear.ElementsAtOnce || rows == ScaledTensor.TileSize, $"{rows} rows of {inputs}");
            output.WriteLine($"{inputs} inputs: {rows} rows, {4e-6 * rows * inputs:F1} MB");
        }
    }

    [Fact]
    public void Repeated_calls_allocate_nothing()
    {
        using var device = new CpuDevice(2);
        Tensor x = Normal(device, 80, 200), y = Normal(device, 80, 150), offsets = Offsets(device, 0, 3, 3, 80);
        ScaledTensor w = Weights(device, 150, 200, DType.F8E4M3);
        var experts = new ExpertWeights([w, w, w]);
        Tensor xFew = x.Slice(0, 5), yFew = y.Slice(0, 5);
        long bytes = 0;
        for (int call = 0; call < 20; call++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            device.Linear.Forward(xFew, w, yFew);
            device.Linear.Forward(x, w, y);
            device.Linear.GroupedForward(x, offsets, experts, y);
            device.Linear.GroupedInputGradient(y, offsets, experts, x);
            if (call > 1) bytes += GC.GetAllocatedBytesForCurrentThread() - before;
        }

        output.WriteLine($"{bytes} bytes in 72 calls");
        Assert.Equal(0, bytes);
    }

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using var device = new CpuDevice(1);
        Tensor x = Normal(device, 4, 60), y = Normal(device, 4, 50), many = Normal(device, 100, 60);
        ScaledTensor w = Weights(device, 50, 60, DType.F8E4M3), other = Weights(device, 50, 61, DType.F8E4M3);
        Fails("w is F8E4M3 [50, 61] with F32 scales by Block, expected [50, 60]", () => device.Linear.Forward(x, other, y));
        Fails("y is F32 [3, 50], expected F32 [100, 50]", () => device.Linear.Forward(many, w, y.Slice(0, 3)));
        Fails("w is F8E4M3 [50, 61] with F32 scales by Block, expected [50, 60]", () => device.Linear.Forward(many, other, Normal(device, 100, 50)));
        Fails("rowOffsets[1] is 9, expected 0 to 4", () => device.Linear.GroupedForward(x, Offsets(device, 0, 9), new ExpertWeights([w]), y));
        Fails("x is F32 [4, 60], expected F32 [4, 61]", () => device.Linear.GroupedForward(x, Offsets(device, 0, 4), new ExpertWeights([other]), y));
        Fails("dy is F32 [4, 50], expected F32 [4, 40]", () => device.Linear.GroupedInputGradient(y, Offsets(device, 0, 4), new ExpertWeights([Weights(device, 40, 60, DType.HiF8)]), x));
        Fails("may be written", () => device.Linear.Forward(x, w, new Tensor(y.Address, DType.F32, y.Shape, y.Owner, readOnly: true)));
    }

    private static void Fails(string text, Action action) => Assert.Contains(text, Assert.Throws<ArgumentException>(action).Message);

    private void CheckWidth<TFormat, TVector, TWidth>(Func<byte, float> value)
        where TFormat : struct, IWeightFormat
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector>
    {
        byte* codes = stackalloc byte[256];
        for (int code = 0; code < 256; code++) codes[code] = (byte)code;
        float* values = stackalloc float[TWidth.Count];
        for (int code = 0; code < 256; code++)
        {
            if (code % TWidth.Count == 0) TWidth.Store(TFormat.Load<TVector, TWidth>(codes + code), values);
            AssertSame(value((byte)code), MathF.ScaleB(values[code % TWidth.Count], TFormat.Shift), $"{typeof(TFormat).Name} {code:X2} in {TWidth.Count} lanes");
            AssertSame(value((byte)code), MathF.ScaleB(TFormat.LoadOne(codes + code), TFormat.Shift), $"{typeof(TFormat).Name} {code:X2} alone");
        }

        output.WriteLine($"{typeof(TFormat).Name}: 256 codes, {TWidth.Count} at a time");
    }

    private static void AssertSame(float expected, float actual, string what) => Assert.True(
        float.IsNaN(expected) ? float.IsNaN(actual) : BitConverter.SingleToInt32Bits(expected) == BitConverter.SingleToInt32Bits(actual), $"{what}: {actual:R}, expected {expected:R}");

    private static void AssertSameBits(Tensor expected, Tensor actual, string what) =>
        Assert.True(System.Runtime.InteropServices.MemoryMarshal.AsBytes(expected.AsSpan<float>()).SequenceEqual(
            System.Runtime.InteropServices.MemoryMarshal.AsBytes(actual.AsSpan<float>())), what);

    private static Tensor Offsets(Device device, params int[] offsets)
    {
        Tensor tensor = device.Allocate(new Shape(offsets.Length), DType.I32, MemoryKind.Workspace);
        offsets.CopyTo(tensor.AsSpan<int>());
        return tensor;
    }

    private static Tensor Normal(Device device, int rows, int columns)
    {
        Tensor tensor = device.Allocate(new Shape(rows, columns), DType.F32, MemoryKind.Workspace);
        new Philox(1, $"{rows} x {columns}").FillNormal(tensor.AsSpan<float>(), 0, 1);
        return tensor;
    }

    private static ScaledTensor Weights(Device device, int outputs, int inputs, DType format)
    {
        var shape = new Shape(outputs, inputs);
        var weights = new ScaledTensor(
            device.Allocate(shape, format, MemoryKind.Workspace), device.Allocate(ScaledTensor.ScaleShape(shape, ScaleLayout.Block), DType.F32, MemoryKind.Workspace), ScaleLayout.Block);
        device.Quantization.Quantize(Normal(device, outputs, inputs), weights);
        return weights;
    }
}

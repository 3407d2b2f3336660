// Quantisation on a GPU beyond the shared table: quotients that lie on the edge between two codes, the ends of the range, groups of
// aligned rows, transposed codes. Skipped, with the reason, where there is neither a GPU nor an emulator of one.
using Fathom.Compute.Cuda;
using Fathom.Compute.Cuda.Hopper;
using Fathom.Compute.Operators;
using Fathom.Compute.Reference;
using Fathom.Compute.Table;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CudaQuantizationTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    private const float Least = 1e-30f;

    /// <summary>
    /// Every value is the product of its tile's scale with the middle between two codes, or a neighbour of that: a quotient that is off
    /// in its last bit gives another code. The test prints how often a product with the reciprocal would have.
    /// </summary>
    [Theory]
    [InlineData(DType.F8E4M3, 7)]
    [InlineData(DType.F8E5M2, 15)]
    [InlineData(DType.E5M6Pair, 15)]
    public void Quotients_between_two_codes_fall_to_the_right_one(DType format, int bias)
    {
        const int Rows = 192, Columns = 1024;
        int mantissa = format switch { DType.F8E4M3 => 3, DType.F8E5M2 => 2, _ => 6 };
        float target = format.TileFormat().ScaleTarget();
        long differ = 0;
        void OnEdges(Tensor tensor, Random random)
        {
            differ = 0;
            for (int r = 0; r < Rows; r++)
            {
                Span<float> row = tensor.Row<float>(r);
                for (int c = 0; c < Columns; c += 128)
                {
                    float amax = (1 + random.NextSingle()) * MathF.ScaleB(1, random.Next(-90, 90)), scale = amax / target, reciprocal = 1 / scale;
                    for (int i = 0; i < 128; i++)
                    {
                        int exponent = random.Next(-bias - 1, (int)MathF.Log2(target) - 1);
                        float middle = MathF.ScaleB(1 + (random.Next(1 << mantissa) + 0.5f) / (1 << mantissa), exponent);
                        float value = BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(scale * middle) + random.Next(-1, 2));
                        row[c + i] = i == 77 ? amax : random.Next(2) == 0 ? -value : value;
                        if (format == DType.F8E4M3 && Float8E4M3.FromSingle(row[c + i] / scale, true) != Float8E4M3.FromSingle(row[c + i] * reciprocal, true)) differ++;
                    }
                }
            }
        }

        Check(Quantization(Rows, Columns, 0, format, ScaleLayout.RowTile, DType.F32, OnEdges));
        if (format == DType.F8E4M3)
        {
            output.WriteLine($"{differ} of {Rows * Columns} codes would differ with a product");
            Assert.True(differ > 100, $"{differ}");
        }
    }

    [Theory]
    [InlineData(ScaleLayout.RowTile)]
    [InlineData(ScaleLayout.ColumnTile)]
    [InlineData(ScaleLayout.Block)]
    [InlineData(ScaleLayout.Tensor)]
    public void Values_of_all_sizes_and_both_zeros_are_exact(ScaleLayout layout)
    {
        static void AllSizes(Tensor tensor, Random random)
        {
            for (int r = 0; r < tensor.Rows; r++)
            {
                // Of a row, a column and a block all at times nothing is large, so that scales reach from 1e-30 / target upwards.
                foreach (ref float value in tensor.Row<float>(r))
                {
                    int exponent = random.Next(-149, r / 128 % 2 == 0 ? -80 + r % 40 : 128);
                    value = random.Next(16) == 0 ? -0.0f : (random.NextSingle() - 0.5f) * MathF.ScaleB(1, exponent);
                }
            }
        }

        foreach (DType format in (DType[])[DType.F8E4M3, DType.F8E5M2, DType.HiF8, DType.E5M6Pair])
        {
            if (format == DType.E5M6Pair && layout == ScaleLayout.ColumnTile) continue;
            foreach (DType scales in (DType[])[DType.F32, DType.F8E8M0])
            {
                // The first alone has wide accesses.
                Check(Quantization(384, 192, 0, format, layout, scales, AllSizes));
                Check(Quantization(300, 190, 4, format, layout, scales, AllSizes));
            }
        }
    }

    [Theory]
    [InlineData(128)]
    [InlineData(72)]
    [InlineData(70)]
    public void Groups_of_rows_have_tiles_of_their_own(int columns)
    {
        int[] counts = [0, 5, 127, 128, 0, 300, 256, 1, .. Enumerable.Repeat(3, 40)];
        int rows = counts.Sum() + 9;
        foreach (DType format in (DType[])[DType.F8E4M3, DType.HiF8])
        {
            Check(new OperatorCase
            {
                Name = "quantization.groups",
                Label = $"{counts.Length} groups of {rows} x {columns} {format}",
                Operands =
                [
                    new("x", new Shape(rows, columns), Fill.Normal, Activation: true),
                    new("rowOffsets", new Shape(counts.Length + 1), Fill.Custom, DType.I32, Initialize: (tensor, _) => Offsets(counts, tensor)),
                    new("elements", new Shape(rows, columns), Fill.Custom, format, Compare: true, Initialize: Zeros),
                    new("scales", new Shape(ScaledTensor.GroupedTileRows(rows, counts.Length), columns), Fill.Positive, Compare: true),
                    new("y", new Shape(rows, columns), Fill.Normal, Compare: true, Activation: true),
                    new("fault", new Shape(1), Fill.Custom, DType.I64, Compare: true, Initialize: NoFault),
                ],
                Run = (device, t) =>
                {
                    var quantized = new ScaledTensor(t[2], t[3], ScaleLayout.ColumnTile);
                    device.Quantization.Quantize(t[0], quantized, t[5], t[1]);
                    device.Quantization.Dequantize(quantized, t[4], t[1]);
                },
                Tolerance = 0,
            });
        }
    }

    [Theory]
    [InlineData(256, 384)]
    [InlineData(144, 48)]
    [InlineData(130, 300)]
    [InlineData(1, 1)]
    [InlineData(16, 129)]
    public void Codes_are_transposed(int rows, int columns)
    {
        CudaDevice device = gpu.Device();
        byte[] codes = Codes(rows * columns);
        Tensor from = Upload(device, new Shape(rows, columns), DType.F8E4M3, codes);
        Tensor to = device.Allocate(new Shape(columns, rows), DType.F8E4M3, MemoryKind.Workspace);
        ((CudaQuantization)device.Quantization).TransposeBytes(HopperMatrix.Of(from), to);
        byte[] transposed = Download(device, to);
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns; c++) Assert.True(transposed[c * rows + r] == codes[r * columns + c], $"[{r}, {c}] of {rows} x {columns}");
        }
    }

    [Fact]
    public void Codes_of_several_matrices_are_transposed()
    {
        const int Count = 3, Rows = 48, Columns = 160;
        CudaDevice device = gpu.Device();
        byte[] codes = Codes(Count * Rows * Columns);
        Tensor from = Upload(device, new Shape(Count, Rows, Columns), DType.F8E4M3, codes), to = device.Allocate(new Shape(Count, Columns, Rows), DType.F8E4M3, MemoryKind.Workspace);
        ((CudaQuantization)device.Quantization).TransposeBytes(HopperMatrix.Of(from.At(0)) with { Count = Count, MatrixStride = Rows * Columns }, to);
        byte[] transposed = Download(device, to);
        for (int i = 0; i < codes.Length; i++)
        {
            (int e, int r, int c) = (i / (Rows * Columns), i / Columns % Rows, i % Columns);
            Assert.True(transposed[(e * Columns + c) * Rows + r] == codes[i], $"[{e}, {r}, {c}]");
        }
    }

    [Theory]
    [InlineData(DType.F32, DType.F32)]
    [InlineData(DType.BF16, DType.F32)]
    [InlineData(DType.F8E4M3, DType.F32)]
    [InlineData(DType.F8E4M3, DType.F8E8M0)]
    [InlineData(DType.E5M6Pair, DType.F8E8M0)]
    public void Transposed_tiles_are_those_of_the_composition(DType type, DType scales)
    {
        CudaDevice device = gpu.Device();
        foreach ((int[] counts, int left, int columns, int pad) in ((int[], int, int, int)[])
            [([300], 0, 272, 0), ([1], 0, 8, 0), ([128], 0, 128, 8), ([70], 0, 37, 3), ([3, 0, 128, 129, 0, 60, 256], 5, 264, 8), ([0, 0], 2, 16, 0)])
        {
            if (type is not (DType.F32 or DType.BF16) && (columns % 8 != 0 || pad != 0)) continue;
            bool grouped = counts.Length > 1;
            int rows = counts.Sum() + left, groups = counts.Length;
            var random = new Random(rows + columns);
            float[] values = [.. Enumerable.Range(0, rows * (columns + pad)).Select(i => random.Next(30) == 0 ? 0 : OperatorCase.Normal(random) * MathF.ScaleB(1, random.Next(-8, 8) - i / (columns + pad) % 20 - (i % (columns + pad) == 5 ? 80 : 0)))]; // column 5 is moved up before it is divided
            if (rows > 50) (values[7], values[(columns + pad) * 40 + 3]) = (float.NaN, float.NegativeInfinity);
            Tensor singles = Upload(device, new Shape(rows, columns + pad), DType.F32, System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(values).ToArray()).ColumnRange(0, columns);
            ScaledTensor x = singles;
            if (type == DType.BF16)
            {
                x = device.Allocate(new Shape(rows, columns + pad), DType.BF16, MemoryKind.Workspace).ColumnRange(0, columns);
                device.Quantization.Quantize(singles, x);
            }
            else if (type != DType.F32)
            {
                Shape shape = new(rows, columns);
                x = new ScaledTensor(
                    device.Allocate(ScaledTensor.ElementShape(shape, type), type, MemoryKind.Workspace),
                    device.Allocate(ScaledTensor.ScaleShape(shape, ScaleLayout.RowTile), scales, MemoryKind.Workspace), ScaleLayout.RowTile);
                device.Quantization.Quantize(singles, x);
            }

            Tensor offsets = grouped ? Upload(device, new Shape(groups + 1), DType.I32, Offsets(counts)) : default;
            int tiles = (int)(grouped ? ScaledTensor.GroupedTileRows(rows, groups) : ScaledTensor.Tiles(rows)), width = 128 * tiles;
            byte[] none = BitConverter.GetBytes(-1L);
            Tensor firstFault = Upload(device, new Shape(1), DType.I64, none), secondFault = Upload(device, new Shape(1), DType.I64, none);
            Tensor plain = singles;
            if (type != DType.F32) device.Quantization.Dequantize(x, plain = device.Allocate(new Shape(rows, columns), DType.F32, MemoryKind.Workspace));
            var composed = new ScaledTensor(
                device.Allocate(new Shape(rows, columns), DType.F8E4M3, MemoryKind.Workspace), device.Allocate(new Shape(tiles, columns), DType.F32, MemoryKind.Workspace), ScaleLayout.ColumnTile);
            device.Quantization.Quantize(plain, composed, firstFault, offsets, leastAmax: 1e-30f);
            var turned = new ScaledTensor(
                Upload(device, new Shape(columns, width), DType.F8E4M3, new byte[columns * width]), device.Allocate(new Shape(tiles, columns), DType.F32, MemoryKind.Workspace),
                ScaleLayout.TransposedColumnTile);
            device.Quantization.QuantizeTransposed(x, turned, secondFault, offsets, leastAmax: 1e-30f);

            byte[] codes = Download(device, composed.Elements), expected = new byte[columns * width];
            for (int g = 0, first = 0; g < groups; first += counts[g++])
            {
                for (int r = 0; r < counts[g]; r++)
                {
                    for (int c = 0; c < columns; c++) expected[c * width + (grouped ? 128 * (first / 128 + g) : 0) + r] = codes[(first + r) * columns + c];
                }
            }

            byte[] actual = Download(device, turned.Elements);
            int wrong = Enumerable.Range(0, expected.Length).FirstOrDefault(i => expected[i] != actual[i], -1);
            string what = $"{type} {scales} {string.Join(',', counts)} + {left} rows of {columns}";
            Assert.True(wrong < 0, $"{what}: column {wrong % width} of row {wrong / width}");
            Assert.True(Download(device, composed.Scales).AsSpan().SequenceEqual(Download(device, turned.Scales)), $"{what}: scales");
            Assert.Equal(Download(device, firstFault), Download(device, secondFault));
            output.WriteLine($"{what}: {expected.Length} codes and {tiles * columns} scales the same");
        }
    }

    /// <summary>By one kernel where rows are whole 16 bytes of BF16, else by two.</summary>
    [Theory]
    [InlineData(DType.BF16, 37, 264, 0, DType.E5M6Pair, DType.F8E4M3, true)]
    [InlineData(DType.BF16, 3, 16384, 8, DType.E5M6Pair, DType.F8E4M3, true)]
    [InlineData(DType.BF16, 37, 262, 0, DType.E5M6Pair, DType.F8E4M3, false)]
    [InlineData(DType.BF16, 37, 264, 2, DType.E5M6Pair, DType.F8E4M3, false)]
    [InlineData(DType.F32, 37, 264, 0, DType.E5M6Pair, DType.F8E4M3, false)]
    [InlineData(DType.BF16, 37, 264, 0, DType.F8E4M3, DType.E5M6Pair, false)]
    public void Two_formats_are_those_of_two_calls(DType type, int rows, int columns, int pad, DType first, DType second, bool readOnce)
    {
        CudaDevice device = gpu.Device();
        var random = new Random(columns);
        float[] values = [.. Enumerable.Range(0, rows * (columns + pad)).Select(i => random.Next(30) == 0 ? 0 : OperatorCase.Normal(random) * MathF.ScaleB(1, random.Next(-8, 8) - i / (columns + pad) % 40))];
        (values[7], values[(columns + pad) * 2 + 3]) = (float.NaN, float.NegativeInfinity);
        Tensor singles = Upload(device, new Shape(rows, columns + pad), DType.F32, System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(values).ToArray()), x = singles;
        if (type == DType.BF16) device.Reduction.Convert(singles, x = device.Allocate(singles.Shape, type, MemoryKind.Workspace));
        x = x.ColumnRange(0, columns);
        foreach (DType scales in (DType[])[DType.F8E8M0, DType.F32])
        {
            CodesTarget[] alone = [Target(first, scales), Target(second, DType.F32)], both = [Target(first, scales), Target(second, DType.F32)];
            Assert.Equal(readOnce, CudaQuantization.AreReadOnce(x, both[0].Codes, both[1].Codes));
            foreach (CodesTarget target in alone) device.Quantization.Quantize(x, target.Codes, target.Fault);
            device.Quantization.QuantizeTwice(x, both[0], both[1]);
            foreach ((CodesTarget expected, CodesTarget actual) in alone.Zip(both))
            {
                string what = $"{expected.Codes.DType} {scales} of {rows} x {columns} {type}";
                Assert.True(Download(device, expected.Codes.Elements).AsSpan().SequenceEqual(Download(device, actual.Codes.Elements)), $"{what}: codes");
                Assert.True(Download(device, expected.Codes.Scales).AsSpan().SequenceEqual(Download(device, actual.Codes.Scales)), $"{what}: scales");
                Assert.Equal(Download(device, expected.Fault), Download(device, actual.Fault));
                output.WriteLine($"{what}: the same");
            }

            // Places for faults need not be asked for.
            device.Quantization.QuantizeTwice(x, new CodesTarget(alone[0].Codes), new CodesTarget(alone[1].Codes));
        }

        CodesTarget Target(DType format, DType scales) => new(
            new ScaledTensor(
                device.Allocate(ScaledTensor.ElementShape(new Shape(rows, columns), format), format, MemoryKind.Workspace),
                device.Allocate(ScaledTensor.ScaleShape(new Shape(rows, columns), ScaleLayout.RowTile), scales, MemoryKind.Workspace), ScaleLayout.RowTile),
            Upload(device, new Shape(1), DType.I64, BitConverter.GetBytes(-1L)));
    }

    [Fact]
    public void Wrong_operands_are_refused()
    {
        CudaDevice device = gpu.Device();
        Tensor Of(DType type, params long[] shape) => device.Allocate(shape.Length == 1 ? new Shape(shape[0]) : new Shape(shape[0], shape[1]), type, MemoryKind.Workspace);
        Tensor codes = Of(DType.F8E4M3, 4, 256), scales = Of(DType.F32, 4, 2), halves = Of(DType.F16, 4, 256), x = Of(DType.BF16, 4, 256);
        var rows = new ScaledTensor(codes, scales, ScaleLayout.RowTile);
        Assert.Contains("F32 or BF16", Assert.Throws<ArgumentException>(() => device.Quantization.Quantize(halves, rows)).Message, StringComparison.Ordinal);
        Assert.Contains("[4, 128]", Assert.Throws<ArgumentException>(() => device.Quantization.Quantize(x.ColumnRange(0, 128), rows)).Message, StringComparison.Ordinal);
        Assert.Contains("fault", Assert.Throws<ArgumentException>(() => device.Quantization.Quantize(x, rows, Of(DType.I32, 1))).Message, StringComparison.Ordinal);
        Assert.Contains("128x1 tiles", Assert.Throws<ArgumentException>(() => device.Quantization.Quantize(x, rows, rowOffsets: Of(DType.I32, 3))).Message, StringComparison.Ordinal);
        var other = new ScaledTensor(Of(DType.F8E4M3, 4, 128), Of(DType.F32, 4, 1), ScaleLayout.RowTile);
        Assert.Contains("quantise twice: quantized is", Assert.Throws<ArgumentException>(() => device.Quantization.QuantizeTwice(x, new(rows), new(other))).Message, StringComparison.Ordinal);
        Assert.Contains("fault", Assert.Throws<ArgumentException>(() => device.Quantization.QuantizeTwice(x, new(rows, Of(DType.I32, 1)), new(rows))).Message, StringComparison.Ordinal);
        Assert.Contains("to is", Assert.Throws<ArgumentException>(() => ((CudaQuantization)device.Quantization).TransposeBytes(HopperMatrix.Of(codes), codes)).Message, StringComparison.Ordinal);
        Assert.Contains("expected F8_E4M3 [256, 128]", Assert.Throws<ArgumentException>(() => device.Quantization.QuantizeTransposed(x, rows)).Message, StringComparison.Ordinal);
    }

    private static OperatorCase Quantization(int m, int n, int pad, DType format, ScaleLayout layout, DType scales, Action<Tensor, Random> fill) => new()
    {
        Name = "quantization.quantize",
        Label = $"{m} x {n} pad={pad} {format} {layout} {scales}",
        Operands =
        [
            new("x", new Shape(m, n), Fill.Custom, PadColumns: pad, Initialize: fill, Activation: true),
            new("elements", ScaledTensor.ElementShape(new Shape(m, n), format), Fill.Poison, format, Compare: true),
            new("scales", ScaledTensor.ScaleShape(new Shape(m, n), layout), Fill.Poison, scales, Compare: true),
            new("y", new Shape(m, n), Fill.Poison, Compare: true, Activation: true),
            new("fault", new Shape(1), Fill.Custom, DType.I64, Compare: true, Initialize: NoFault),
        ],
        Run = (device, t) =>
        {
            var quantized = new ScaledTensor(t[1], t[2], layout);
            device.Quantization.Quantize(t[0], quantized, t[4], leastAmax: Least);
            device.Quantization.Dequantize(quantized, t[3]);
        },
        Tolerance = 0,
    };

    private static void NoFault(Tensor tensor, Random random) => tensor.AsSpan<long>()[0] = -1;

    private static void Zeros(Tensor tensor, Random random) => tensor.AsSpan<byte>().Clear();

    private static void Offsets(int[] counts, Tensor tensor)
    {
        Span<int> offsets = tensor.AsSpan<int>();
        for (int g = 0; g < counts.Length; g++) offsets[g + 1] = offsets[g] + counts[g];
    }

    private static byte[] Offsets(int[] counts)
    {
        Tensor tensor = HostMemory.Allocate(new Shape(counts.Length + 1), DType.I32);
        Offsets(counts, tensor);
        return System.Runtime.InteropServices.MemoryMarshal.AsBytes(tensor.AsSpan<int>()).ToArray();
    }

    private static byte[] Codes(int count)
    {
        byte[] codes = new byte[count];
        new Random(5).NextBytes(codes);
        return codes;
    }

    private static unsafe Tensor Upload(CudaDevice device, Shape shape, DType type, byte[] bytes)
    {
        Tensor host = HostMemory.Allocate(shape, type), tensor = device.Allocate(shape, type, MemoryKind.Workspace);
        bytes.CopyTo(new Span<byte>(host.Pointer<byte>(), bytes.Length));
        device.Upload(host, tensor);
        return tensor;
    }

    private static unsafe byte[] Download(CudaDevice device, Tensor tensor)
    {
        Tensor host = HostMemory.Allocate(tensor.Shape, tensor.DType);
        device.Download(tensor, host);
        return new ReadOnlySpan<byte>(host.Pointer<byte>(), (int)host.Bytes).ToArray();
    }

    private void Check(OperatorCase row)
    {
        CudaDevice device = gpu.Device();
        using var reference = new ReferenceDevice();
        foreach (BFloat16Activations rounded in row.Variants(device))
        {
            foreach (OperatorDifference difference in OperatorCheck.Run(row, device, reference, 11, rounded))
            {
                output.WriteLine(difference.ToString());
                Assert.True(difference.Holds, difference.ToString());
            }
        }
    }
}

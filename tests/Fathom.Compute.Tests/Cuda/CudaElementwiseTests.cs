// Element-wise operators on a GPU beyond the table: what returns a number, what bad indices do, the average that runs on a thread
// of its own, and that the same call gives the same bits.
using Fathom.Compute.Cpu;
using Fathom.Compute.Cuda;
using Fathom.Compute.Operators;
using Fathom.Compute.Table;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CudaElementwiseTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(1003)]
    [InlineData(3_000_000)]
    public void Sums_are_those_of_the_processor(long elements)
    {
        CudaDevice device = gpu.Device();
        Tensor host = Normal(new Shape(elements), 3), x = OnDevice(device, host);
        (double Sum, double Lost) plain = default, square = default;
        double magnitude = 0;
        foreach (float value in host.AsSpan<float>())
        {
            plain = AddExactly(plain, value);
            square = AddExactly(square, (double)value * value);
            magnitude += Math.Abs(value);
        }

        double sum = plain.Sum + plain.Lost, squares = square.Sum + square.Lost;
        double actual = device.Reduction.Sum(x), actualSquares = device.Reduction.SumOfSquares(x);
        output.WriteLine($"{elements} elements: sum {actual:R} for {sum:R}, squares {actualSquares:R} for {squares:R}");
        Assert.True(Math.Abs(actual - sum) <= 1e-14 * magnitude);
        Assert.True(Math.Abs(actualSquares - squares) <= 1e-13 * squares);
        Assert.Equal(actual, device.Reduction.Sum(x));
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void One_element_that_is_not_finite_is_found_wherever_it_is(DType type)
    {
        CudaDevice device = gpu.Device();
        foreach ((long rows, long columns, int pad) in ((long, long, int)[])[(1, 1, 0), (3, 17, 0), (5, 64, 8), (7, 1000, 3)])
        {
            Tensor wide = HostMemory.Allocate(new Shape(rows, columns + pad), type);
            for (long r = 0; r < rows && pad > 0; r++) Set(wide, r, columns, float.NaN); // between the rows: not looked at
            Assert.True(device.Reduction.AllFinite(OnDevice(device, wide).ColumnRange(0, columns)));
            foreach ((long row, long column) in ((long, long)[])[(0, 0), (rows - 1, columns - 1), (rows / 2, columns / 2)])
            {
                foreach (float bad in (float[])[float.NaN, float.PositiveInfinity, float.NegativeInfinity])
                {
                    Set(wide, row, column, bad);
                    Assert.False(device.Reduction.AllFinite(OnDevice(device, wide).ColumnRange(0, columns)), $"{bad} at [{row}, {column}] of [{rows}, {columns}]");
                    Set(wide, row, column, 3e38f);
                }
            }
        }
    }

    [Fact]
    public void Bad_indices_give_no_result_and_an_error_at_the_next_wait()
    {
        CudaDevice device = gpu.Device();
        Tensor table = OnDevice(device, Normal(new Shape(5, 8), 1)), ids = OnDevice(device, Integers(2, 5, 4)), y = device.Allocate(new Shape(3, 8), DType.F32, MemoryKind.Workspace);
        device.Embedding.Forward(ids, table, y);
        Assert.Equal("embedding: token id 5 at place 1 is outside the vocabulary of 5", Assert.Throws<ArgumentException>(device.Synchronize).Message);
        device.Synchronize(); // said once
        Tensor rows = ToHost(device, y);
        Assert.All(rows.Row<float>(1).ToArray(), value => Assert.True(float.IsNaN(value)));
        Assert.All(rows.Row<float>(2).ToArray(), value => Assert.True(float.IsFinite(value)));

        Tensor before = ToHost(device, table);
        device.Embedding.WeightGradient(OnDevice(device, Integers(-1, 7, -1)), OnDevice(device, Normal(new Shape(3, 8), 2)), table);
        Assert.StartsWith("embedding weight gradient: token id ", Assert.Throws<ArgumentException>(device.Synchronize).Message, StringComparison.Ordinal);
        Assert.Equal(before.AsSpan<float>(), ToHost(device, table).AsSpan<float>());

        Tensor cos = OnDevice(device, Normal(new Shape(4, 2), 3)), x = OnDevice(device, Normal(new Shape(2, 3, 6), 4));
        device.Rotary.Rotate(x, 2, cos, cos, OnDevice(device, Integers(3, 4)));
        Assert.Equal("rotary: position 4 of token 1 is outside the tables of 4 positions", Assert.Throws<ArgumentException>(device.Synchronize).Message);

        Tensor losses = device.Allocate(new Shape(2), DType.F32, MemoryKind.Workspace), logits = OnDevice(device, Normal(new Shape(2, 9), 5));
        device.Loss.CrossEntropy(logits, OnDevice(device, Integers(8, 9)), 1, losses, default);
        Assert.Equal("cross-entropy: target 9 of row 1 is outside the vocabulary of 9", Assert.Throws<ArgumentException>(() => ToHost(device, losses)).Message);
        float[] values = ToHost(device, losses).AsSpan<float>().ToArray();
        Assert.True(float.IsFinite(values[0]) && float.IsNaN(values[1]));

        Tensor cache = OnDevice(device, Normal(new Shape(2, 2, 12), 6)), latent = OnDevice(device, Normal(new Shape(1, 8), 7)), rope = OnDevice(device, Normal(new Shape(1, 4), 8));
        Tensor unchanged = ToHost(device, cache);
        device.Cache.Store(latent, rope, OnDevice(device, Integers(4)), cache);
        Assert.Equal("cache store: slot 4 of token 0 is outside the cache of 4 rows", Assert.Throws<ArgumentException>(device.Synchronize).Message);
        Assert.Equal(unchanged.AsSpan<float>(), ToHost(device, cache).AsSpan<float>());
        device.Cache.Load(cache, OnDevice(device, Integers(-1)), latent, rope);
        Assert.Equal("cache load: slot -1 of token 0 is outside the cache of 4 rows", Assert.Throws<ArgumentException>(device.Synchronize).Message);
        Assert.All(ToHost(device, latent).AsSpan<float>().ToArray(), value => Assert.True(float.IsNaN(value)));
    }

    /// <summary>More than two chunks, so that each buffer is used again, while the main stream is given other work.</summary>
    [Fact]
    public void The_average_is_the_processors_to_the_last_bit_beside_other_work()
    {
        CudaDevice device = gpu.Device();
        using var cpu = new CpuDevice(1);
        var shape = new Shape(2 * WeightAverage.ChunkElements + 1_234_567);
        Tensor weights = Uniform(shape, 1), average = Uniform(shape, 2), gradients = Uniform(shape, 3), expected = HostMemory.Allocate(shape, DType.F32);
        average.AsSpan<float>().CopyTo(expected.AsSpan<float>());
        Tensor first = HostMemory.Allocate(shape, DType.F32), second = HostMemory.Allocate(shape, DType.F32);
        Tensor there = OnDevice(device, weights), other = OnDevice(device, gradients), m = OnDevice(device, first), v = OnDevice(device, second);
        var step = new AdamWStep(1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 1, 1);
        for (int update = 0; update < 2; update++)
        {
            cpu.Optimizer.AdamW(weights, gradients, first, second, step);
            cpu.Optimizer.Average(expected, weights, 0.25f);
            device.Optimizer.AdamW(there, other, m, v, step);
            var thread = new Thread(() => device.Optimizer.Average(average, there, 0.25f));
            thread.Start();
            for (int i = 0; i < 3; i++) device.Reduction.Add(other, other, device.Allocate(shape, DType.F32, MemoryKind.Workspace));
            thread.Join();
        }

        int wrong = 0;
        for (int i = 0; i < shape.Elements; i++) wrong += expected.AsSpan<float>()[i].Equals(average.AsSpan<float>()[i]) ? 0 : 1;
        output.WriteLine($"{wrong} of {shape.Elements} elements differ");
        Assert.Equal(0, wrong);
    }

    [Fact]
    public void The_same_call_gives_the_same_bits()
    {
        CudaDevice device = gpu.Device();
        int compared = 0;
        string[] families = ["norm.weight_gradient", "embedding.weight_gradient", "loss.cross_entropy", "activation.swiglu_gradient"];
        foreach (OperatorCase row in OperatorTable.All().Where(c => c.Small && families.Contains(c.Name)))
        {
            Tensor[] first = row.Prepare(device, 5), second = row.Prepare(device, 5);
            row.Run(device, first);
            row.Run(device, second);
            for (int i = 0; i < first.Length; i++)
            {
                if (!row.Operands[i].Compare || row.Operands[i].PadColumns > 0) continue;
                compared++;
                Assert.True(Bytes(ToHost(device, first[i])).SequenceEqual(Bytes(ToHost(device, second[i]))), $"{row}, {row.Operands[i].Name}");
            }
        }

        output.WriteLine($"{compared} results compared");
        Assert.True(compared > 50);
    }

    // What a sum loses in rounding is kept beside it (Knuth's two-sum): three million terms one after another lose four digits.
    [Theory]
    [InlineData(3, 8, false)]
    [InlineData(70, 264, true)]
    [InlineData(5, 2048, true)]
    [InlineData(33, 128, false)]
    [InlineData(200, 392, false)]
    public void Swiglu_with_quantisation_is_its_composition(int rows, int columns, bool scaled)
    {
        CudaDevice device = gpu.Device();
        Assert.True(device.Traits.FusesSwiGluQuantization(DType.BF16, columns));
        Assert.False(device.Traits.FusesSwiGluQuantization(DType.BF16, columns + 1));
        Shape shape = new(rows, columns);
        Tensor gateHost = Normal(shape, 1);
        if (rows > 10)
        {
            Set(gateHost, 9, columns - 3, float.NaN);
            Set(gateHost, 12, 5, float.PositiveInfinity);
        }

        Tensor gate = Narrow(gateHost), up = Narrow(Normal(shape, 2)), dy = Narrow(Normal(shape, 3)), rowScale = scaled ? OnDevice(device, Uniform(new Shape(rows), 4)) : default;
        Tensor y = Values(), recalledGate = Values(), recalledUp = Values();
        device.Activation.SwiGlu(gate, up, rowScale, y);
        (ScaledTensor Codes, Tensor Fault)[] composed = [Codes(), Codes(), Codes()], fused = [Codes(), Codes(), Codes()];
        device.Quantization.Quantize(y, composed[0].Codes, composed[0].Fault);
        device.Quantization.Quantize(gate, composed[1].Codes, composed[1].Fault);
        device.Quantization.Quantize(up, composed[2].Codes, composed[2].Fault);
        device.Activation.SwiGluQuantized(
            gate, up, rowScale, new CodesTarget(fused[0].Codes, fused[0].Fault), new CodesTarget(fused[1].Codes, fused[1].Fault), new CodesTarget(fused[2].Codes, fused[2].Fault));
        for (int i = 0; i < 3; i++)
        {
            Same(composed[i].Codes.Elements, fused[i].Codes.Elements, $"codes {i}");
            Same(composed[i].Codes.Scales, fused[i].Codes.Scales, $"scales {i}");
            Same(composed[i].Fault, fused[i].Fault, $"fault {i}");
        }

        device.Quantization.Dequantize(fused[1].Codes, recalledGate);
        device.Quantization.Dequantize(fused[2].Codes, recalledUp);
        Tensor dgate = Values(), dup = Values(), drowScale = Vector(), y2 = Values(), dup2 = Values(), drowScale2 = Vector();
        device.Activation.SwiGlu(recalledGate, recalledUp, rowScale, y);
        device.Activation.SwiGluGradient(dy, recalledGate, recalledUp, rowScale, dgate, dup, drowScale);
        device.Activation.SwiGluGradientQuantized(dy, fused[1].Codes, fused[2].Codes, rowScale, dy, dup2, drowScale2, y2);
        Same(y, y2, "result");
        Same(dgate, dy, "gradient of gate");
        Same(dup, dup2, "gradient of up");
        // Not the bits of a sum that is no number: which of two such numbers is handed on is the chip's choice.
        if (scaled) Assert.True(ToHost(device, drowScale).AsSpan<float>().SequenceEqual(ToHost(device, drowScale2).AsSpan<float>()), $"gradient of the scale of {rows} x {columns}");
        if (!scaled) OperandsAreThoseOfTheComposition();
        output.WriteLine($"{rows} x {columns}: 3 x {rows * columns} codes, {rows * columns} results and gradients the same");

        void OperandsAreThoseOfTheComposition()
        {
            const float Least = 1e-30f;
            Tensor again = Narrow(Normal(shape, 3));
            GradientTarget[] composed = [Target(), Target(), Target()], operands = [Target(), Target(), Target()];
            device.Quantization.Quantize(dgate, composed[0].OfRows.Codes, composed[0].OfRows.Fault, leastAmax: Least);
            device.Quantization.QuantizeTransposed(dgate, composed[0].OverRows.Codes, composed[0].OverRows.Fault, leastAmax: Least);
            device.Quantization.QuantizeBothWays(dup, composed[1], leastAmax: Least);
            device.Quantization.QuantizeTransposed(y, composed[2].OverRows.Codes, composed[2].OverRows.Fault);
            device.Activation.SwiGluGradientOperands(again, fused[1].Codes, fused[2].Codes, operands[0], operands[1], operands[2].OverRows, Least);
            for (int i = 0; i < 3; i++)
            {
                if (i < 2) SameCodes(composed[i].OfRows, operands[i].OfRows, $"of rows, operand {i}");
                SameCodes(composed[i].OverRows, operands[i].OverRows, $"over rows, operand {i}");
            }
        }

        GradientTarget Target()
        {
            (ScaledTensor codes, Tensor fault) = Codes();
            long tiles = ScaledTensor.Tiles(rows);
            Tensor turned = device.Allocate(new Shape(columns, tiles * ScaledTensor.TileSize), DType.F8E4M3, MemoryKind.Workspace);
            Tensor scales = device.Allocate(new Shape(tiles, columns), DType.F32, MemoryKind.Workspace);
            return new GradientTarget(new(codes, fault), new(new ScaledTensor(turned, scales, ScaleLayout.TransposedColumnTile), NoFault()));
        }

        void SameCodes(in CodesTarget expected, in CodesTarget actual, string what)
        {
            Same(expected.Codes.Elements, actual.Codes.Elements, $"codes {what}");
            Same(expected.Codes.Scales, actual.Codes.Scales, $"scales {what}");
            Same(expected.Fault, actual.Fault, $"fault {what}");
        }

        Tensor Values() => device.Allocate(shape, DType.BF16, MemoryKind.Workspace);
        Tensor Vector() => scaled ? device.Allocate(new Shape(rows), DType.F32, MemoryKind.Workspace) : default;
        Tensor Narrow(Tensor host)
        {
            Tensor narrow = Values();
            device.Reduction.Convert(OnDevice(device, host), narrow);
            return narrow;
        }

        (ScaledTensor, Tensor) Codes() => (
            new ScaledTensor(device.Allocate(shape, DType.F8E4M3, MemoryKind.Workspace), device.Allocate(ScaledTensor.ScaleShape(shape, ScaleLayout.RowTile), DType.F32, MemoryKind.Workspace), ScaleLayout.RowTile),
            NoFault());
        Tensor NoFault()
        {
            Tensor host = HostMemory.Allocate(new Shape(1), DType.I64);
            host.AsSpan<long>()[0] = -1;
            return OnDevice(device, host);
        }

        void Same(Tensor expected, Tensor actual, string what)
        {
            ReadOnlySpan<byte> left = Bytes(ToHost(device, expected)), right = Bytes(ToHost(device, actual));
            Assert.True(left.SequenceEqual(right), $"{what} of {rows} x {columns}: byte {left.CommonPrefixLength(right)} differs");
        }
    }

    private static (double Sum, double Lost) AddExactly((double Sum, double Lost) to, double term)
    {
        double sum = to.Sum + term, added = sum - to.Sum;
        return (sum, to.Lost + (to.Sum - (sum - added)) + (term - added));
    }

    private static unsafe ReadOnlySpan<byte> Bytes(Tensor host) => new(host.Pointer<byte>(), (int)host.Bytes);

    private static Tensor OnDevice(CudaDevice device, Tensor host)
    {
        Tensor tensor = device.Allocate(host.Shape, host.DType, MemoryKind.Workspace);
        device.Upload(host, tensor);
        return tensor;
    }

    private static Tensor ToHost(CudaDevice device, Tensor tensor)
    {
        Tensor host = HostMemory.Allocate(tensor.Shape, tensor.DType);
        device.Download(tensor, host);
        return host;
    }

    private static Tensor Normal(Shape shape, int seed) => Filled(shape, new Random(seed), OperatorCase.Normal);

    private static Tensor Uniform(Shape shape, int seed) => Filled(shape, new Random(seed), random => random.NextSingle() - 0.5f);

    private static Tensor Filled(Shape shape, Random random, Func<Random, float> value)
    {
        Tensor host = HostMemory.Allocate(shape, DType.F32);
        foreach (ref float element in host.AsSpan<float>()) element = value(random);
        return host;
    }

    private static Tensor Integers(params int[] values)
    {
        Tensor host = HostMemory.Allocate(new Shape(values.Length), DType.I32);
        values.CopyTo(host.AsSpan<int>());
        return host;
    }

    private static void Set(Tensor tensor, long row, long column, float value)
    {
        if (tensor.DType == DType.F32) tensor.Row<float>(row)[(int)column] = value;
        else tensor.Row<ushort>(row)[(int)column] = ((BFloat16)value).Bits;
    }
}

// Causal attention by wgmma against the reference, also where the heuristic would take smaller tiles: one query, sequences that end beside and
// within tiles, fewer queries than keys, several sequences and heads, padded rows. Waits inside of the kernels are bounded, so that a mistake
// is a message and not a hang. Rows are compared by norm: late queries, whose results are small, count as much as early ones. Weights and
// their gradients are rounded to BF16 before they are multiplied, results when they are stored.
using System.Globalization;
using Fathom.Compute.Cuda;
using Fathom.Compute.Cuda.Hopper;
using Fathom.Compute.Operators;
using Fathom.Compute.Reference;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class HopperAttentionTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    private const int Nope = HopperAttentionPlan.Nope, Rope = HopperAttentionPlan.Rope, Value = HopperAttentionPlan.Value;
    private const double ForwardTolerance = 1.0 / 200, GradientTolerance = 1.0 / 100, LogSumExpTolerance = 1e-6;

    /// <summary>Of the largest row: what is added to a row's norm, since gradients that cancel keep the errors of what they are made of.</summary>
    private const double SmallRow = 0.02;

    private const float Scale = 0.0721687f, Poison = float.NaN;

    /// <summary>Sequences, queries, keys, heads, padding of rows.</summary>
    public static TheoryData<int, int, int, int, int> Shapes() => new()
    {
        { 1, 1, 1, 1, 0 }, { 1, 2, 2, 3, 8 }, { 2, 63, 63, 2, 0 }, { 1, 64, 64, 1, 0 }, { 2, 65, 65, 3, 8 }, { 1, 128, 128, 1, 0 }, { 2, 130, 130, 2, 8 },
        { 3, 192, 192, 1, 0 }, { 1, 257, 257, 5, 0 }, { 1, 512, 512, 1, 0 }, { 1, 1, 200, 2, 0 }, { 2, 70, 200, 2, 8 }, { 1, 129, 300, 1, 0 }, { 2, 64, 257, 1, 0 }, { 1, 200, 201, 1, 0 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Agrees_with_the_reference(int batch, int queries, int keys, int heads, int pad)
    {
        CudaDevice device = gpu.Device();
        if (device.Context.Capability != 90) Assert.Skip($"{device.Name} is no GPU of compute capability 9.0");
        using var reference = new ReferenceDevice();
        var attention = new HopperAttention(device.Context, bounded: true);
        var sizes = new CausalSizes(batch, heads, queries, keys, Nope, Rope, Value);
        Operand q = Random(device, new Shape(batch * queries, heads, Nope + Rope), 1, pad), kv = Random(device, new Shape(batch * keys, heads, Nope + Value), 2, pad);
        Operand kRope = Random(device, new Shape(batch * keys, Rope), 3, pad), y = Empty(device, new Shape(batch * queries, heads, Value), pad);
        Operand logSumExp = Empty(device, new Shape(batch, heads, queries), 0, DType.F32);
        attention.Forward(sizes, q.Device, kv.Device, kRope.Device, Scale, y.Device, logSumExp.Device);
        reference.Attention.CausalForward(q.Host, kv.Host, kRope.Host, Scale, batch, y.Host, logSumExp.Host);
        Check(device, y, ForwardTolerance, "output");
        Check(device, logSumExp, LogSumExpTolerance, "logSumExp");
        if (keys != queries || queries == 1) return; // with one key the gradients of the scores are zero

        // The gradient of the rounded output, as the device has it.
        Tensor rounded = HostMemory.Allocate(y.Padded.Shape, DType.BF16);
        device.Download(y.Padded, rounded);
        for (long r = 0; r < rounded.Rows; r++)
        {
            for (int c = 0; c < Value; c++) y.Host.Row<float>(r)[c] = Number(rounded, r, c);
        }

        Operand dy = Random(device, new Shape(batch * queries, heads, Value), 4, pad), dq = Empty(device, q.Host.Shape, pad), dkv = Empty(device, kv.Host.Shape, pad);
        Operand dkRope = Empty(device, kRope.Host.Shape, pad);
        attention.Backward(sizes, q.Device, kv.Device, kRope.Device, y.Device, logSumExp.Device, dy.Device, Scale, dq.Device, dkv.Device, dkRope.Device);
        reference.Attention.CausalBackward(q.Host, kv.Host, kRope.Host, y.Host, logSumExp.Host, dy.Host, Scale, batch, dq.Host, dkv.Host, dkRope.Host);
        Check(device, dq, GradientTolerance, "dq");
        Check(device, dkv, GradientTolerance, "dkv");
        Check(device, dkRope, GradientTolerance, "dkRope");
    }

    /// <summary>Rows of codes apart and not, scales of many sizes, tiles of queries that end within; by the class of kernels alone and by the operator.</summary>
    [Theory]
    [InlineData(1, 1, 1, 0)]
    [InlineData(2, 63, 3, 8)]
    [InlineData(1, 65, 2, 0)]
    [InlineData(2, 130, 3, 4)]
    public void Codes_of_the_output_give_the_bits_of_their_values(int batch, int tokens, int heads, int pad)
    {
        CudaDevice device = gpu.Device();
        if (device.Context.Capability != 90) Assert.Skip($"{device.Name} is no GPU of compute capability 9.0");
        var kernels = new HopperAttention(device.Context, bounded: true);
        var sizes = new CausalSizes(batch, heads, tokens, tokens, Nope, Rope, Value);
        Shape shape = new(batch * tokens, heads, Value);
        Tensor q = Random(device, new Shape(batch * tokens, heads, Nope + Rope), 1, 0).Device, kv = Random(device, new Shape(batch * tokens, heads, Nope + Value), 2, 0).Device;
        Tensor kRope = Random(device, new Shape(batch * tokens, Rope), 3, 0).Device, dy = Random(device, shape, 4, 0).Device;
        Tensor y = Empty(device, shape, 0).Device, logSumExp = Empty(device, new Shape(batch, heads, tokens), 0, DType.F32).Device;
        kernels.Forward(sizes, q, kv, kRope, Scale, y, logSumExp);
        var random = new Random(5);
        int number = 0;
        float size = 1;
        Tensor values = Make(device, shape, 0, DType.F32, () =>
        {
            if (number++ % Value == 0) size = MathF.ScaleB(1, random.Next(-12, 4));
            return size * (float)(random.NextDouble() - 0.5);
        }).Device;
        ScaledTensor codes = Codes(DType.F8E8M0);
        device.Quantization.Quantize(values, codes);
        device.Quantization.Dequantize(codes, y);

        bool isTaken = device.Traits.ReadsAttentionCodes(DType.BF16, OperandTraits.Of(codes), sizes, 0);
        Assert.Equal(tokens >= HopperAttentionPlan.LeastQueries, isTaken);
        foreach (bool byOperator in (bool[])[false, true])
        {
            if (byOperator && !isTaken)
            {
                Assert.Contains("output is E5M6", Assert.Throws<NotSupportedException>(() => Backward(codes, true)).Message, StringComparison.Ordinal);
                continue;
            }

            ushort[] expected = Backward(y, byOperator), actual = Backward(codes, byOperator);
            int same = expected.AsSpan().CommonPrefixLength(actual);
            Assert.DoesNotContain(expected, bits => (bits & 0x7fff) >= 0x7f80);
            output.WriteLine($"{(byOperator ? "operator" : "kernels")}: {same} gradients of {expected.Length} the same");
            Assert.Equal(expected.Length, same);
        }

        ScaledTensor singles = Codes(DType.F32), within = new(OffWords(), codes.Scales, ScaleLayout.RowTile);
        Assert.False(device.Traits.ReadsAttentionCodes(DType.BF16, OperandTraits.Of(singles), sizes, 0));
        foreach (ScaledTensor others in (ScaledTensor[])[singles, within]) Assert.Throws<NotSupportedException>(() => Backward(others, true));
        Assert.Contains("expected BF16 or codes in 1x128 tiles", Assert.Throws<ArgumentException>(() => Backward(codes.Slice(0, 0), true)).Message, StringComparison.Ordinal);

        ushort[] Backward(ScaledTensor result, bool byOperator)
        {
            Tensor dq = Empty(device, q.Shape, 0).Device, dkv = Empty(device, kv.Shape, 0).Device, dkRope = Empty(device, kRope.Shape, 0).Device;
            if (byOperator) device.Attention.CausalBackward(q, kv, kRope, result, logSumExp, dy, Scale, batch, dq, dkv, dkRope);
            else kernels.Backward(sizes, q, kv, kRope, result, logSumExp, dy, Scale, dq, dkv, dkRope);
            return [.. device.Read<ushort>(dq), .. device.Read<ushort>(dkv), .. device.Read<ushort>(dkRope)];
        }

        ScaledTensor Codes(DType scales)
        {
            Tensor elements = device.Allocate(new Shape(shape[0], heads, Value / 2 + pad), DType.E5M6Pair, MemoryKind.Workspace).ColumnRange(0, Value / 2);
            return new ScaledTensor(elements, device.Allocate(new Shape(shape[0], heads, 1 + pad), scales, MemoryKind.Workspace).ColumnRange(0, 1), ScaleLayout.RowTile);
        }

        Tensor OffWords() => device.Allocate(new Shape(shape[0], heads, Value / 2 + 1), DType.E5M6Pair, MemoryKind.Workspace).ColumnRange(1, Value / 2);
    }

    /// <summary>dQ and the rotary keys' gradient are sums over blocks: in one order, run after run, however many heads have memory for theirs.</summary>
    [Theory]
    [InlineData(1, 100, 3)]
    [InlineData(1, 450, 4)]
    [InlineData(2, 300, 3)]
    public void Sums_over_blocks_have_one_order(int batch, int tokens, int heads)
    {
        CudaDevice device = gpu.Device();
        if (device.Context.Capability != 90) Assert.Skip($"{device.Name} is no GPU of compute capability 9.0");
        var sizes = new CausalSizes(batch, heads, tokens, tokens, Nope, Rope, Value);
        Tensor q = Random(device, new Shape(batch * tokens, heads, Nope + Rope), 1, 0).Device, kv = Random(device, new Shape(batch * tokens, heads, Nope + Value), 2, 0).Device;
        Tensor kRope = Random(device, new Shape(batch * tokens, Rope), 3, 0).Device, dy = Random(device, new Shape(batch * tokens, heads, Value), 4, 0).Device;
        Tensor y = Empty(device, dy.Shape, 0).Device, logSumExp = Empty(device, new Shape(batch, heads, tokens), 0, DType.F32).Device;
        new HopperAttention(device.Context, bounded: true).Forward(sizes, q, kv, kRope, Scale, y, logSumExp);
        ushort[] expected = Backward(null);
        Assert.DoesNotContain(expected, bits => (bits & 0x7fff) >= 0x7f80);
        foreach (int? slots in (int?[])[null, 1, 2, batch * heads + 1])
        {
            int same = expected.AsSpan().CommonPrefixLength(Backward(slots));
            output.WriteLine($"{slots} heads at a time: {same} gradients of {expected.Length} the same");
            Assert.Equal(expected.Length, same);
        }

        ushort[] Backward(int? slots)
        {
            Tensor dq = Empty(device, q.Shape, 0).Device, dkv = Empty(device, kv.Shape, 0).Device, dkRope = Empty(device, kRope.Shape, 0).Device;
            new HopperAttention(device.Context, bounded: true, slots).Backward(sizes, q, kv, kRope, y, logSumExp, dy, Scale, dq, dkv, dkRope);
            return [.. device.Read<ushort>(dq), .. device.Read<ushort>(dkv), .. device.Read<ushort>(dkRope)];
        }
    }

    /// <summary>The same values on both sides; on the device in rows that are padded.</summary>
    private sealed record Operand(Tensor Host, Tensor Device, Tensor Padded);

    private static Operand Random(CudaDevice device, Shape shape, int seed, int pad)
    {
        var random = new Random(seed);
        return Make(device, shape, pad, DType.BF16, () => (BFloat16)(float)(2 * (random.NextDouble() + random.NextDouble() + random.NextDouble() - 1.5)));
    }

    private static Operand Empty(CudaDevice device, Shape shape, int pad, DType type = DType.BF16) => Make(device, shape, pad, type, () => Poison);

    private static Operand Make(CudaDevice device, Shape shape, int pad, DType type, Func<float> next)
    {
        Tensor host = HostMemory.Allocate(shape, DType.F32), rows = HostMemory.Allocate(shape.Rank == 2 ? new Shape(shape[0], shape[1] + pad) : new Shape(shape[0], shape[1], shape[2] + pad), type);
        for (long r = 0; r < shape.Rows; r++)
        {
            for (int c = 0; c < shape.Columns + pad; c++)
            {
                float value = c < shape.Columns ? next() : Poison;
                if (c < shape.Columns) host.Row<float>(r)[c] = value;
                if (type == DType.F32) rows.Row<float>(r)[c] = value;
                else rows.Row<ushort>(r)[c] = ((BFloat16)value).Bits;
            }
        }

        Tensor padded = device.Allocate(rows.Shape, type, MemoryKind.Workspace);
        device.Upload(rows, padded);
        return new Operand(host, padded.ColumnRange(0, shape.Columns), padded);
    }

    private void Check(CudaDevice device, Operand result, double tolerance, string what)
    {
        Tensor rows = HostMemory.Allocate(result.Padded.Shape, result.Padded.DType);
        device.Download(result.Padded, rows);
        double worst = 0, largestRow = 0;
        long where = 0;
        double[] sizes = new double[rows.Rows], differences = new double[rows.Rows];
        for (long r = 0; r < rows.Rows; r++)
        {
            for (int c = 0; c < rows.Columns; c++)
            {
                float actual = Number(rows, r, c);
                if (c >= result.Host.Columns)
                {
                    Assert.True(float.IsNaN(actual), $"{what}[{r}, {c}] lies between rows and was overwritten");
                    continue;
                }

                double expected = result.Host.Row<float>(r)[c];
                sizes[r] += expected * expected;
                differences[r] += float.IsFinite(actual) ? (actual - expected) * (actual - expected) : double.PositiveInfinity;
            }

            largestRow = Math.Max(largestRow, Math.Sqrt(sizes[r]));
        }

        for (long r = 0; r < rows.Rows; r++)
        {
            double difference = Math.Sqrt(differences[r]) / (Math.Sqrt(sizes[r]) + SmallRow * largestRow);
            if (difference > worst) (worst, where) = (difference, r);
        }

        string line = string.Create(CultureInfo.InvariantCulture,
            $"{what}: row {where} differs most, by {worst:E2} of its norm {Math.Sqrt(sizes[where]):E2} (largest {largestRow:E2}); allowed {tolerance:E2}");
        output.WriteLine(line);
        Assert.True(worst <= tolerance, line);
    }

    private static float Number(Tensor tensor, long row, int column) =>
        tensor.DType == DType.F32 ? tensor.Row<float>(row)[column] : BitConverter.UInt32BitsToSingle((uint)tensor.Row<ushort>(row)[column] << 16);
}

// Hopper's own products against plain sums in F64, at shapes with edges everywhere, through every tile the kernels are made for. Half of the
// operands are small integers with scales that are powers of two: their sums are exact in any order and in the tensor cores' few bits, so
// the results must agree to the bit. On the emulator of a GPU this proves the indexing; on the chip the instructions too. Waits inside
// of the kernels are bounded here, so that a mistake is a message and not a hang.
using System.Globalization;
using Fathom.Compute.Cuda;
using Fathom.Compute.Cuda.Hopper;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class HopperGemmTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    private const int Tile = ScaledTensor.TileSize;

    /// <summary>Sums of 14 bits over 128 products, and their order, relative to the largest result.</summary>
    private const double Fp8Tolerance = 2e-3;

    /// <summary>Sums in F32 accumulators that truncate.</summary>
    private const double BFloat16Tolerance = 2e-5;

    public static TheoryData<int, int, int, int> Shapes() => new()
    {
        { 1, 8, 16, 0 }, { 3, 40, 144, 0 }, { 64, 128, 128, 0 }, { 65, 136, 272, 16 }, { 300, 264, 400, 32 }, { 513, 200, 1040, 0 }, { 130, 392, 128, 16 },
    };

    public static TheoryData<int[], int, int, int> Groups() => new()
    {
        { [3], 0, 24, 32 }, { [0, 0], 2, 16, 16 }, { [1, 0, 17, 40, 16], 3, 144, 144 }, { [257, 0, 130, 64, 1], 0, 208, 272 },
        { [0, 0, 0, 61], 5, 264, 528 }, { [128, 128, 128], 0, 128, 128 }, { [5, 300, 2], 1, 72, 48 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Rows_times_fp8_weights(int m, int n, int k, int pad)
    {
        HopperLinear linear = Open(out CudaDevice device);
        foreach (HopperTile tile in HopperTile.Fp8Rows)
        {
            linear.Forced = tile;
            foreach ((DType type, bool accumulate, bool exact) in Outputs())
            {
                Operand x = Quantized(device, m, k, ScaleLayout.RowTile, exact, 1, pad), w = Quantized(device, n, k, ScaleLayout.Block, exact, 2, pad), y = Result(device, m, n, type, pad / 2);
                Assert.True(linear.Forward(x.Scaled, w.Scaled, y.Device, accumulate));
                Check(device, y, Product(x, w, m, n, k, accumulate ? y.Values : null), exact ? 0 : Fp8Tolerance, $"fp8 forward {m}x{n}x{k} {type} {tile}");

                if (accumulate && type == DType.BF16)
                {
                    Operand added = Result(device, m, n, type, pad), sum = Result(device, m, n, type, pad / 2);
                    Assert.True(linear.ForwardAdded(x.Scaled, w.Scaled, added.Device, sum.Device));
                    Check(device, sum, Product(x, w, m, n, k, added.Values), exact ? 0 : Fp8Tolerance, $"fp8 forward {m}x{n}x{k} added to another, {tile}");
                    Check(device, added, added.Values, 0, "what was added");
                }

                Operand dy = Quantized(device, m, k, ScaleLayout.RowTile, exact, 3, pad), across = Quantized(device, k, n, ScaleLayout.Block, exact, 4, 0);
                var transposes = new HopperTransposes((CudaQuantization)device.Quantization, shape => device.Allocate(shape, DType.F8E4M3, MemoryKind.Workspace));
                Operand dx = Result(device, m, n, type, pad / 2);
                Assert.True(linear.InputGradient(dy.Scaled, across.Scaled, transposes.Of(across.Scaled), dx.Device, accumulate));
                Check(device, dx, Product(dy, across.Transposed(), m, n, k, accumulate ? dx.Values : null), exact ? 0 : Fp8Tolerance, $"fp8 input gradient {m}x{n}x{k} {type} {tile}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Fp8_weight_gradients(int m, int n, int k, int pad)
    {
        HopperLinear linear = Open(out CudaDevice device);
        foreach (HopperTile tile in HopperTile.Fp8Weights)
        {
            linear.Forced = tile;
            foreach ((bool accumulate, bool exact) in new[] { (true, true), (false, true), (true, false), (false, false) })
            {
                Operand dy = Quantized(device, m, n, ScaleLayout.ColumnTile, exact, 1, pad), x = Quantized(device, m, k, ScaleLayout.ColumnTile, exact, 2, pad), dw = Result(device, n, k, DType.F32, 0);
                Assert.True(linear.WeightGradient(Turned(device, dy, null), Turned(device, x, null), dw.Device, accumulate));
                Check(device, dw, Product(dy.Transposed(), x.Transposed(), n, k, m, accumulate ? dw.Values : null), exact ? 0 : Fp8Tolerance, $"fp8 weight gradient {m}x{n}x{k} {tile}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Bf16_products(int m, int n, int k, int pad)
    {
        HopperLinear linear = Open(out CudaDevice device);
        foreach (HopperTile tile in HopperTile.BFloat16)
        {
            linear.Forced = tile;
            foreach ((DType type, bool accumulate, bool exact) in Outputs())
            {
                double bound = exact ? 0 : BFloat16Tolerance;
                Operand x = Plain(device, m, k, exact, 1, pad), w = Plain(device, n, k, exact, 2, pad), y = Result(device, m, n, type, pad / 2);
                Assert.True(linear.Forward(x.Scaled, w.Scaled, y.Device, accumulate));
                Check(device, y, Product(x, w, m, n, k, accumulate ? y.Values : null), bound, $"bf16 forward {m}x{n}x{k} {type} {tile}");

                Operand across = Plain(device, k, n, exact, 3, pad), dx = Result(device, m, n, type, pad / 2);
                Assert.True(linear.InputGradient(x.Scaled, across.Scaled, default, dx.Device, accumulate));
                Check(device, dx, Product(x, across.Transposed(), m, n, k, accumulate ? dx.Values : null), bound, $"bf16 input gradient {m}x{n}x{k} {type} {tile}");
                if (type != DType.F32) continue;

                Operand dy = Plain(device, m, n, exact, 4, pad), dw = Result(device, n, k, DType.F32, 0);
                Assert.True(linear.WeightGradient(dy.Scaled, x.Scaled, dw.Device, accumulate));
                Check(device, dw, Product(dy.Transposed(), x.Transposed(), n, k, m, accumulate ? dw.Values : null), bound, $"bf16 weight gradient {m}x{n}x{k} {tile}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Groups))]
    public void Ragged_groups(int[] counts, int left, int n, int k)
    {
        HopperLinear linear = Open(out CudaDevice device);
        int groups = counts.Length, s = counts.Sum() + left;
        int[] offsets = [.. Enumerable.Range(0, groups + 1).Select(e => counts.Take(e).Sum())];
        Tensor rowOffsets = Upload(device, offsets, DType.I32, new Shape(groups + 1));
        foreach (bool exact in (bool[])[true, false])
        {
            foreach (HopperTile tile in HopperTile.Fp8Rows)
            {
                linear.Forced = tile;
                Operand x = Quantized(device, s, k, ScaleLayout.RowTile, exact, 1, 0), y = Result(device, s, n, DType.BF16, 0);
                Operand w = Quantized(device, groups * n, k, ScaleLayout.Block, exact, 2, 0, groups);
                Assert.True(linear.GroupedForward(x.Scaled, rowOffsets, new ExpertWeights(w.Scaled), y.Device));
                Check(device, y, GroupedRows(x, w, offsets, n, y.Values, false), exact ? 0 : Fp8Tolerance, $"fp8 grouped forward {string.Join(',', counts)} {n}x{k} {tile}");

                // [E, N, K] with N as the sum: dy has the N of the weights as its columns.
                if (n % 16 != 0) continue;
                Operand dy = Quantized(device, s, n, ScaleLayout.RowTile, exact, 3, 0);
                var experts = new ExpertWeights(w.Scaled);
                var transposes = new HopperTransposes((CudaQuantization)device.Quantization, shape => device.Allocate(shape, DType.F8E4M3, MemoryKind.Workspace));
                foreach (DType type in (DType[])[DType.F32, DType.BF16])
                {
                    Operand dx = Result(device, s, k, type, 0);
                    Assert.True(linear.GroupedInputGradient(dy.Scaled, rowOffsets, experts, transposes.Of(experts), dx.Device, true));
                    Check(device, dx, GroupedRows(dy, w.Transposed(groups), offsets, k, dx.Values, true), exact ? 0 : Fp8Tolerance, $"fp8 grouped input gradient {string.Join(',', counts)} {n}x{k} {type} {tile}");
                }
            }

            foreach (HopperTile tile in HopperTile.Fp8Weights)
            {
                linear.Forced = tile;
                Operand dy = Quantized(device, s, n, ScaleLayout.ColumnTile, exact, 4, 0, 0, offsets), x = Quantized(device, s, k, ScaleLayout.ColumnTile, exact, 5, 0, 0, offsets);
                foreach (bool accumulate in (bool[])[false, true])
                {
                    Operand dw = Result(device, groups * n, k, DType.F32, 0);
                    Assert.True(linear.GroupedWeightGradient(Turned(device, dy, offsets), Turned(device, x, offsets), rowOffsets, dw.Device.Reshape(new Shape(groups, n, k)), accumulate));
                    double[] before = accumulate ? dw.Values : new double[dw.Values.Length];
                    Check(device, dw, GroupedWeights(dy, x, offsets, before), exact ? 0 : Fp8Tolerance, $"fp8 grouped weight gradient {string.Join(',', counts)} {n}x{k} {tile} accumulate={accumulate}");
                }
            }

            foreach (HopperTile tile in HopperTile.BFloat16)
            {
                linear.Forced = tile;
                double bound = exact ? 0 : BFloat16Tolerance;
                Operand x = Plain(device, s, k, exact, 6, 0), w = Plain(device, groups * n, k, exact, 7, 0, groups), y = Result(device, s, n, DType.BF16, 0);
                var experts = new ExpertWeights(w.Scaled);
                Assert.True(linear.GroupedForward(x.Scaled, rowOffsets, experts, y.Device));
                Check(device, y, GroupedRows(x, w, offsets, n, y.Values, false), bound, $"bf16 grouped forward {string.Join(',', counts)} {n}x{k} {tile}");
                Operand dy = Plain(device, s, n, exact, 8, 0), dx = Result(device, s, k, DType.BF16, 0);
                Assert.True(linear.GroupedInputGradient(dy.Scaled, rowOffsets, experts, default, dx.Device, true));
                Check(device, dx, GroupedRows(dy, w.Transposed(groups), offsets, k, dx.Values, true), bound, $"bf16 grouped input gradient {string.Join(',', counts)} {n}x{k} {tile}");
                foreach (bool accumulate in (bool[])[false, true])
                {
                    Operand dw = Result(device, groups * n, k, DType.F32, 0);
                    Assert.True(linear.GroupedWeightGradient(dy.Scaled, x.Scaled, rowOffsets, dw.Device.Reshape(new Shape(groups, n, k)), accumulate));
                    double[] before = accumulate ? dw.Values : new double[dw.Values.Length];
                    Check(device, dw, GroupedWeights(dy, x, offsets, before), bound, $"bf16 grouped weight gradient {string.Join(',', counts)} {n}x{k} {tile} accumulate={accumulate}");
                }
            }
        }
    }

    [Fact]
    public void A_changed_weight_is_transposed_anew()
    {
        const int Rows = 48, Columns = 160;
        HopperLinear linear = Open(out CudaDevice device);
        int made = 0;
        var transposes = new HopperTransposes((CudaQuantization)device.Quantization, shape =>
        {
            made++;
            return device.Allocate(shape, DType.F8E4M3, MemoryKind.Workspace);
        });
        Tensor weight = device.Allocate(new Shape(Rows, Columns), DType.F8E4M3, MemoryKind.Workspace);
        byte[] first = Fill(1);
        Assert.Equal(Turned(first), Transposed());
        byte[] second = Fill(2);
        Assert.Equal(Turned(first), Transposed());
        transposes.Changed(weight.Slice(3, 1));
        Assert.Equal(Turned(second), Transposed());
        Assert.Equal(1, made);

        byte[] Fill(int seed)
        {
            byte[] codes = new byte[Rows * Columns];
            new Random(seed).NextBytes(codes);
            device.Upload(Host(codes), weight);
            return codes;
        }

        byte[] Transposed()
        {
            Tensor host = Host(new byte[Rows * Columns]).Reshape(new Shape(Columns, Rows));
            device.Download(transposes.Of(weight), host);
            return host.AsSpan<byte>().ToArray();
        }

        static byte[] Turned(byte[] codes) => [.. Enumerable.Range(0, codes.Length).Select(i => codes[i % Rows * Columns + i / Rows])];

        static Tensor Host(byte[] codes)
        {
            Tensor host = HostMemory.Allocate(new Shape(Rows, Columns), DType.F8E4M3);
            codes.CopyTo(host.AsSpan<byte>());
            return host;
        }
    }

    private HopperLinear Open(out CudaDevice device)
    {
        device = gpu.Device();
        if (!HopperLinear.IsSupported(device.Context)) Assert.Skip($"{device.Name} has not compute capability 9.0");
        return new HopperLinear(device.Context, bounded: true);
    }

    private static (DType Type, bool Accumulate, bool Exact)[] Outputs() =>
        [(DType.BF16, false, true), (DType.BF16, true, true), (DType.F32, false, true), (DType.F32, true, true), (DType.BF16, false, false), (DType.F32, false, false)];

    /// <summary>D[m, n] = start + sum over k of left[m, k] right[n, k].</summary>
    private static double[] Product(Operand left, Operand right, int m, int n, int k, double[]? start)
    {
        double[] d = start is null ? new double[m * n] : [.. start];
        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < n; j++) d[i * n + j] += Dot(left.Values.AsSpan(i * k, k), right.Values.AsSpan(j * k, k));
        }

        return d;
    }

    private static double[] GroupedRows(Operand rows, Operand weights, int[] offsets, int n, double[] start, bool accumulate)
    {
        double[] d = [.. start];
        int k = rows.Columns;
        for (int e = 0; e + 1 < offsets.Length; e++)
        {
            for (int i = offsets[e]; i < offsets[e + 1]; i++)
            {
                for (int j = 0; j < n; j++)
                    d[i * n + j] = (accumulate ? d[i * n + j] : 0) + Dot(rows.Values.AsSpan(i * k, k), weights.Values.AsSpan((e * n + j) * k, k));
            }
        }

        return d;
    }

    private static double[] GroupedWeights(Operand dy, Operand x, int[] offsets, double[] start)
    {
        double[] d = [.. start];
        int n = dy.Columns, k = x.Columns;
        for (int e = 0; e + 1 < offsets.Length; e++)
        {
            for (int i = offsets[e]; i < offsets[e + 1]; i++)
            {
                for (int r = 0; r < n; r++)
                {
                    double left = dy.Values[i * n + r];
                    for (int c = 0; c < k; c++) d[(e * n + r) * k + c] += left * x.Values[i * k + c];
                }
            }
        }

        return d;
    }

    private static double Dot(ReadOnlySpan<double> x, ReadOnlySpan<double> y)
    {
        double sum = 0;
        for (int i = 0; i < x.Length; i++) sum += x[i] * y[i];
        return sum;
    }

    private void Check(CudaDevice device, Operand d, double[] expected, double tolerance, string what)
    {
        Tensor parent = d.Parent;
        Tensor host = HostMemory.Allocate(parent.Shape, parent.DType);
        device.Download(parent, host);
        double largest = expected.Max(Math.Abs), worst = 0;
        int at = -1, stride = (int)parent.Columns;
        for (int i = 0; i < expected.Length; i++)
        {
            int place = i / d.Columns * stride + i % d.Columns;
            double actual = Read(host, place), wanted = Round(expected[i], host.DType, tolerance == 0);
            double difference = Math.Abs(actual - wanted) - (tolerance > 0 && host.DType == DType.BF16 ? Math.Abs(wanted) / 256 : 0);
            if (!(difference <= worst)) (worst, at) = (double.IsNaN(difference) ? double.PositiveInfinity : difference, i);
        }

        for (int row = 0; row < d.Rows; row++)
        {
            for (int c = d.Columns; c < stride; c++) Assert.True(Read(host, row * stride + c) == Operand.Between, $"{what}: what lies behind row {row} was overwritten");
        }

        string proof = string.Create(CultureInfo.InvariantCulture, $"{what}: largest difference {worst:E2} of {largest:E2} at ({(at < 0 ? 0 : at / d.Columns)}, {(at < 0 ? 0 : at % d.Columns)}), allowed {tolerance:E0} of the largest");
        output.WriteLine(proof);
        Assert.True(worst <= tolerance * largest, proof);
    }

    private static double Read(Tensor host, int at) => host.DType == DType.F32 ? host.AsSpan<float>()[at] : (float)BFloat16.FromBits(host.AsSpan<ushort>()[at]);

    private static double Round(double value, DType type, bool exact) => exact && type == DType.BF16 ? (float)(BFloat16)(float)value : value;

    /// <summary>An operand in 128x1 tiles with its codes transposed; what belongs to no group stays out.</summary>
    private static ScaledTensor Turned(CudaDevice device, Operand x, int[]? groups)
    {
        long tiles = groups is null ? ScaledTensor.Tiles(x.Rows) : ScaledTensor.GroupedTileRows(x.Rows, groups.Length - 1);
        Tensor codes = HostMemory.Allocate(x.Parent.Shape, DType.F8E4M3), host = HostMemory.Allocate(new Shape(x.Columns, tiles * Tile), DType.F8E4M3);
        device.Download(x.Parent, codes);
        int stride = (int)x.Parent.Columns, width = (int)(tiles * Tile);
        for (int r = 0; r < x.Rows && (groups is null || r < groups[^1]); r++)
        {
            int group = groups is null ? 0 : Array.FindLastIndex(groups, groups.Length - 2, groups.Length - 1, o => o <= r);
            int place = groups is null ? r : Tile * (groups[group] / Tile + group) + r - groups[group];
            for (int c = 0; c < x.Columns; c++) host.AsSpan<byte>()[c * width + place] = codes.AsSpan<byte>()[r * stride + c];
        }

        Tensor turned = device.Allocate(host.Shape, DType.F8E4M3, MemoryKind.Workspace);
        device.Upload(host, turned);
        return new ScaledTensor(turned, x.Scaled.Scales, ScaleLayout.TransposedColumnTile);
    }

    private static Operand Quantized(CudaDevice device, int rows, int columns, ScaleLayout layout, bool exact, int seed, int pad, int matrices = 0, int[]? groups = null)
    {
        var random = new Random(seed);
        int each = rows / Math.Max(1, matrices);
        Tensor codes = HostMemory.Allocate(new Shape(rows, columns + pad), DType.F8E4M3);
        random.NextBytes(codes.AsSpan<byte>());
        foreach (ref byte code in codes.AsSpan<byte>())
        {
            // Integers from -2 to 2, or anything up to 8 that is a number.
            if (exact) code = Float8E4M3.FromSingle(code % 5 - 2, saturate: true).Bits;
            else if ((code & 0x7f) > 0x50) code = (byte)((code & 0x80) | (code & 0x3f));
        }

        // ScaleRow of an element: every matrix or group begins anew.
        int scaleRows = layout switch
        {
            ScaleLayout.RowTile => rows,
            ScaleLayout.Block => rows / each * (int)ScaledTensor.Tiles(each),
            _ => groups is null ? (int)ScaledTensor.Tiles(rows) : (int)ScaledTensor.GroupedTileRows(rows, groups.Length - 1),
        };
        int scaleColumns = layout == ScaleLayout.ColumnTile ? columns : (int)ScaledTensor.Tiles(columns);
        float[] scales = [.. Enumerable.Range(0, scaleRows * scaleColumns).Select(_ => exact ? MathF.ScaleB(1, random.Next(-1, 2)) : 0.5f + random.NextSingle())];
        double[] values = new double[rows * columns];
        for (int r = 0; r < rows; r++)
        {
            int group = groups is null ? 0 : Math.Max(0, Array.FindLastIndex(groups, groups.Length - 2, groups.Length - 1, o => o <= r));
            int scaleRow = layout switch
            {
                ScaleLayout.RowTile => r,
                ScaleLayout.Block => r / each * (int)ScaledTensor.Tiles(each) + r % each / Tile,
                _ => groups is null ? r / Tile : groups[group] / Tile + group + (r - groups[group]) / Tile,
            };
            bool covered = groups is null || r < groups[^1];
            for (int c = 0; c < columns; c++)
            {
                float scale = covered ? scales[scaleRow * scaleColumns + (layout == ScaleLayout.ColumnTile ? c : c / Tile)] : 0;
                values[r * columns + c] = (double)Float8E4M3.FromBits(codes.AsSpan<byte>()[r * (columns + pad) + c]) * scale;
            }
        }

        Tensor onDevice = device.Allocate(codes.Shape, DType.F8E4M3, MemoryKind.Workspace);
        device.Upload(codes, onDevice);
        Tensor deviceScales = Upload(device, scales, DType.F32, new Shape(scaleRows, scaleColumns));
        var scaled = new ScaledTensor(
            Stacked(onDevice.ColumnRange(0, columns), matrices, each, columns), Stacked(deviceScales, matrices, scaleRows / Math.Max(1, matrices), scaleColumns), layout);
        return new Operand(scaled, onDevice, values, rows, columns);
    }

    private static Operand Plain(CudaDevice device, int rows, int columns, bool exact, int seed, int pad, int matrices = 0)
    {
        var random = new Random(seed);
        Tensor host = HostMemory.Allocate(new Shape(rows, columns + pad), DType.BF16);
        foreach (ref ushort bits in host.AsSpan<ushort>()) bits = ((BFloat16)(exact ? random.Next(-2, 3) : random.NextSingle() - 0.5f)).Bits;
        double[] values = new double[rows * columns];
        for (int i = 0; i < values.Length; i++) values[i] = Read(host, i / columns * (columns + pad) + i % columns);
        Tensor onDevice = device.Allocate(host.Shape, DType.BF16, MemoryKind.Workspace);
        device.Upload(host, onDevice);
        return new Operand(Stacked(onDevice.ColumnRange(0, columns), matrices, rows / Math.Max(1, matrices), columns), onDevice, values, rows, columns);
    }

    private static Tensor Stacked(Tensor tensor, int matrices, int rows, int columns) => matrices == 0 ? tensor : tensor.Reshape(new Shape(matrices, rows, columns));

    /// <summary>A result that holds small integers, and a mark between its rows.</summary>
    private static Operand Result(CudaDevice device, int rows, int columns, DType type, int pad)
    {
        var random = new Random(9);
        Tensor host = HostMemory.Allocate(new Shape(rows, columns + pad), type);
        double[] values = new double[rows * columns];
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns + pad; c++)
            {
                int value = c < columns ? random.Next(-4, 5) : (int)Operand.Between, at = r * (columns + pad) + c;
                if (type == DType.F32) host.AsSpan<float>()[at] = value;
                else host.AsSpan<ushort>()[at] = ((BFloat16)(float)value).Bits;
                if (c < columns) values[r * columns + c] = value;
            }
        }

        Tensor onDevice = device.Allocate(host.Shape, type, MemoryKind.Workspace);
        device.Upload(host, onDevice);
        return new Operand(onDevice.ColumnRange(0, columns), onDevice, values, rows, columns);
    }

    private static Tensor Upload<T>(CudaDevice device, T[] values, DType type, Shape shape) where T : unmanaged
    {
        Tensor host = HostMemory.Allocate(shape, type), tensor = device.Allocate(shape, type, MemoryKind.Workspace);
        values.CopyTo(host.AsSpan<T>());
        device.Upload(host, tensor);
        return tensor;
    }

    private sealed record Operand(ScaledTensor Scaled, Tensor Parent, double[] Values, int Rows, int Columns)
    {
        public const double Between = 77;

        public Tensor Device => Scaled.Elements;

        public Operand Transposed(int matrices = 1)
        {
            int each = Rows / matrices;
            double[] turned = new double[Values.Length];
            for (int i = 0; i < turned.Length; i++)
            {
                int row = i / Columns, column = i % Columns;
                turned[row / each * each * Columns + column * each + row % each] = Values[i];
            }

            return this with { Values = turned, Rows = matrices * Columns, Columns = each };
        }
    }
}

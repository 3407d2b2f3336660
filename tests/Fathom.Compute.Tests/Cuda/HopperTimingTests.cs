// Times of Hopper's products at DeepSeek-V3's shapes, through every tile, beside the heuristic's choice and cuBLASLt. Only on a real GPU of
// capability 9.0.
using System.Globalization;
using Fathom.Compute.Cuda;
using Fathom.Compute.Cuda.Hopper;
using Fathom.Compute.Cuda.Interop;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class HopperTimingTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    private const int Runs = 9;
    private const long FlushedBytes = 256L << 20;
    private static readonly (int N, int K)[] Shapes =
    [
        (32768, 512), (24576, 1536), (1536, 7168), (576, 7168), (2112, 7168), (512, 32768), (1536, 24576), (7168, 1536), (7168, 576), (2048, 7168), (7168, 2048), (16384, 7168),
        (7168, 16384), (4096, 7168), (18432, 7168), (7168, 18432),
    ];
    private CudaContext context = null!;
    private Tensor flushed;

    [Fact]
    public void Table()
    {
        CudaDevice device = gpu.Device();
        context = device.Context;
        if (!HopperLinear.IsSupported(context) || device.Name.Contains("emulator", StringComparison.Ordinal)) Assert.Skip($"{device.Name} is no real GPU of compute capability 9.0");
        flushed = device.Allocate(new Shape(FlushedBytes), DType.U8, MemoryKind.Workspace);
        var linear = new HopperLinear(context);
        output.WriteLine("product                                        time    TFLOP/s   TB/s   sustained  tile (* chosen)");
        foreach (int m in (int[])[4096, 128, 64])
        {
            foreach ((int n, int k) in Shapes)
            {
                ScaledTensor x = Scaled(device, new Shape(m, k), ScaleLayout.RowTile), w = Scaled(device, new Shape(n, k), ScaleLayout.Block);
                Tensor y = device.Allocate(new Shape(m, n), DType.BF16, MemoryKind.Workspace);
                Time(linear, HopperTile.Fp8Rows, $"fp8 {m} x {n} x {k}", 2.0 * m * n * k, (double)m * k + (double)n * k + 2.0 * m * n, () => Assert.True(linear.Forward(x, w, y, false)), () => device.Library.TryForward(x, w, y));
                if (m < 4096) continue;
                Time(linear, HopperTile.Fp8Rows, $"fp8 {m} x {n} x {k} +=", 2.0 * m * n * k, (double)m * k + (double)n * k + 4.0 * m * n, () => Assert.True(linear.Forward(x, w, y, true)));
                ScaledTensor left = Scaled(device, new Shape(n, m), ScaleLayout.TransposedColumnTile), right = Scaled(device, new Shape(k, m), ScaleLayout.TransposedColumnTile);
                Tensor dw = device.Allocate(new Shape(n, k), DType.F32, MemoryKind.Gradients);
                Time(linear, HopperTile.Fp8Weights, $"fp8 weight gradient {n} x {k} x {m}", 2.0 * m * n * k, (double)m * (n + k) + 8.0 * n * k, () => Assert.True(linear.WeightGradient(left, right, dw, true)), () => device.Library.TryWeightGradient(left, right, dw));
                Time(linear, HopperTile.Fp8Weights, $"fp8 weight gradient {n} x {k} x {m}, stored", 2.0 * m * n * k, (double)m * (n + k) + 4.0 * n * k, () => Assert.True(linear.WeightGradient(left, right, dw, false)));
                Tensor bx = device.Allocate(new Shape(m, k), DType.BF16, MemoryKind.Workspace), bw = device.Allocate(new Shape(n, k), DType.BF16, MemoryKind.Workspace);
                Time(linear, HopperTile.BFloat16, $"bf16 {m} x {n} x {k}", 2.0 * m * n * k, 2.0 * m * k + 2.0 * n * k + 2.0 * m * n, () => Assert.True(linear.Forward(bx, bw, y, false)), () => device.Library.TryForward(bx, bw, y));
            }
        }

        foreach ((int groups, int rows) in ((int, int)[])[(4, 8192), (8, 4096), (32, 256), (256, 128)])
        {
            foreach ((int n, int k) in ((int, int)[])[(4096, 7168), (7168, 2048)])
            {
                Grouped(device, linear, groups, rows, n, k);
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        }
    }

    private void Grouped(CudaDevice device, HopperLinear linear, int groups, int rows, int n, int k)
    {
        int s = groups * rows;
        double flops = 2.0 * s * n * k, weightBytes = (double)groups * n * k;
        Tensor host = HostMemory.Allocate(new Shape(groups + 1), DType.I32), offsets = device.Allocate(new Shape(groups + 1), DType.I32, MemoryKind.Workspace);
        for (int e = 0; e <= groups; e++) host.AsSpan<int>()[e] = e * rows;
        device.Upload(host, offsets);
        ScaledTensor x = Scaled(device, new Shape(s, k), ScaleLayout.RowTile);
        var w = new ExpertWeights(Scaled(device, new Shape(groups, n, k), ScaleLayout.Block));
        Tensor y = device.Allocate(new Shape(s, n), DType.BF16, MemoryKind.Workspace);
        string label = $"{groups} x {rows} x {n} x {k}";
        Time(linear, HopperTile.Fp8Rows, $"fp8 grouped {label}", flops, (double)s * k + weightBytes + 2.0 * s * n, () => Assert.True(linear.GroupedForward(x, offsets, w, y)));
        ScaledTensor dy = Scaled(device, new Shape(s, n), ScaleLayout.RowTile);
        Tensor transposed = device.Allocate(new Shape(groups, k, n), DType.F8E4M3, MemoryKind.WeightCopies), dx = device.Allocate(new Shape(s, k), DType.BF16, MemoryKind.Workspace);
        HopperMatrix codes = HopperExperts.Of(w).Elements;
        Time(linear, [default], $"transposed codes {label}", 0, 2 * weightBytes, () => ((CudaQuantization)device.Quantization).TransposeBytes(codes, transposed));
        Time(linear, HopperTile.Fp8Rows, $"fp8 grouped input gradient {label}", flops, (double)s * n + weightBytes + 2.0 * s * k,
            () => Assert.True(linear.GroupedInputGradient(dy, offsets, w, transposed, dx, false)));
        long tileRows = ScaledTensor.GroupedTileRows(s, groups);
        ScaledTensor left = Tiles(n);
        ScaledTensor right = Tiles(k);
        Tensor dw = device.Allocate(new Shape(groups, n, k), DType.F32, MemoryKind.Gradients);
        foreach (bool added in (bool[])[false, true])
        {
            Time(linear, HopperTile.Fp8Weights, $"fp8 grouped weight gradient {label}{(added ? " +=" : "")}", flops, (double)s * (n + k) + (added ? 8 : 4) * weightBytes,
                () => Assert.True(linear.GroupedWeightGradient(left, right, offsets, dw, added)));
        }

        ScaledTensor Tiles(int columns) => new(
            device.Allocate(new Shape(columns, tileRows * ScaledTensor.TileSize), DType.F8E4M3, MemoryKind.Workspace),
            device.Allocate(new Shape(tileRows, columns), DType.F32, MemoryKind.Workspace), ScaleLayout.TransposedColumnTile);
        Tensor bx = device.Allocate(new Shape(s, k), DType.BF16, MemoryKind.Workspace), bdy = device.Allocate(new Shape(s, n), DType.BF16, MemoryKind.Workspace);
        Time(linear, HopperTile.BFloat16, $"bf16 grouped weight gradient {label}", flops, 2.0 * s * (n + k) + 8 * weightBytes, () => Assert.True(linear.GroupedWeightGradient(bdy, bx, offsets, dw)));
        var bw = new ExpertWeights(device.Allocate(new Shape(groups, n, k), DType.BF16, MemoryKind.Weights));
        Time(linear, HopperTile.BFloat16, $"bf16 grouped {label}", flops, 2.0 * s * k + 2 * weightBytes + 2.0 * s * n, () => Assert.True(linear.GroupedForward(bx, offsets, bw, y)));
        Time(linear, HopperTile.BFloat16, $"bf16 grouped input gradient {label}", flops, 2.0 * s * n + 2 * weightBytes + 2.0 * s * k,
            () => Assert.True(linear.GroupedInputGradient(bdy, offsets, bw, default, dx, false)));
    }

    /// <summary>Codes and scales of plausible numbers: what a product costs depends on its operands through the power that it draws.</summary>
    private static ScaledTensor Scaled(CudaDevice device, Shape shape, ScaleLayout layout)
    {
        Tensor codes = device.Allocate(shape, DType.F8E4M3, MemoryKind.Workspace);
        Tensor host = HostMemory.Allocate(new Shape(1 << 20), DType.F8E4M3);
        var random = new Random(1);
        foreach (ref byte code in host.AsSpan<byte>()) code = Float8E4M3.FromSingle(60 * (random.NextSingle() + random.NextSingle() + random.NextSingle() - 1.5f), saturate: true).Bits;
        for (long at = 0; at < shape.Elements; at += host.Elements)
        {
            long count = Math.Min(host.Elements, shape.Elements - at);
            device.Upload(host.Slice(0, count), codes.Reshape(new Shape(shape.Elements)).Slice(at, count));
        }

        Shape values = layout == ScaleLayout.TransposedColumnTile ? new Shape(shape.Columns, shape.Rows) : shape;
        Tensor scales = device.Allocate(ScaledTensor.ScaleShape(values, layout), DType.F32, MemoryKind.Workspace);
        Tensor hostScales = HostMemory.Allocate(new Shape(scales.Elements), DType.F32);
        foreach (ref float scale in hostScales.AsSpan<float>()) scale = 1e-2f * (0.75f + random.NextSingle());
        device.Upload(hostScales, scales.Reshape(hostScales.Shape));
        return new ScaledTensor(codes, scales, layout);
    }

    private void Time(HopperLinear linear, HopperTile[] tiles, string what, double flops, double bytes, Action run, Func<bool>? library = null)
    {
        linear.Forced = null;
        Write("*", run);
        if (library is not null && library()) Write("cuBLASLt", () => library());
        foreach (HopperTile tile in tiles.Where(t => t != default))
        {
            linear.Forced = tile;
            string more = tile.Copies ? ", copied" : "";
            Write($"{tile.Teams} x {tile.Waves} x 64 by {tile.Columns}, {tile.Stages} stages, {tile.PerMultiprocessor} a multiprocessor{more}", run);
        }

        void Write(string tile, Action call)
        {
            double seconds = Median(call), sustained = Sustained(call, seconds);
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what,-44} {1e6 * seconds,8:F1} us {flops / seconds / 1e12,8:F0} {bytes / seconds / 1e12,6:F2} {1e6 * sustained,8:F1} us  {tile}"));
        }
    }

    // One after another for so long that what counts is the power that the card may draw: a single run says little of a whole layer.
    private double Sustained(Action run, double once)
    {
        const double Seconds = 0.05;
        using CudaEvent start = new(context), end = new(context);
        int count = (int)Math.Ceiling(Seconds / once);
        for (int i = 0; i < count; i++) run();
        start.Record(context.Stream);
        for (int i = 0; i < count; i++) run();
        end.Record(context.Stream);
        end.Synchronize();
        return end.SecondsSince(start) / count;
    }

    private double Median(Action run)
    {
        run();
        using CudaEvent start = new(context), end = new(context);
        double[] seconds = new double[Runs];
        for (int i = 0; i < Runs; i++)
        {
            CudaException.Check(Driver.Fill(flushed.Address, (byte)i, (nuint)FlushedBytes, context.Stream.Handle), "cuMemsetD8Async");
            start.Record(context.Stream);
            run();
            end.Record(context.Stream);
            end.Synchronize();
            seconds[i] = end.SecondsSince(start);
        }

        Array.Sort(seconds);
        return seconds[Runs / 2];
    }
}

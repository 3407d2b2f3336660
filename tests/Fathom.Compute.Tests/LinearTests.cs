// What the operator table cannot show about linear products: independence of threads and batch, silence of the allocator,
// clear errors, and the pure functions that cut the work.
using Fathom.Compute.Cpu;
using Fathom.Compute.Cpu.Gemm;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed class LinearTests(ITestOutputHelper output)
{
    [Fact]
    public void Results_have_the_same_bits_whatever_the_number_of_threads()
    {
        foreach ((int m, int n, int k) in ((int, int, int)[])[(3, 300, 411), (16, 1000, 520), (200, 170, 1111)])
        {
            float[]? first = null;
            foreach (int threads in (int[])[1, 2, 3, 8])
            {
                using var device = new CpuDevice(threads);
                Tensor x = Random(device, m, k), w = Random(device, n, k), y = Random(device, m, n), dx = Random(device, m, k), dw = Random(device, n, k);
                device.Linear.Forward(x, w, y, accumulate: true);
                device.Linear.InputGradient(y, w, dx);
                device.Linear.WeightGradient(y, x, dw);
                float[] results = [.. y.AsSpan<float>(), .. dx.AsSpan<float>(), .. dw.AsSpan<float>()];
                first ??= results;
                Assert.True(SameBits(first, results), $"M={m} N={n} K={k}: {threads} threads give other bits than 1");
            }

            output.WriteLine($"M={m} N={n} K={k}: {first!.Length} values have the same bits with 1, 2, 3 and 8 threads");
        }
    }

    [Theory]
    [InlineData(1, FewRowsPlan.MostRowsOfSums)]
    [InlineData(FewRowsPlan.MostRowsOfSums + 1, FewRowsPlan.MostRowsOfDots)]
    [InlineData(FewRowsPlan.MostRowsOfDots + 1, 200)]
    public void A_row_has_the_same_bits_whatever_its_neighbours(int least, int most)
    {
        const int N = 77, K = 1029;
        using var device = new CpuDevice(2);
        foreach (DType type in (DType[])[DType.F32, DType.BF16])
        {
            Tensor x = Random(device, most, K), w = Random(device, N, K, type), dy = Random(device, most, N);
            Tensor y = Random(device, most, N), dx = Random(device, most, K);
            device.Linear.Forward(x, w, y);
            device.Linear.InputGradient(dy, w, dx);
            int compared = 0;
            for (int rows = least; rows <= most; rows += rows <= FewRowsPlan.MostRowsOfSums ? 1 : 13)
            {
                for (int start = 0; start + rows <= most; start += 7)
                {
                    Tensor part = Random(device, rows, N), partGradient = Random(device, rows, K);
                    device.Linear.Forward(x.Slice(start, rows), w, part);
                    device.Linear.InputGradient(dy.Slice(start, rows), w, partGradient);
                    Assert.True(SameBits(y.Slice(start, rows).AsSpan<float>(), part.AsSpan<float>()), $"{type} forward, rows {start} to {start + rows}");
                    Assert.True(SameBits(dx.Slice(start, rows).AsSpan<float>(), partGradient.AsSpan<float>()), $"{type} gradient, rows {start} to {start + rows}");
                    compared++;
                }
            }

            output.WriteLine($"{type}: {compared} cuts of {most} rows have the bits of the whole");
        }
    }

    [Fact]
    public void Reading_in_place_gives_the_bits_of_packing()
    {
        // 2100 rows are more than one stretch of the depth; rows 1024 floats apart share cache sets, so they are packed.
        const int Columns = 96, Stride = 1024;
        Assert.True(GemmPlan.ReadsInPlace(170, 2100, Columns, Columns, 32));
        Assert.False(GemmPlan.ReadsInPlace(170, 2100, Columns, Stride, 32));
        using var device = new CpuDevice(2);
        foreach (int outputs in (int[])[21, 28, 170])
        {
            Tensor near = Random(device, 2100, Columns), dy = Random(device, 2100, outputs);
            Tensor apart = Random(device, 2100, Stride).ColumnRange(Columns, Columns);
            for (int row = 0; row < 2100; row++) near.Row<float>(row).CopyTo(apart.Row<float>(row));
            Tensor inPlace = Random(device, outputs, Columns), packed = Random(device, outputs, Columns);
            device.Linear.WeightGradient(dy, near, inPlace, accumulate: true);
            device.Linear.WeightGradient(dy, apart, packed, accumulate: true);
            Assert.True(SameBits(inPlace.AsSpan<float>(), packed.AsSpan<float>()), $"{outputs} outputs");
            output.WriteLine($"{outputs} x {Columns} sums of 2100 products have the same bits in place and packed");
        }
    }

    [Fact]
    public void Repeated_calls_allocate_nothing()
    {
        using var device = new CpuDevice(2);
        Tensor x = Random(device, 100, 60), w = Random(device, 70, 60), y = Random(device, 100, 70), dx = Random(device, 100, 60), dw = Random(device, 70, 60);
        Tensor offsets = device.Allocate(new Shape(4), DType.I32, MemoryKind.Workspace);
        ((int[])[0, 5, 60, 100]).CopyTo(offsets.AsSpan<int>());
        var experts = new ExpertWeights(Random(device, 3 * 70, 60).Reshape(new Shape(3, 70, 60)));
        Tensor gradients = Random(device, 3 * 70, 60).Reshape(new Shape(3, 70, 60));
        Tensor xFew = x.Slice(0, 3), yFew = y.Slice(0, 3), dxFew = dx.Slice(0, 3);
        long bytes = 0;
        for (int call = 0; call < 5; call++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            device.Linear.Forward(x, w, y);
            device.Linear.InputGradient(y, w, dx);
            device.Linear.WeightGradient(y, x, dw);
            device.Linear.Forward(xFew, w, yFew);
            device.Linear.InputGradient(yFew, w, dxFew);
            device.Linear.GroupedForward(x, offsets, experts, y);
            device.Linear.GroupedInputGradient(y, offsets, experts, dx);
            device.Linear.GroupedWeightGradient(y, x, offsets, gradients);
            if (call > 0) bytes += GC.GetAllocatedBytesForCurrentThread() - before;
        }

        output.WriteLine($"{bytes} bytes in 32 calls");
        Assert.Equal(0, bytes);
    }

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using var device = new CpuDevice(1);
        Tensor x = Random(device, 4, 6), w = Random(device, 5, 6), y = Random(device, 4, 5);
        Tensor offsets = device.Allocate(new Shape(3), DType.I32, MemoryKind.Workspace);
        var experts = new ExpertWeights(Random(device, 10, 6).Reshape(new Shape(2, 5, 6)));
        Fails("x is F32 [3, 6], expected F32 [4, 6]", () => device.Linear.Forward(x.Slice(0, 3), w, y));
        Fails("w is F32 [5, 5], expected F32 [5, 6]", () => device.Linear.Forward(x, w.ColumnRange(0, 5), y));
        Fails("x is F32 [0, 6], expected F32 [4, 6]", () => device.Linear.Forward(x.Slice(0, 0), w, y));
        Fails("w is F16", () => device.Linear.Forward(x, device.Allocate(new Shape(5, 6), DType.F16, MemoryKind.Workspace), y));
        Fails("dw is F32 [3, 6], expected F32 [5, 6]", () => device.Linear.WeightGradient(y, x, w.Slice(0, 3)));
        Fails("w is F32 [5, 6], expected F32 [4, 6]", () => device.Linear.InputGradient(y.ColumnRange(0, 4), w, x));
        offsets.AsSpan<int>()[1] = 3;
        offsets.AsSpan<int>()[2] = 2;
        Fails("rowOffsets[2] is 2, expected 3 to 4", () => device.Linear.GroupedForward(x, offsets, experts, y));
        offsets.AsSpan<int>()[2] = 9;
        Fails("rowOffsets[2] is 9, expected 3 to 4", () => device.Linear.GroupedInputGradient(y, offsets, experts, x));
        var mapped = new Tensor(y.Address, DType.F32, y.Shape, y.Owner, readOnly: true);
        Fails("may be written", () => device.Linear.Forward(x, w, mapped));
    }

    [Fact]
    public void Depth_blocks_and_column_chunks_respect_their_limits()
    {
        for (long depth = 1; depth < 10_000; depth += 7)
        {
            int block = GemmPlan.DepthBlock(depth);
            Assert.InRange(block, 1, GemmPlan.LargestDepthBlock);
            Assert.True((depth + block - 1) / block == (depth + GemmPlan.LargestDepthBlock - 1) / GemmPlan.LargestDepthBlock, $"depth {depth} in blocks of {block}");
            long stretch = Math.Min(depth, GemmPlan.LargestDepthChunk);
            foreach (long rows in (long[])[20, 5000])
            {
                long elements = GemmPlan.PackElements(rows), chunk = GemmPlan.ColumnChunk(8 * depth, stretch, elements, 32);
                Assert.True(chunk > 0 && chunk % 32 == 0 && chunk * stretch <= elements, $"depth {depth}, {rows} rows: chunks of {chunk} columns");
            }
        }

        for (int threads = 1; threads <= 128; threads *= 2)
        {
            for (long panels = 1; panels < 400; panels += 3)
            {
                (int rows, int parts) = GemmPlan.TeamTile(panels, 64, threads);
                Assert.True(rows is >= 1 and <= 16 && parts is >= 1 and <= 16, $"{panels} panels, {threads} threads: {rows} panels, {parts} parts");
            }
        }
    }

    [Fact]
    public void Machine_peaks_are_plausible()
    {
        using var team = new WorkerTeam(2);
        MachinePeaks peaks = MachinePeaks.Measure(team);
        output.WriteLine(peaks.ToString());
        Assert.Equal(2, peaks.Threads);
        // Wide bounds: no processor that runs this is below or above them.
        Assert.InRange(peaks.CoreGigaflops, 0.5, 2000);
        Assert.InRange(peaks.TeamGigaflops, 0.5, 4000);
        Assert.InRange(peaks.ReadGigabytes, 0.1, 2000);
        Assert.InRange(peaks.CacheCopyGigabytes, 0.1, 4000);
    }

    private static void Fails(string text, Action action) => Assert.Contains(text, Assert.Throws<ArgumentException>(action).Message);

    private static bool SameBits(ReadOnlySpan<float> a, ReadOnlySpan<float> b) =>
        System.Runtime.InteropServices.MemoryMarshal.AsBytes(a).SequenceEqual(System.Runtime.InteropServices.MemoryMarshal.AsBytes(b));

    private static Tensor Random(Device device, int rows, int columns, DType type = DType.F32)
    {
        Tensor tensor = device.Allocate(new Shape(rows, columns), type, MemoryKind.Workspace);
        var random = new Random(rows * 31 + columns);
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns; c++)
            {
                float value = random.NextSingle() - 0.5f;
                if (type == DType.F32) tensor.Row<float>(r)[c] = value;
                else tensor.Row<ushort>(r)[c] = (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16);
            }
        }

        return tensor;
    }
}

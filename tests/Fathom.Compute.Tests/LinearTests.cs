// What the operator table cannot show about linear products: independence of threads and batch, silence of the allocator,
// clear errors, and the pure functions that cut the work.
using System.Runtime.Intrinsics;
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
    public void Groups_have_the_bits_that_they_have_alone()
    {
        // One step more than a block makes two shorter blocks, beside one whole block; an empty group lies between.
        const int Block = GemmPlan.LargestDepthBlock;
        int[] ends = [0, Block + 1, Block + 1, 2 * Block + 1, 2 * Block + 6, 4 * Block];
        const int N = 40, K = 330;
        using var device = new CpuDevice(2);
        int experts = ends.Length - 1, rows = ends[^1];
        Tensor x = Random(device, rows, K), dy = Random(device, rows, N), weights = Random(device, experts * N, K), y = Random(device, rows, N), dx = Random(device, rows, K);
        Tensor gradients = Random(device, experts * N, K), offsets = device.Allocate(new Shape(ends.Length), DType.I32, MemoryKind.Workspace);
        ends.CopyTo(offsets.AsSpan<int>());
        gradients.AsSpan<float>().Clear();
        var groups = new ExpertWeights(weights.Reshape(new Shape(experts, N, K)));
        device.Linear.GroupedForward(x, offsets, groups, y);
        device.Linear.GroupedInputGradient(dy, offsets, groups, dx);
        device.Linear.GroupedWeightGradient(dy, x, offsets, gradients.Reshape(new Shape(experts, N, K)));
        for (int e = 0; e < experts; e++)
        {
            (int first, int count) = (ends[e], ends[e + 1] - ends[e]);
            if (count == 0) continue;
            Tensor ownY = Random(device, count, N), ownDx = Random(device, count, K), ownGradient = Random(device, N, K);
            device.Linear.Forward(x.Slice(first, count), weights.Slice(e * N, N), ownY);
            device.Linear.InputGradient(dy.Slice(first, count), weights.Slice(e * N, N), ownDx);
            ownGradient.AsSpan<float>().Clear();
            device.Linear.WeightGradient(dy.Slice(first, count), x.Slice(first, count), ownGradient, accumulate: true);
            Assert.True(SameBits(y.Slice(first, count).AsSpan<float>(), ownY.AsSpan<float>()), $"forward of group {e}");
            Assert.True(SameBits(dx.Slice(first, count).AsSpan<float>(), ownDx.AsSpan<float>()), $"input gradient of group {e}");
            Assert.True(SameBits(gradients.Slice(e * N, N).AsSpan<float>(), ownGradient.AsSpan<float>()), $"weight gradient of group {e}");
        }

        Assert.True(gradients.Slice(N, N).AsSpan<float>().IndexOfAnyExcept(0f) < 0, "the empty group got a gradient");
        output.WriteLine($"{experts} groups of {string.Join(", ", ends.Skip(1).Zip(ends, (end, start) => end - start))} rows have the bits that they have alone");
    }

    [Fact]
    public void Packed_weights_are_not_kept_from_call_to_call()
    {
        using var device = new CpuDevice(2);
        Tensor x = Random(device, 300, 100), w = Random(device, 90, 100), y = Random(device, 300, 90), doubled = Random(device, 300, 90);
        device.Linear.Forward(x, w, y);
        foreach (ref float value in w.AsSpan<float>()) value *= 2;
        device.Linear.Forward(x, w, doubled);
        foreach (ref float value in y.AsSpan<float>()) value *= 2;
        Assert.True(SameBits(y.AsSpan<float>(), doubled.AsSpan<float>()), "the second call used weights of the first");
        output.WriteLine($"{y.Elements} sums doubled with their weights");
    }

    [Theory]
    [InlineData(12, 16)]
    [InlineData(23, 37)]
    [InlineData(96, 200)]
    public unsafe void Panels_hold_every_element_in_its_place(int lines, int depth)
    {
        using var device = new CpuDevice(1);
        foreach (int width in (int[])[6, 8, 12, 32])
        {
            int panels = (lines + width - 1) / width;
            // Lines that are contiguous over the depth, then the same lines step by step; nothing may be written past the panels.
            Tensor across = Random(device, lines, depth), along = Random(device, depth, lines), zeros = device.Allocate(new Shape(depth), DType.F32, MemoryKind.Workspace);
            for (int line = 0; line < lines; line++)
            {
                for (int step = 0; step < depth; step++) along.Row<float>(step)[line] = across.Row<float>(line)[step];
            }

            Tensor panel = device.Allocate(new Shape(panels * depth * width + 1), DType.F32, MemoryKind.Workspace);
            foreach (string how in (string[])["transposed", "copied"])
            {
                panel.AsSpan<float>().Fill(float.NaN);
                if (how == "transposed") Packing.Transpose<SingleFormat>((byte*)across.Address, depth, lines, width, depth, (byte*)zeros.Address, panel.Pointer<float>());
                else if (width <= 12) Packing.CopyRows(along.Pointer<float>(), lines, lines, width, depth, panel.Pointer<float>());
                else Packing.CopyColumns<SingleFormat, Vector512<float>, Width512>((byte*)along.Address, lines, lines, depth, panel.Pointer<float>());
                for (int line = 0; line < panels * width; line++)
                {
                    for (int step = 0; step < depth; step++)
                    {
                        float expected = line < lines ? across.Row<float>(line)[step] : 0, actual = panel.AsSpan<float>()[(line / width * depth + step) * width + line % width];
                        Assert.True(expected == actual, $"{how}, width {width}: line {line} of {lines}, step {step} of {depth} is {actual}, expected {expected}");
                    }
                }

                Assert.True(float.IsNaN(panel.AsSpan<float>()[^1]), $"{how}, width {width}: an element was written past the panels");
            }
        }

        output.WriteLine($"{lines} lines of {depth}: all elements in their places at widths 6, 8, 12 and 32");
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
    public void Depth_blocks_and_tiles_respect_their_limits()
    {
        for (long depth = 1; depth < 10_000; depth += 7)
        {
            int block = GemmPlan.DepthBlock(depth);
            Assert.InRange(block, 1, GemmPlan.LargestDepthBlock);
            Assert.True((depth + block - 1) / block == (depth + GemmPlan.LargestDepthBlock - 1) / GemmPlan.LargestDepthBlock, $"depth {depth} in blocks of {block}");
        }

        int checkedTiles = 0;
        foreach (int threads in (int[])[1, 2, 3, 16, 128])
        {
            foreach (long rows in (long[])[17, 128, 500, 4096, 100_000])
            {
                foreach (long columns in (long[])[1, 32, 192, 1000, 8192])
                {
                    foreach (long depth in (long[])[1, 384, 2048, 100_000])
                    {
                        TileSize tile = GemmPlan.Tile(rows, columns, depth, GemmPlan.DepthBlock(depth), 1, threads, 12, 32);
                        string what = $"{rows} x {columns}, depth {depth}, {threads} threads: {tile}";
                        Assert.True(tile.Rows >= 12 && tile.Columns % 32 == 0 && tile.Columns is >= 32 && tile.Columns < columns + 32, what);
                        Assert.True((long)tile.Columns * GemmPlan.DepthBlock(depth) <= GemmPlan.SecondLevelElements, what);
                        checkedTiles++;
                    }
                }
            }
        }

        output.WriteLine($"{checkedTiles} tiles");
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

// Products by row: the bits of a row are its own, alone and among any number of others, of a layer and of an expert, in every format that
// weights are stored in; and they are still the product.
using Fathom.Compute.Cpu;
using Fathom.Compute.Reference;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed class LinearByRowTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F8E4M3)]
    [InlineData(DType.HiF8)]
    public void A_row_has_the_same_bits_among_any_number_of_rows(DType format)
    {
        const int M = 300, N = 205, K = 411;
        using var device = new CpuDevice(3);
        using var reference = new ReferenceDevice();
        ScaledTensor w = Weights(device, N, K, format);
        Tensor x = Normal(device, M, K), y = Normal(device, M, N), expected = Normal(device, M, N);
        device.LinearByRow.Forward(x, w, y);
        reference.Linear.Forward(x, w, expected);
        double worst = 0, largest = 0;
        for (int i = 0; i < M * N; i++)
        {
            largest = Math.Max(largest, Math.Abs(expected.AsSpan<float>()[i]));
            worst = Math.Max(worst, Math.Abs((double)expected.AsSpan<float>()[i] - y.AsSpan<float>()[i]));
        }

        int compared = 0;
        foreach (int rows in (int[])[1, 2, 3, 5, 31, 64, 65, 127, 128, 200])
        {
            for (int start = 0; start + rows <= M; start += 1 + rows / 2)
            {
                Tensor part = Normal(device, rows, N), grouped = Normal(device, rows, N), offsets = device.Allocate(new Shape(4), DType.I32, MemoryKind.Workspace);
                device.LinearByRow.Forward(x.Slice(start, rows), w, part);
                ((int[])[0, 0, rows / 3, rows]).CopyTo(offsets.AsSpan<int>());
                device.LinearByRow.GroupedForward(x.Slice(start, rows), offsets, new ExpertWeights([w, w, w]), grouped);
                Assert.True(Bits(y.Slice(start, rows)).SequenceEqual(Bits(part)), $"{format}, rows {start} to {start + rows}");
                Assert.True(Bits(part).SequenceEqual(Bits(grouped)), $"{format}, experts' rows {start} to {start + rows}");
                compared++;
            }
        }

        output.WriteLine($"{format}: {compared} cuts of {M} rows have the bits of the whole; largest difference from the reference {worst:E2} of {largest:E2}");
        Assert.InRange(worst, 0, 2e-6 * largest);
    }

    private static ReadOnlySpan<byte> Bits(Tensor tensor) => System.Runtime.InteropServices.MemoryMarshal.AsBytes(tensor.AsSpan<float>());

    private static Tensor Normal(Device device, int rows, int columns)
    {
        Tensor tensor = device.Allocate(new Shape(rows, columns), DType.F32, MemoryKind.Workspace);
        new Philox(1, $"{rows} x {columns}").FillNormal(tensor.AsSpan<float>(), 0, 1);
        return tensor;
    }

    private static ScaledTensor Weights(Device device, int outputs, int inputs, DType format)
    {
        Tensor values = Normal(device, outputs, inputs);
        if (format == DType.F32) return values;
        var shape = new Shape(outputs, inputs);
        Tensor elements = device.Allocate(shape, format, MemoryKind.Workspace);
        if (format == DType.BF16)
        {
            device.Reduction.Convert(values, elements);
            return elements;
        }

        var scaled = new ScaledTensor(elements, device.Allocate(ScaledTensor.ScaleShape(shape, ScaleLayout.Block), DType.F32, MemoryKind.Workspace), ScaleLayout.Block);
        device.Quantization.Quantize(values, scaled);
        return scaled;
    }
}

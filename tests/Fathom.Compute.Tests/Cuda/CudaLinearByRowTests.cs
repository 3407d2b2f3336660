// Products by row on a GPU: what serving promises, that a request's text does not depend on its neighbours, begins with a row that has the
// same bits alone and among any number of others. Depths that several blocks share, and that end raggedly; real types of a model's weights.
// Skipped, with the reason, where there is neither a GPU nor an emulator of one.
using Fathom.Compute.Cuda;
using Fathom.Compute.Operators;
using Fathom.Compute.Reference;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CudaLinearByRowTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    private const int Rows = 300, Columns = 72, Experts = 3;

    [Theory]
    [InlineData(DType.BF16, DType.BF16, 1312)]
    [InlineData(DType.BF16, DType.F8E4M3, 1312)]
    [InlineData(DType.F8E4M3, DType.F8E4M3, 1312)]
    [InlineData(DType.BF16, DType.F32, 4229)]
    [InlineData(DType.F32, DType.F32, 700)]
    public void A_row_has_the_same_bits_alone_and_among_many(DType ofX, DType ofW, int depth)
    {
        CudaDevice device = gpu.Device();
        ScaledTensor x = Stored(device, Rows, depth, ofX, ScaleLayout.RowTile), w = Stored(device, Columns, depth, ofW, ScaleLayout.Block);
        Tensor all = Singles(device, Rows), part = Singles(device, Rows), otherwise = Singles(device, Rows);
        device.LinearByRow.Forward(x, w, all);
        device.Linear.Forward(x, w, otherwise);
        float[] together = Values(device, all), ordinary = Values(device, otherwise);
        double worst = together.Zip(ordinary, (a, b) => Math.Abs((double)a - b)).Max(), largest = ordinary.Max(Math.Abs);
        output.WriteLine($"{ofX} x {ofW}: {worst:E2} of {largest:E2} from the ordinary product");
        Assert.InRange(worst, 0, 2e-3 * largest);
        foreach ((int first, int count) in ((int, int)[])[(0, 1), (1, 2), (7, 16), (16, 17), (20, 64), (100, 130), (299, 1)])
        {
            device.LinearByRow.Forward(x.Slice(first, count), w, part.Slice(first, count));
            Assert.Equal(together[(first * Columns)..((first + count) * Columns)], Values(device, part)[(first * Columns)..((first + count) * Columns)]);
        }
    }

    [Theory]
    [InlineData(DType.BF16, DType.BF16)]
    [InlineData(DType.BF16, DType.F8E4M3)]
    [InlineData(DType.F8E4M3, DType.F8E4M3)]
    public void A_row_has_the_same_bits_in_any_company_of_an_expert(DType ofX, DType ofW)
    {
        const int Depth = 1312, First = 20, Count = 3;
        CudaDevice device = gpu.Device();
        ScaledTensor x = Stored(device, Rows, Depth, ofX, ScaleLayout.RowTile);
        var experts = new ExpertWeights([.. Enumerable.Range(0, Experts).Select(e => Stored(device, Columns, Depth, ofW, ScaleLayout.Block, seed: e + 3))]);
        Tensor all = Singles(device, Rows), part = Singles(device, Rows);
        device.LinearByRow.GroupedForward(x, Offsets(device, 0, 5, 295, Rows), experts, all);
        device.LinearByRow.GroupedForward(x.Slice(First, Count), Offsets(device, 0, 0, Count, Count), experts, part.Slice(First, Count));
        Range rows = (First * Columns)..((First + Count) * Columns);
        Assert.Equal(Values(device, all)[rows], Values(device, part)[rows]);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(70)]
    public void A_code_that_is_not_a_number_spoils_its_output_alone(int rows)
    {
        const int Depth = 272, Spoilt = 41;
        CudaDevice device = gpu.Device();
        ScaledTensor x = Stored(device, rows, Depth, DType.BF16, ScaleLayout.RowTile), w = Stored(device, Columns, Depth, DType.F8E4M3, ScaleLayout.Block);
        Tensor codes = HostMemory.Allocate(w.Elements.Shape, DType.F8E4M3), y = Singles(device, rows);
        device.Download(w.Elements, codes);
        codes.AsSpan<byte>()[Spoilt * Depth + 203] = 0xFF;
        device.Upload(codes, w.Elements);
        foreach (ILinearOperators linear in (ILinearOperators[])[device.Linear, device.LinearByRow])
        {
            linear.Forward(x, w, y);
            float[] values = Values(device, y);
            for (int i = 0; i < values.Length; i++) Assert.True(float.IsNaN(values[i]) == (i % Columns == Spoilt), $"[{i / Columns}, {i % Columns}] is {values[i]}");
        }
    }

    private static ScaledTensor Stored(CudaDevice device, int rows, int columns, DType type, ScaleLayout layout, int seed = 1)
    {
        using var reference = new ReferenceDevice();
        var shape = new Shape(rows, columns);
        Tensor values = HostMemory.Allocate(shape, DType.F32);
        new Philox((ulong)seed, $"{rows} x {columns}").FillNormal(values.AsSpan<float>(), 0, 1);
        if (type == DType.F32) return Uploaded(device, values);
        Tensor elements = HostMemory.Allocate(shape, type);
        if (type == DType.BF16)
        {
            reference.Reduction.Convert(values, elements);
            return Uploaded(device, elements);
        }

        var scaled = new ScaledTensor(elements, HostMemory.Allocate(ScaledTensor.ScaleShape(shape, layout), DType.F32), layout);
        reference.Quantization.Quantize(values, scaled);
        return new ScaledTensor(Uploaded(device, elements), Uploaded(device, scaled.Scales), layout);
    }

    private static Tensor Uploaded(CudaDevice device, Tensor host)
    {
        Tensor tensor = device.Allocate(host.Shape, host.DType, MemoryKind.Workspace);
        device.Upload(host, tensor);
        return tensor;
    }

    private static Tensor Offsets(CudaDevice device, params int[] offsets)
    {
        Tensor host = HostMemory.Allocate(new Shape(offsets.Length), DType.I32);
        offsets.CopyTo(host.AsSpan<int>());
        return Uploaded(device, host);
    }

    private static Tensor Singles(CudaDevice device, int rows) => device.Allocate(new Shape(rows, Columns), DType.F32, MemoryKind.Workspace);

    private static float[] Values(CudaDevice device, Tensor tensor)
    {
        Tensor host = HostMemory.Allocate(tensor.Shape, DType.F32);
        device.Download(tensor, host);
        return host.AsSpan<float>().ToArray();
    }
}

// RMSNorm that quantises its result, against the two operators that it stands for, to the bit. Skipped, with the reason, where there is
// neither a GPU nor an emulator of one.
using Fathom.Compute.Cuda;
using Fathom.Compute.Operators;
using Fathom.Compute.Table;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CudaNormTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    private const float Epsilon = 1e-6f;

    /// <summary>
    /// Rows of one to four accesses a thread and more than registers hold, ends of tiles, and views; tiles smaller than what a largest
    /// magnitude is taken for, values that are not finite, and results that are not.
    /// </summary>
    [Theory]
    [InlineData(1, 8, 8)]
    [InlineData(70, 264, 280)]
    [InlineData(9, 512, 576)]
    [InlineData(5, 1536, 1536)]
    [InlineData(40, 2504, 2504)]
    [InlineData(6, 7168, 7168)]
    [InlineData(3, 20_000, 20_000)]
    public void Codes_are_those_of_the_composition(int rows, int columns, int stride)
    {
        CudaDevice device = gpu.Device();
        Assert.True(device.Traits.FusesNormQuantization(DType.BF16, columns, stride));
        foreach (DType type in (DType[])[DType.F32, DType.BF16])
        {
            foreach (bool finite in (bool[])[true, false])
            {
                Tensor x = Filled(device, new Shape(rows, stride), DType.BF16, (random, i) => OperatorCase.Normal(random) * MathF.ScaleB(1, (int)(i / stride % 24) - 12), finite).ColumnRange(0, columns);
                Tensor weight = Filled(device, new Shape(columns), type, (random, i) => i / 128 % 3 == 1 ? 1e-7f * random.NextSingle() : i == columns - 1 && !finite ? 3e38f : random.NextSingle() + 0.5f, true);
                Tensor y = Of(device, DType.BF16, rows, columns), rstd = Of(device, DType.F32, rows), sameRstd = Of(device, DType.F32, rows);
                (ScaledTensor composed, Tensor fault) = Codes(device, rows, columns);
                (ScaledTensor fused, Tensor sameFault) = Codes(device, rows, columns);
                device.Norm.RmsNorm(x, weight, Epsilon, y, rstd);
                device.Quantization.Quantize(y, composed, fault);
                device.Norm.RmsNormQuantized(x, weight, Epsilon, new CodesTarget(fused, sameFault), sameRstd);
                Same<byte>(composed.Elements, fused.Elements, "codes");
                Same<int>(composed.Scales, fused.Scales, "scales");
                Same<long>(fault, sameFault, "fault");
                if (finite) Same<int>(rstd, sameRstd, "rstd");
                output.WriteLine($"{rows} x {columns}, weight {type}: {rows * columns} codes the same, first fault {device.Read<long>(fault)[0]}");
                Assert.Equal(finite, device.Read<long>(fault)[0] < 0);

                // Neither a place for faults nor the roots need be asked for.
                device.Norm.RmsNormQuantized(x, weight, Epsilon, new CodesTarget(composed), default);
                Same<byte>(fused.Elements, composed.Elements, "codes alone");

                void Same<T>(Tensor expected, Tensor actual, string what) where T : unmanaged
                {
                    T[] left = device.Read<T>(expected), right = device.Read<T>(actual);
                    Assert.True(left.AsSpan().SequenceEqual(right), $"{what} of {rows} x {columns}, weight {type}: element {left.AsSpan().CommonPrefixLength(right)} differs");
                }
            }
        }
    }

    [Fact]
    public void Wrong_operands_are_refused()
    {
        CudaDevice device = gpu.Device();
        Tensor x = Of(device, DType.BF16, 4, 272), weight = Of(device, DType.F32, 256), values = x.ColumnRange(0, 256);
        (ScaledTensor codes, Tensor fault) = Codes(device, 4, 256);
        Refused("x is", () => device.Norm.RmsNormQuantized(Of(device, DType.F32, 4, 256), weight, Epsilon, new CodesTarget(codes), default));
        Refused("expected F8_E4M3 [4, 272]", () => device.Norm.RmsNormQuantized(x, Of(device, DType.F32, 272), Epsilon, new CodesTarget(codes), default));
        Refused("1x128 tiles of F32 scales", () => device.Norm.RmsNormQuantized(values, weight, Epsilon, new CodesTarget(new ScaledTensor(codes.Elements, Of(device, DType.F8E8M0, 4, 2), ScaleLayout.RowTile)), default));
        Refused("1x128 tiles of F32 scales", () => device.Norm.RmsNormQuantized(values, weight, Epsilon, default, default));
        Refused("weight", () => device.Norm.RmsNormQuantized(values, Of(device, DType.F32, 128), Epsilon, new CodesTarget(codes), default));
        Refused("rstd", () => device.Norm.RmsNormQuantized(values, weight, Epsilon, new CodesTarget(codes), fault));
        Refused("fault", () => device.Norm.RmsNormQuantized(values, weight, Epsilon, new CodesTarget(codes, Of(device, DType.I64, 2)), default));
        Refused("rows 272 elements apart", () => device.Norm.RmsNormQuantized(x.ColumnRange(4, 256), weight, Epsilon, new CodesTarget(codes), default));
        Assert.Throws<NotSupportedException>(() => new Reference.ReferenceDevice().Norm.RmsNormQuantized(values, weight, Epsilon, new CodesTarget(codes), default));

        static void Refused(string part, Action call) => Assert.Contains(part, Assert.Throws<ArgumentException>(call).Message, StringComparison.Ordinal);
    }

    private static Tensor Of(CudaDevice device, DType type, params long[] shape) =>
        device.Allocate(shape.Length == 1 ? new Shape(shape[0]) : new Shape(shape[0], shape[1]), type, MemoryKind.Workspace);

    private static (ScaledTensor Codes, Tensor Fault) Codes(CudaDevice device, long rows, long columns)
    {
        Shape shape = new(rows, columns);
        var codes = new ScaledTensor(Of(device, DType.F8E4M3, rows, columns), device.Allocate(ScaledTensor.ScaleShape(shape, ScaleLayout.RowTile), DType.F32, MemoryKind.Workspace), ScaleLayout.RowTile);
        Tensor none = HostMemory.Allocate(new Shape(1), DType.I64), fault = Of(device, DType.I64, 1);
        none.AsSpan<long>()[0] = -1;
        device.Upload(none, fault);
        return (codes, fault);
    }

    private static Tensor Filled(CudaDevice device, Shape shape, DType type, Func<Random, long, float> value, bool finite)
    {
        var random = new Random((int)shape.Elements);
        float[] values = [.. Enumerable.Range(0, (int)shape.Elements).Select(i => value(random, i))];
        if (!finite) (values[^Math.Min(values.Length, 37)], values[values.Length / 2]) = (float.NaN, float.NegativeInfinity);
        Tensor singles = device.Write(device.Allocate(shape, DType.F32, MemoryKind.Workspace), values), tensor = device.Allocate(shape, type, MemoryKind.Workspace);
        device.Reduction.Convert(singles, tensor);
        return tensor;
    }
}

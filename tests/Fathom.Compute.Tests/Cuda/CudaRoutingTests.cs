// Routing on a GPU beyond the shared table: rows of every type, more groups and experts than a warp has lanes, loads that are all on one
// expert. Skipped, with the reason, where there is neither a GPU nor an emulator of one.
using Fathom.Compute.Cuda;
using Fathom.Compute.Operators;
using Fathom.Compute.Reference;
using Fathom.Compute.Table;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed unsafe class CudaRoutingTests(CudaFixture gpu, ITestOutputHelper output) : IClassFixture<CudaFixture>
{
    [Theory]
    [InlineData(80, 40, 7, ScoringFunction.Sigmoid, TopKMethod.NoAuxTc)]
    [InlineData(99, 33, 2, ScoringFunction.Softmax, TopKMethod.GroupLimitedGreedy)]
    [InlineData(320, 4, 2, ScoringFunction.Sigmoid, TopKMethod.NoAuxTc)]
    [InlineData(2000, 8, 4, ScoringFunction.Softmax, TopKMethod.NoAuxTc)]
    public void Choices_agree_with_the_reference(int experts, int groups, int keptGroups, ScoringFunction scoring, TopKMethod method)
    {
        const int Tokens = 19, TopK = 9;
        var options = new RoutingOptions(experts, TopK, groups, keptGroups, scoring, method, true, 2.5f);
        // Few different logits, so that most choices are ties; some NaN and infinite, in sigmoid's rows alone since they spoil a whole softmax.
        void Logits(Tensor tensor, Random random)
        {
            foreach (ref float value in tensor.AsSpan<float>())
            {
                int kind = random.Next(12);
                value = kind == 0 && scoring == ScoringFunction.Sigmoid ? float.NaN : kind == 1 ? float.NegativeInfinity : random.Next(5) - 2;
            }
        }

        Check(new OperatorCase
        {
            Name = "routing.choose",
            Label = $"{options}",
            Operands =
            [
                new("logits", new Shape(Tokens, experts), Fill.Custom, Initialize: Logits),
                new("bias", new Shape(experts), Fill.Custom, Initialize: static (tensor, random) =>
                {
                    foreach (ref float value in tensor.AsSpan<float>()) value = (random.Next(3) - 1) / 16f;
                }),
                new("scores", new Shape(Tokens, experts), Fill.Poison, Compare: true),
                new("experts", new Shape(Tokens, TopK), Fill.Custom, DType.I32, Compare: true, Initialize: static (tensor, _) => tensor.AsSpan<int>().Fill(-1)),
                new("gates", new Shape(Tokens, TopK), Fill.Poison, Compare: true),
                new("load", new Shape(experts), Fill.Poison, DType.I64, Compare: true),
            ],
            Run = (device, t) => device.Routing.Choose(t[0], t[1], options, t[2], t[3], t[4], t[5]),
            Tolerance = 2e-7,
        });
    }

    [Theory]
    [InlineData(20_001, 300)]
    [InlineData(4096, 1)]
    [InlineData(70_000, 2000)]
    [InlineData(33, 64)]
    public void Sorting_is_stable(int slots, int experts)
    {
        foreach (int favoured in (int[])[0, 3])
        {
            Check(new OperatorCase
            {
                Name = "routing.sort",
                Label = $"{slots} slots, {experts} experts, favoured: {favoured} of 4",
                Operands =
                [
                    new("experts", new Shape(slots), Fill.Custom, DType.I32, Initialize: (tensor, random) =>
                    {
                        foreach (ref int expert in tensor.AsSpan<int>()) expert = random.Next(4) < favoured ? experts / 2 : random.Next(experts);
                    }),
                    new("rowOffsets", new Shape(experts + 1), Fill.Custom, DType.I32, Compare: true, Initialize: static (tensor, _) => tensor.AsSpan<int>().Fill(-1)),
                    new("slotOfRow", new Shape(slots), Fill.Custom, DType.I32, Compare: true, Initialize: static (tensor, _) => tensor.AsSpan<int>().Fill(-1)),
                    new("rowOfSlot", new Shape(slots), Fill.Custom, DType.I32, Compare: true, Initialize: static (tensor, _) => tensor.AsSpan<int>().Fill(-1)),
                ],
                Run = static (device, t) => device.Routing.Sort(t[0], t[1], t[2], t[3]),
                Tolerance = 0,
            });
        }
    }

    [Fact]
    public void The_balance_loss_of_many_experts_agrees_with_the_reference() => Check(new OperatorCase
    {
        Name = "routing.balance_loss",
        Label = "B=3 T=200 E=2000 K=9",
        Operands =
        [
            new("scores", new Shape(600, 2000), Fill.Positive),
            new("frequencies", new Shape(3, 2000), Fill.Poison, Compare: true),
            new("losses", new Shape(3), Fill.Poison, Compare: true),
        ],
        Run = static (device, t) => device.Routing.BalanceLoss(t[0], 9, 3, t[1], t[2]),
    });

    [Theory]
    [InlineData(DType.F8E4M3, 7168, 0)]
    [InlineData(DType.F8E4M3, 20, 0)]
    [InlineData(DType.F8E4M3, 7, 3)]
    [InlineData(DType.BF16, 2056, 8)]
    [InlineData(DType.BF16, 33, 0)]
    [InlineData(DType.F32, 56, 8)]
    [InlineData(DType.E5M6Pair, 5, 1)]
    [InlineData(DType.E5M6Pair, 32, 0)]
    public void Rows_of_any_type_are_dispatched(DType type, int columns, int pad)
    {
        const int Tokens = 11, TopK = 3;
        CudaDevice device = gpu.Device();
        int size = type.SizeInBytes(), stride = (columns + pad) * size;
        Tensor host = HostMemory.Allocate(new Shape(Tokens, columns + pad), type), x = device.Allocate(host.Shape, type, MemoryKind.Workspace);
        var bytes = new Span<byte>(host.Pointer<byte>(), (int)host.Bytes);
        new Random(3).NextBytes(bytes);
        device.Upload(host, x);
        Tensor order = HostMemory.Allocate(new Shape(Tokens * TopK), DType.I32), slotOfRow = device.Allocate(order.Shape, DType.I32, MemoryKind.Workspace);
        for (int i = 0; i < order.Elements; i++) order.AsSpan<int>()[i] = i * 10 % (Tokens * TopK);
        device.Upload(order, slotOfRow);
        Tensor y = device.Allocate(new Shape(Tokens * TopK, columns), type, MemoryKind.Workspace), moved = HostMemory.Allocate(y.Shape, type);
        device.Routing.Dispatch(x.ColumnRange(0, columns), slotOfRow, TopK, y);
        device.Download(y, moved);
        for (int s = 0; s < y.Rows; s++)
        {
            ReadOnlySpan<byte> expected = bytes.Slice(order.AsSpan<int>()[s] / TopK * stride, columns * size);
            Assert.True(expected.SequenceEqual(new ReadOnlySpan<byte>(moved.Pointer<byte>() + (long)s * columns * size, columns * size)), $"row {s} of {type} {columns}");
        }
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

// Rows of the linear family. Shapes are odd on purpose (one more and one less than a tile, a vector, a depth block) besides those of
// a training step of a laptop model and of a decoding step of DeepSeek-V3.
using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    /// <summary>Rows of <see cref="Operators.ILinearOperators"/>.</summary>
    public static IEnumerable<OperatorCase> Linears()
    {
        (int M, int N, int K, int Pad)[] shapes =
        [
            (1, 1, 1, 0), (1, 5, 3, 2), (2, 64, 64, 0), (3, 33, 31, 1), (4, 130, 67, 0), (7, 96, 128, 4), (15, 9, 40, 0), (16, 70, 513, 3),
            (17, 31, 33, 1), (24, 32, 16, 0), (37, 65, 100, 5), (64, 64, 64, 0), (61, 97, 515, 0), (65, 64, 512, 0), (79, 65, 100, 5), (130, 33, 1030, 7), (200, 144, 96, 0),
        ];
        foreach ((int m, int n, int k, int pad) in shapes)
        {
            foreach (DType type in (DType[])[DType.F32, DType.BF16])
            {
                foreach (bool accumulate in (bool[])[false, true])
                {
                    yield return LinearForward(m, n, k, pad, type, accumulate, small: true);
                    yield return LinearInputGradient(m, n, k, pad, type, accumulate, small: true);
                }

                if (type == DType.BF16) yield return InBFloat16(LinearForward(m, n, k, pad, type, accumulate: m % 2 == 0, small: true));
            }

            yield return LinearWeightGradient(m, n, k, pad, false, small: true);
            yield return LinearWeightGradient(m, n, k, pad, true, small: true);
        }

        // Empty dimensions: nothing to write, or a sum of nothing.
        foreach ((int m, int n, int k) in ((int, int, int)[])[(0, 5, 7), (4, 0, 7), (4, 5, 0), (40, 50, 0)])
        {
            yield return LinearForward(m, n, k, 0, DType.F32, false, small: true);
            yield return LinearInputGradient(m, n, k, 0, DType.F32, false, small: true);
            yield return LinearWeightGradient(m, n, k, 0, false, small: true);
        }

        // Depths beyond what is packed at once, so that a sum continues from an earlier part, and columns beyond it too.
        yield return LinearForward(66, 3, 4100, 0, DType.F32, true, small: true);
        yield return LinearForward(70, 300, 2060, 0, DType.BF16, false, small: true);
        yield return LinearWeightGradient(4100, 5, 7, 0, true, small: true);
        yield return LinearInputGradient(20, 2090, 270, 1, DType.F32, false, small: true);

        foreach ((int m, int n, int k) in ((int, int, int)[])[(512, 384, 192), (2048, 384, 1024), (2048, 2048, 384), (4096, 1024, 512), (2048, 8192, 384)])
        {
            yield return LinearForward(m, n, k, 0, DType.F32, false, small: false);
            yield return LinearInputGradient(m, n, k, 0, DType.F32, false, small: false);
            yield return LinearWeightGradient(m, n, k, 0, true, small: false);
        }

        foreach ((int m, int n, int k) in ((int, int, int)[])[(1, 18432, 7168), (1, 7168, 18432), (8, 24576, 1536), (16, 7168, 2048), (128, 7168, 2048)])
        {
            yield return LinearForward(m, n, k, 0, DType.BF16, false, small: false);
            yield return InBFloat16(LinearForward(m, n, k, 0, DType.BF16, false, small: false));
        }
    }

    /// <summary>Rows of the grouped products of <see cref="Operators.ILinearOperators"/>.</summary>
    public static IEnumerable<OperatorCase> GroupedLinears()
    {
        (int[] Counts, int Left, int N, int K, int Pad)[] groups =
        [
            ([3], 0, 5, 4, 0), ([0, 0], 2, 8, 8, 0), ([1, 0, 17, 40, 16], 3, 33, 29, 0), ([5, 0, 1], 0, 70, 64, 3),
            ([20, 100, 0, 33, 65, 1], 1, 64, 96, 2), ([2, 2, 2, 2, 2, 2, 2, 2], 0, 40, 130, 0), ([0, 0, 0, 61], 5, 97, 515, 1),
        ];
        foreach ((int[] counts, int left, int n, int k, int pad) in groups)
        {
            foreach (DType type in (DType[])[DType.F32, DType.BF16])
            {
                yield return GroupedForward(counts, left, n, k, pad, type, small: true);
                yield return GroupedInputGradient(counts, left, n, k, pad, type, false, small: true);
                yield return GroupedInputGradient(counts, left, n, k, pad, type, true, small: true);
                if (type == DType.BF16) yield return InBFloat16(GroupedForward(counts, left, n, k, pad, type, small: true));
            }

            yield return GroupedWeightGradient(counts, left, n, k, pad, false, small: true);
            yield return GroupedWeightGradient(counts, left, n, k, pad, true, small: true);
        }

        int[] skewed = [.. Enumerable.Range(0, 64).Select(e => 4 * e)];
        int[] sparse = [.. Enumerable.Range(0, 64).Select(e => e % 3 == 0 ? 2 : 0)];
        yield return GroupedForward(skewed, 0, 512, 384, 0, DType.F32, small: false);
        yield return GroupedInputGradient(skewed, 0, 512, 384, 0, DType.F32, false, small: false);
        yield return GroupedWeightGradient(skewed, 0, 512, 384, 0, false, small: false);
        yield return GroupedForward(sparse, 0, 1408, 2048, 0, DType.BF16, small: false);
        yield return InBFloat16(GroupedForward(sparse, 0, 1408, 2048, 0, DType.BF16, small: false));
    }

    // Tensor cores cut their F32 sums where a processor rounds them, so errors add up along the depth: on an H200 to 1.5 · 2^-30 of the
    // largest result for each element of it.
    private static double TensorCoreSums(int depth) => 2e-6 + depth * Math.ScaleB(1, -29);

    /// <summary>A forward product of inputs that are BF16 values, by the products for those where a device has them (<see cref="Device.LinearInBFloat16"/>).</summary>
    private static OperatorCase InBFloat16(OperatorCase product)
    {
        bool grouped = product.Operands.Count > 3;
        Operand x = product.Operands[0] with { Fill = Fill.Custom, Initialize = From((_, random) => (float)(BFloat16)OperatorCase.Normal(random)) };
        bool accumulate = !grouped && product.Operands[2].Fill != Fill.Poison;
        return new OperatorCase
        {
            Name = product.Name + "InBFloat16",
            Label = product.Label,
            Operands = [x, .. product.Operands.Skip(1)],
            Run = grouped
                ? static (device, t) => (device.LinearInBFloat16 ?? device.Linear).GroupedForward(t[0], t[1], Experts(t[2]), t[3])
                : (device, t) => (device.LinearInBFloat16 ?? device.Linear).Forward(t[0], t[1], t[2], accumulate),
            Flops = product.Flops,
            Bytes = product.Bytes,
            RoundedTolerance = product.RoundedTolerance,
            InBFloat16 = true,
            Small = product.Small,
        };
    }

    private static OperatorCase LinearForward(int m, int n, int k, int pad, DType type, bool accumulate, bool small) => new()
    {
        Name = "linear.forward",
        Label = LinearLabel(m, n, k, pad, type, accumulate),
        Operands =
        [
            new("x", new Shape(m, k), Fill.Normal, PadColumns: pad, Activation: true),
            new("w", new Shape(n, k), Fill.Weight, type, PadColumns: pad),
            new("y", new Shape(m, n), accumulate ? Fill.Normal : Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
        ],
        Run = (device, t) => device.Linear.Forward(t[0], t[1], t[2], accumulate),
        Flops = 2.0 * m * n * k,
        Bytes = LinearBytes(m, n, k, type),
        RoundedTolerance = TensorCoreSums(k),
        Small = small,
    };

    private static OperatorCase LinearInputGradient(int m, int n, int k, int pad, DType type, bool accumulate, bool small) => new()
    {
        Name = "linear.inputGradient",
        Label = LinearLabel(m, n, k, pad, type, accumulate),
        Operands =
        [
            new("dy", new Shape(m, n), Fill.Normal, PadColumns: pad, Activation: true),
            new("w", new Shape(n, k), Fill.Weight, type, PadColumns: pad),
            new("dx", new Shape(m, k), accumulate ? Fill.Normal : Fill.Poison, Compare: true, PadColumns: pad, Activation: true),
        ],
        Run = (device, t) => device.Linear.InputGradient(t[0], t[1], t[2], accumulate),
        Flops = 2.0 * m * n * k,
        Bytes = LinearBytes(m, n, k, type),
        RoundedTolerance = TensorCoreSums(n),
        Small = small,
    };

    private static OperatorCase LinearWeightGradient(int m, int n, int k, int pad, bool accumulate, bool small) => new()
    {
        Name = "linear.weightGradient",
        Label = LinearLabel(m, n, k, pad, DType.F32, accumulate),
        Operands =
        [
            new("dy", new Shape(m, n), Fill.Normal, PadColumns: pad, Activation: true),
            new("x", new Shape(m, k), Fill.Normal, PadColumns: pad, Activation: true),
            new("dw", new Shape(n, k), accumulate ? Fill.Normal : Fill.Poison, Compare: true, PadColumns: pad),
        ],
        Run = (device, t) => device.Linear.WeightGradient(t[0], t[1], t[2], accumulate),
        Flops = 2.0 * m * n * k,
        Bytes = LinearBytes(m, n, k, DType.F32),
        RoundedTolerance = TensorCoreSums(m),
        Small = small,
    };

    // Rows that belong to no expert must keep what they hold, so outputs are compared whole.
    private static OperatorCase GroupedForward(int[] counts, int left, int n, int k, int pad, DType type, bool small) => new()
    {
        Name = "linear.groupedForward",
        Label = GroupedLabel(counts, n, k, pad, type, false),
        Operands =
        [
            new("x", new Shape(counts.Sum() + left, k), Fill.Normal, PadColumns: pad, Activation: true),
            RowOffsets(counts),
            new("w", new Shape(counts.Length, n, k), Fill.Weight, type, PadColumns: pad),
            new("y", new Shape(counts.Sum() + left, n), Fill.Normal, Compare: true, PadColumns: pad, Activation: true),
        ],
        Run = static (device, t) => device.Linear.GroupedForward(t[0], t[1], Experts(t[2]), t[3]),
        Flops = 2.0 * counts.Sum() * n * k,
        Bytes = GroupedBytes(counts, n, k, type),
        RoundedTolerance = TensorCoreSums(k),
        Small = small,
    };

    private static OperatorCase GroupedInputGradient(int[] counts, int left, int n, int k, int pad, DType type, bool accumulate, bool small) => new()
    {
        Name = "linear.groupedInputGradient",
        Label = GroupedLabel(counts, n, k, pad, type, accumulate),
        Operands =
        [
            new("dy", new Shape(counts.Sum() + left, n), Fill.Normal, PadColumns: pad, Activation: true),
            RowOffsets(counts),
            new("w", new Shape(counts.Length, n, k), Fill.Weight, type, PadColumns: pad),
            new("dx", new Shape(counts.Sum() + left, k), Fill.Normal, Compare: true, PadColumns: pad, Activation: true),
        ],
        Run = (device, t) => device.Linear.GroupedInputGradient(t[0], t[1], Experts(t[2]), t[3], accumulate),
        Flops = 2.0 * counts.Sum() * n * k,
        Bytes = GroupedBytes(counts, n, k, type),
        RoundedTolerance = TensorCoreSums(n),
        Small = small,
    };

    private static OperatorCase GroupedWeightGradient(int[] counts, int left, int n, int k, int pad, bool accumulate, bool small) => new()
    {
        Name = "linear.groupedWeightGradient",
        Label = GroupedLabel(counts, n, k, pad, DType.F32, accumulate),
        Operands =
        [
            new("dy", new Shape(counts.Sum() + left, n), Fill.Normal, PadColumns: pad, Activation: true),
            new("x", new Shape(counts.Sum() + left, k), Fill.Normal, PadColumns: pad, Activation: true),
            RowOffsets(counts),
            new("dw", new Shape(counts.Length, n, k), accumulate ? Fill.Normal : Fill.Poison, Compare: true),
        ],
        Run = (device, t) => device.Linear.GroupedWeightGradient(t[0], t[1], t[2], t[3], accumulate),
        Flops = 2.0 * counts.Sum() * n * k,
        Bytes = GroupedBytes(counts, n, k, DType.F32),
        RoundedTolerance = TensorCoreSums(counts.Max()),
        Small = small,
    };

    // A list of views as well as a stacked tensor must do: strided experts are given as a list.
    private static ExpertWeights Experts(Tensor stacked) =>
        stacked.IsContiguous ? new(stacked) : new([.. Enumerable.Range(0, (int)stacked.Shape[0]).Select(e => (ScaledTensor)stacked.At(e))]);

    private static Operand RowOffsets(int[] counts) => new(
        "rowOffsets", new Shape(counts.Length + 1), Fill.Custom, DType.I32, Initialize: (tensor, _) =>
        {
            Span<int> offsets = tensor.AsSpan<int>();
            for (int e = 0; e < counts.Length; e++) offsets[e + 1] = offsets[e] + counts[e];
        });

    private static string LinearLabel(int m, int n, int k, int pad, DType type, bool accumulate) =>
        $"M={m} N={n} K={k}{(pad > 0 ? $" pad={pad}" : "")}{(type == DType.BF16 ? " bf16" : "")}{(accumulate ? " accumulate" : "")}";

    private static string GroupedLabel(int[] counts, int n, int k, int pad, DType type, bool accumulate) =>
        $"E={counts.Length} rows={counts.Min()}..{counts.Max()} {LinearLabel(counts.Sum(), n, k, pad, type, accumulate)}";

    private static double LinearBytes(double m, double n, double k, DType type) => 4 * (m * k + m * n) + n * k * type.SizeInBytes();

    private static double GroupedBytes(int[] counts, double n, double k, DType type) =>
        4 * counts.Sum() * (k + n) + counts.Count(c => c > 0) * n * k * type.SizeInBytes();
}

using System.Runtime.InteropServices;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private static readonly (string Name, Func<Random, SamplingRule> Draw)[] SamplingRules =
    [
        ("greedy", _ => default),
        ("plain", random => new(0.7f, 1, 0, 0, random.NextDouble())),
        ("top-k", random => new(1, 1, 0, random.Next(1, 60), random.NextDouble())),
        ("top-p", random => new(1.3f, random.NextSingle(), 0, 0, random.NextDouble())),
        ("min-p", random => new(1, 1, 0.2f * random.NextSingle(), 0, random.NextDouble())),
        ("all filters", random => new(0.5f + random.NextSingle(), random.NextSingle(), 0.1f * random.NextSingle(), random.Next(1, 200), random.NextDouble())),
        ("a cold temperature", random => new(1e-3f, 0.9f, 0, 0, random.NextDouble())),
        ("the last draw", _ => new(1, 0.95f, 0, 0, 1 - 1.0 / (1L << 53))),
        ("a nucleus of one", _ => new(1, 0, 0, 0, 0.999)),
    ];

    /// <summary>Rows of <see cref="ISamplingOperators"/>. Tokens and changed logits are exact.</summary>
    public static IEnumerable<OperatorCase> Samplings() => TokenChoices().Concat(Adjustments());

    private static IEnumerable<OperatorCase> TokenChoices()
    {
        foreach ((int rows, int columns, int pad) in ((int, int, int)[])[(0, 8, 0), (3, 1, 0), (40, 17, 5), (9, 1024, 0), (9, 1025, 0), (16, 8192, 0), (4, 129280, 0)])
        {
            foreach ((string rule, Func<Random, SamplingRule> draw) in SamplingRules)
            {
                foreach ((string kind, Action<Tensor, Random>? fill) in LogitFills)
                {
                    if (columns > 8192 && fill is not null) continue;
                    yield return new OperatorCase
                    {
                        Name = "sampling.choose",
                        Label = $"M={rows} V={columns} pad={pad} {rule} {kind} logits",
                        Operands =
                        [
                            new("logits", new Shape(rows, columns), fill is null ? Fill.Normal : Fill.Custom, PadColumns: pad, Initialize: fill),
                            new("rules", new Shape(rows, SamplingRule.Bytes), Fill.Custom, DType.U8, Initialize: (tensor, random) =>
                            {
                                foreach (ref SamplingRule one in MemoryMarshal.Cast<byte, SamplingRule>(tensor.AsSpan<byte>())) one = draw(random);
                            }),
                            new("tokens", new Shape(rows), Fill.Custom, DType.I32, Compare: true, Initialize: PoisonIntegers),
                        ],
                        Run = (device, t) => device.Sampling.Choose(t[0], default, t[1], t[2]),
                        Bytes = 4.0 * rows * columns,
                    };
                }
            }
        }
    }

    // Rows out of order, changes of any number, masks wider than the vocabulary, rows without changes or without a mask, tokens chosen after.
    private static IEnumerable<OperatorCase> Adjustments()
    {
        foreach ((int rows, int adjusted, int columns, int pad, int most) in ((int, int, int, int, int)[])[(1, 1, 1, 0, 1), (5, 3, 33, 7, 4), (9, 9, 1000, 0, 40), (4, 2, 8192, 0, 3000), (3, 3, 129280, 0, 200), (4, 0, 50, 0, 0)])
        {
            int masks = (adjusted + 1) / 2, words = columns / 64 * 2 + 2;
            yield return new OperatorCase
            {
                Name = "sampling.adjust",
                Label = $"M={rows} N={adjusted} V={columns} pad={pad} changes={most}",
                Operands =
                [
                    new("logits", new Shape(rows, columns), Fill.Normal, Compare: true, PadColumns: pad),
                    new("rows", new Shape(adjusted, AdjustedRow.Bytes), Fill.Custom, DType.U8, Initialize: (tensor, _) =>
                    {
                        Span<AdjustedRow> all = MemoryMarshal.Cast<byte, AdjustedRow>(tensor.AsSpan<byte>());
                        for (int i = 0; i < all.Length; i++) all[i] = new AdjustedRow(rows - 1 - i, i * most, i == 1 ? 0 : most, i % 2 == 0 ? i / 2 : -1);
                    }),
                    new("changes", new Shape(adjusted * most, LogitChange.Bytes), Fill.Custom, DType.U8, Initialize: (tensor, random) =>
                    {
                        Span<LogitChange> all = MemoryMarshal.Cast<byte, LogitChange>(tensor.AsSpan<byte>());
                        for (int i = 0; i < all.Length; i++)
                        {
                            float bias = random.Next(9) == 0 ? float.NegativeInfinity : random.Next(2) * OperatorCase.Normal(random);
                            all[i] = new LogitChange(i % most * (columns / Math.Max(1, most)), bias, random.Next(2) == 0 ? 1 : 0.5f + random.NextSingle(), random.Next(2) * random.NextSingle());
                        }
                    }),
                    new("masks", new Shape(masks, words), Fill.Custom, DType.I32, Initialize: (tensor, random) =>
                    {
                        foreach (ref int word in tensor.AsSpan<int>()) word = random.Next(3) switch { 0 => -1, 1 => 0, _ => random.Next(int.MinValue, int.MaxValue) };
                    }),
                    new("which", new Shape(adjusted), Fill.Custom, DType.I32, Initialize: (tensor, random) =>
                    {
                        foreach (ref int row in tensor.AsSpan<int>()) row = random.Next(rows);
                    }),
                    new("rules", new Shape(adjusted, SamplingRule.Bytes), Fill.Custom, DType.U8, Initialize: (tensor, random) =>
                    {
                        foreach (ref SamplingRule one in MemoryMarshal.Cast<byte, SamplingRule>(tensor.AsSpan<byte>())) one = new SamplingRule(1, 1, 0, 0, random.NextDouble());
                    }),
                    new("tokens", new Shape(adjusted), Fill.Custom, DType.I32, Compare: true, Initialize: PoisonIntegers),
                ],
                Run = (device, t) =>
                {
                    device.Sampling.Adjust(t[0], t[1], t[2], t[3]);
                    device.Sampling.Choose(t[0], t[4], t[5], t[6]);
                },
                Bytes = 4.0 * adjusted * columns,
                Tolerance = 0,
            };
        }
    }
}

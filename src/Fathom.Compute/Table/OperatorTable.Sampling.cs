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

    /// <summary>Rows of <see cref="ISamplingOperators"/>. Tokens are exact.</summary>
    public static IEnumerable<OperatorCase> Samplings()
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
                        Run = (device, t) => device.Sampling.Choose(t[0], t[1], t[2]),
                        Bytes = 4.0 * rows * columns,
                    };
                }
            }
        }
    }
}

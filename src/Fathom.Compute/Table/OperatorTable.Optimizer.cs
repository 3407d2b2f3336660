using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    /// <summary>Rows of <see cref="IOptimizerOperators"/>; all exact.</summary>
    public static IEnumerable<OperatorCase> Optimizers()
    {
        (int Elements, long Step, float Decay, bool Small)[] cases =
        [
            (0, 1, 0.1f, true), (1, 1, 0, true), (67, 1, 0.1f, true), (1000, 1000, 0.1f, true), (40_001, 3, 0, true), (16 << 20, 10, 0.1f, false),
        ];
        foreach ((int elements, long number, float decay, bool small) in cases)
        {
            var shape = new Shape(elements);
            var step = new AdamWStep(2.2e-4f, 0.9f, 0.95f, 1e-8f, decay, number, 0.7f);
            foreach (DType moments in (DType[])[DType.F32, DType.BF16])
            {
                yield return new OperatorCase
                {
                    Name = "optimizer.adamw",
                    Label = $"{elements} elements, step {number}, decay {decay}{(moments == DType.BF16 ? ", bf16 moments" : "")}",
                    Operands =
                    [
                        new("weights", shape, Fill.Weight, Compare: true),
                        new("gradients", shape, Fill.Custom, Initialize: From((_, random) => 1e-3f * OperatorCase.Normal(random))),
                        new("firstMoment", shape, Fill.Custom, moments, Compare: true, Initialize: Moments(random => 1e-3f * OperatorCase.Normal(random))),
                        new("secondMoment", shape, Fill.Custom, moments, Compare: true, Initialize: Moments(random => 1e-6f * random.NextSingle())),
                    ],
                    Run = (device, t) => device.Optimizer.AdamW(t[0], t[1], t[2], t[3], step),
                    Bytes = (moments == DType.BF16 ? 20.0 : 28.0) * elements,
                    Tolerance = 0,
                    Small = small,
                };
            }

            yield return new OperatorCase
            {
                Name = "optimizer.average",
                Label = $"{elements} elements, one thread",
                Operands = [new("average", shape, Fill.Normal, Compare: true, InHostMemory: true), new("weights", shape, Fill.Normal)],
                Run = static (device, t) => device.Optimizer.Average(t[0], t[1], 1e-3f),
                Bytes = 12.0 * elements,
                Tolerance = 0,
                Small = small,
            };
        }
    }

    /// <summary>A moment's contents in F32 or BF16.</summary>
    private static Action<Tensor, Random> Moments(Func<Random, float> value) => (tensor, random) =>
    {
        for (int i = 0; i < tensor.Elements; i++)
        {
            if (tensor.DType == DType.F32) tensor.AsSpan<float>()[i] = value(random);
            else tensor.AsSpan<ushort>()[i] = ((BFloat16)value(random)).Bits;
        }
    };
}

using Fathom.Compute.Operators;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    /// <summary>Rows of <see cref="IOptimizerOperators"/>.</summary>
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
            yield return new OperatorCase
            {
                Name = "optimizer.adamw",
                Label = $"{elements} elements, step {number}, decay {decay}",
                Operands =
                [
                    new("weights", shape, Fill.Weight, Compare: true),
                    new("gradients", shape, Fill.Custom, Initialize: From((_, random) => 1e-3f * OperatorCase.Normal(random))),
                    new("firstMoment", shape, Fill.Custom, Compare: true, Initialize: From((_, random) => 1e-3f * OperatorCase.Normal(random))),
                    new("secondMoment", shape, Fill.Custom, Compare: true, Initialize: From((_, random) => 1e-6f * random.NextSingle())),
                ],
                Run = (device, t) => device.Optimizer.AdamW(t[0], t[1], t[2], t[3], step),
                Bytes = 28.0 * elements,
                Small = small,
            };
        }
    }
}

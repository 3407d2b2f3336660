using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Table;

public static partial class OperatorTable
{
    private static readonly (string Name, RoutingOptions Options)[] Routers =
    [
        ("V3", new(256, 8, 8, 4, ScoringFunction.Sigmoid, TopKMethod.NoAuxTc, true, 2.5f)),
        ("V2", new(160, 6, 8, 3, ScoringFunction.Softmax, TopKMethod.GroupLimitedGreedy, false, 16)),
        ("V2-Lite", new(64, 6, 1, 1, ScoringFunction.Softmax, TopKMethod.Greedy, false, 1)),
        ("small", new(16, 4, 4, 2, ScoringFunction.Sigmoid, TopKMethod.NoAuxTc, true, 1)),
        ("odd", new(15, 3, 5, 2, ScoringFunction.Sigmoid, TopKMethod.NoAuxTc, true, 1.5f)),
        ("groups of one", new(6, 2, 6, 3, ScoringFunction.Softmax, TopKMethod.NoAuxTc, true, 1)),
        ("one expert", new(1, 1, 1, 1, ScoringFunction.Sigmoid, TopKMethod.Greedy, true, 1)),
        ("fewer kept than chosen", new(8, 4, 4, 1, ScoringFunction.Sigmoid, TopKMethod.NoAuxTc, true, 1)),
    ];

    /// <summary>Rows of <see cref="IRoutingOperators"/>. Choices, loads and movement are exact.</summary>
    public static IEnumerable<OperatorCase> Routings() => [.. Choices(), .. ChoiceGradients(), .. BalanceLosses(), .. Movements(), .. Biases()];

    private static IEnumerable<OperatorCase> Choices()
    {
        foreach ((string name, RoutingOptions o) in Routers)
        {
            foreach (int tokens in (int[])[0, 1, 37, 150, 4096])
            {
                foreach ((string kind, Action<Tensor, Random>? fill) in LogitFills)
                {
                    bool small = tokens < 4096;
                    if ((!small || tokens == 1) && fill is not null) continue;
                    yield return new OperatorCase
                    {
                        Name = "routing.choose",
                        Label = $"{name} M={tokens} E={o.Experts} K={o.TopK} {kind} logits",
                        Operands =
                        [
                            new("logits", new Shape(tokens, o.Experts), fill is null ? Fill.Normal : Fill.Custom, Initialize: fill),
                            new("bias", new Shape(o.Experts), Fill.Custom, Initialize: From((_, random) => 0.1f * OperatorCase.Normal(random))),
                            new("scores", new Shape(tokens, o.Experts), Fill.Poison, Compare: true, PadColumns: 3),
                            new("experts", new Shape(tokens, o.TopK), Fill.Custom, DType.I32, Compare: true, PadColumns: 1, Initialize: PoisonIntegers),
                            new("gates", new Shape(tokens, o.TopK), Fill.Poison, Compare: true),
                            new("load", new Shape(o.Experts), Fill.Poison, DType.I64, Compare: true),
                        ],
                        Run = (device, t) => device.Routing.Choose(t[0], t[1], o, t[2], t[3], t[4], t[5]),
                        Bytes = 8.0 * tokens * o.Experts,
                        Tolerance = 2e-7,
                        Small = small,
                    };
                }
            }
        }
    }

    private static IEnumerable<OperatorCase> ChoiceGradients()
    {
        foreach ((string name, RoutingOptions o) in Routers)
        {
            foreach (int tokens in (int[])[0, 6, 140, 4096])
            {
                foreach (bool balanced in (bool[])[false, true])
                {
                    yield return new OperatorCase
                    {
                        Name = "routing.choose_gradient",
                        Label = $"{name} M={tokens} E={o.Experts} K={o.TopK} balanced={balanced}",
                        Operands =
                        [
                            new("dgates", new Shape(tokens, o.TopK), Fill.Normal),
                            new("scores", new Shape(tokens, o.Experts), Fill.Positive),
                            new("experts", new Shape(tokens, o.TopK), Fill.Custom, DType.I32, Initialize: DifferentExperts(o.Experts)),
                            new("gates", new Shape(tokens, o.TopK), Fill.Positive),
                            new("frequencies", new Shape(2, o.Experts), Fill.Positive),
                            new("dlogits", new Shape(tokens, o.Experts), Fill.Poison, Compare: true, PadColumns: 1),
                        ],
                        Run = (device, t) => device.Routing.ChooseGradient(
                            t[0], t[1], t[2], t[3], o, balanced ? t[4] : default, balanced ? 0.3f : 0, t[5]),
                        Bytes = 8.0 * tokens * o.Experts,
                        Small = tokens < 4096,
                    };
                }
            }
        }
    }

    private static IEnumerable<OperatorCase> BalanceLosses()
    {
        (int Batch, int Sequence, int Experts, int TopK, bool Small)[] cases =
            [(1, 1, 4, 2, true), (3, 65, 15, 3, true), (2, 300, 64, 6, true), (2, 40, 256, 8, true), (8, 512, 64, 6, false), (1, 4096, 256, 8, false)];
        foreach ((int batch, int sequence, int experts, int topK, bool small) in cases)
        {
            yield return new OperatorCase
            {
                Name = "routing.balance_loss",
                Label = $"B={batch} T={sequence} E={experts} K={topK}",
                Operands =
                [
                    new("scores", new Shape(batch * sequence, experts), Fill.Positive, PadColumns: 1),
                    new("frequencies", new Shape(batch, experts), Fill.Poison, Compare: true),
                    new("losses", new Shape(batch), Fill.Poison, Compare: true),
                ],
                Run = (device, t) => device.Routing.BalanceLoss(t[0], topK, batch, t[1], t[2]),
                Bytes = 4.0 * batch * sequence * experts,
                Small = small,
            };
        }
    }

    private static IEnumerable<OperatorCase> Movements()
    {
        (int Tokens, int TopK, int Experts, int Columns, int Pad, bool Small)[] cases =
            [(0, 2, 4, 8, 0, true), (1, 1, 1, 1, 0, true), (37, 3, 15, 17, 5, true), (50, 6, 64, 130, 0, true), (4096, 6, 64, 384, 0, false), (4096, 8, 256, 1024, 0, false)];
        foreach ((int tokens, int topK, int experts, int columns, int pad, bool small) in cases)
        {
            int slots = tokens * topK;
            string label = $"M={tokens} K={topK} E={experts} D={columns} pad={pad}";
            Operand slotOfRow = new("slotOfRow", new Shape(slots), Fill.Custom, DType.I32, Initialize: Permutation);
            Operand rowOfSlot = new("rowOfSlot", new Shape(tokens, topK), Fill.Custom, DType.I32, Initialize: InversePermutation);
            OperatorCase Row(string name, double bytes, Action<Device, Tensor[]> run, double tolerance, params Operand[] operands) => new()
            {
                Name = "routing." + name,
                Label = label,
                Operands = operands,
                Run = run,
                Bytes = bytes,
                Tolerance = tolerance,
                Small = small,
            };

            yield return Row(
                "sort", 12.0 * slots, static (device, t) => device.Routing.Sort(t[0], t[1], t[2], t[3]), 0,
                new("experts", new Shape(tokens, topK), Fill.Custom, DType.I32, Initialize: DifferentExperts(experts)),
                new("rowOffsets", new Shape(experts + 1), Fill.Custom, DType.I32, Compare: true, Initialize: PoisonIntegers),
                new("slotOfRow", new Shape(slots), Fill.Custom, DType.I32, Compare: true, Initialize: PoisonIntegers),
                new("rowOfSlot", new Shape(tokens, topK), Fill.Custom, DType.I32, Compare: true, Initialize: PoisonIntegers));
            yield return Row(
                "dispatch", 8.0 * slots * columns, (device, t) => device.Routing.Dispatch(t[0], t[1], topK, t[2]), 0,
                new("x", new Shape(tokens, columns), Fill.Normal, PadColumns: pad, Activation: true),
                slotOfRow,
                new("y", new Shape(slots, columns), Fill.Poison, Compare: true, Activation: true));
            foreach (bool accumulate in (bool[])[false, true])
            {
                yield return Row(
                    "combine", 4.0 * (topK + 1) * tokens * columns, (device, t) => device.Routing.Combine(t[0], t[1], t[2], accumulate), 2e-6,
                    new("y", new Shape(slots, columns), Fill.Normal, Activation: true),
                    rowOfSlot,
                    new("output", new Shape(tokens, columns), accumulate ? Fill.Normal : Fill.Poison, Compare: true, PadColumns: pad, Activation: true));
            }

            yield return Row(
                "slots_to_rows", 12.0 * slots, static (device, t) => device.Routing.SlotsToRows(t[0], t[1], t[2]), 0,
                new("from", new Shape(tokens, topK), Fill.Normal),
                slotOfRow,
                new("to", new Shape(slots), Fill.Poison, Compare: true));
            yield return Row(
                "rows_to_slots", 12.0 * slots, static (device, t) => device.Routing.RowsToSlots(t[0], t[1], t[2]), 0,
                new("from", new Shape(slots), Fill.Normal),
                slotOfRow,
                new("to", new Shape(tokens, topK), Fill.Poison, Compare: true));
        }
    }

    private static IEnumerable<OperatorCase> Biases()
    {
        foreach (int experts in (int[])[1, 7, 256])
        {
            yield return new OperatorCase
            {
                Name = "routing.update_bias",
                Label = $"E={experts}",
                Operands =
                [
                    new("bias", new Shape(experts), Fill.Normal, Compare: true),
                    new("load", new Shape(experts), Fill.Custom, DType.I64, Initialize: static (tensor, random) =>
                    {
                        foreach (ref long load in tensor.AsSpan<long>()) load = random.Next(20);
                    }),
                ],
                Run = static (device, t) => device.Routing.UpdateBias(t[0], t[1], 0.001f),
                Bytes = 16.0 * experts,
                Tolerance = 0,
            };
        }
    }
}

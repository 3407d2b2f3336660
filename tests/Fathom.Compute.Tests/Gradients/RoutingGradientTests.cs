// The gates and the balance loss have gradients, the choice has none: the logits of these tests lie so far apart that no step changes
// a choice. Dispatch and combine are linear, so it suffices that each is the other's transpose.
using Fathom.Compute.Operators;
using Fathom.Compute.Reference;
using Fathom.Numerics;
using Xunit;
using static Fathom.Compute.Tests.Gradients.FiniteDifferences;

namespace Fathom.Compute.Tests.Gradients;

public sealed class RoutingGradientTests(ITestOutputHelper output)
{
    public static TheoryData<ScoringFunction, TopKMethod, bool, float> Routers()
    {
        var routers = new TheoryData<ScoringFunction, TopKMethod, bool, float>();
        foreach (ScoringFunction scoring in Enum.GetValues<ScoringFunction>())
        {
            foreach (TopKMethod method in Enum.GetValues<TopKMethod>())
            {
                foreach (bool normalize in (bool[])[false, true])
                {
                    routers.Add(scoring, method, normalize, 0);
                    routers.Add(scoring, method, normalize, 0.5f);
                }
            }
        }

        return routers;
    }

    [Theory]
    [MemberData(nameof(Routers))]
    public void Gates_and_balance_loss(ScoringFunction scoring, TopKMethod method, bool normalize, float balanceScale)
    {
        const int Tokens = 4, Experts = 8, K = 3, Batch = 2;
        using var device = new ReferenceDevice();
        var options = new RoutingOptions(Experts, K, 4, 2, scoring, method, normalize, 1.7f);
        Tensor logits = SeparatedLogits(device, Tokens, Experts), bias = Random(device, 5, new Shape(Experts));
        foreach (ref float value in bias.AsSpan<float>()) value *= 0.01f;
        var matrix = new Shape(Tokens, Experts);
        var chosen = new Shape(Tokens, K);
        Tensor scores = Zeros(device, matrix), experts = Zeros(device, chosen, DType.I32), gates = Zeros(device, chosen);
        Tensor load = Zeros(device, new Shape(Experts), DType.I64), dgates = Random(device, 6, chosen), dlogits = Zeros(device, matrix);
        Tensor frequencies = Zeros(device, new Shape(Batch, Experts)), losses = Zeros(device, new Shape(Batch));
        double Loss()
        {
            device.Routing.Choose(logits, bias, options, scores, experts, gates, load);
            device.Routing.BalanceLoss(scores, K, Batch, frequencies, losses);
            return Dot(gates, dgates) + balanceScale * (losses.AsSpan<float>()[0] + (double)losses.AsSpan<float>()[1]);
        }

        Loss();
        int[] first = experts.AsSpan<int>().ToArray();
        float[] firstFrequencies = frequencies.AsSpan<float>().ToArray();
        device.Routing.ChooseGradient(dgates, scores, experts, gates, options, balanceScale == 0 ? default : frequencies, balanceScale, dlogits);
        Check(output, "dlogits", logits, dlogits, () =>
        {
            double loss = Loss();
            Assert.Equal(first, experts.AsSpan<int>());
            Assert.Equal(firstFrequencies, frequencies.AsSpan<float>());
            return loss;
        });
    }

    [Fact]
    public void Dispatch_and_combine_are_transposes()
    {
        const int Tokens = 5, K = 2, Experts = 4, Columns = 3;
        using var device = new ReferenceDevice();
        Tensor experts = Integers(device, 3, 0, 1, 3, 0, 1, 3, 2, 0, 3).Reshape(new Shape(Tokens, K));
        Tensor offsets = Zeros(device, new Shape(Experts + 1), DType.I32), slotOfRow = Zeros(device, new Shape(Tokens * K), DType.I32);
        Tensor rowOfSlot = Zeros(device, new Shape(Tokens, K), DType.I32);
        device.Routing.Sort(experts, offsets, slotOfRow, rowOfSlot);
        Tensor x = Random(device, 1, new Shape(Tokens, Columns)), y = Random(device, 2, new Shape(Tokens * K, Columns));
        Tensor dispatched = Zeros(device, new Shape(Tokens * K, Columns)), combined = Zeros(device, new Shape(Tokens, Columns));
        device.Routing.Dispatch(x, slotOfRow, K, dispatched);
        device.Routing.Combine(y, rowOfSlot, combined);
        Agree("<dispatch x, y> and <x, combine y>", Dot(dispatched, y), Dot(x, combined));

        Tensor bySlot = Random(device, 3, new Shape(Tokens, K)), byRow = Random(device, 4, new Shape(Tokens * K));
        Tensor moved = Zeros(device, new Shape(Tokens * K)), back = Zeros(device, new Shape(Tokens, K));
        device.Routing.SlotsToRows(bySlot, slotOfRow, moved);
        device.Routing.RowsToSlots(byRow, slotOfRow, back);
        Agree("<rows a, b> and <a, slots b>", Dot(moved, byRow), Dot(bySlot, back));
    }

    private void Agree(string what, double left, double right)
    {
        output.WriteLine($"{what}: {left:R}, {right:R}");
        Assert.Equal(left, right, 1e-6 * Math.Abs(left));
    }

    // Each row holds the multiples of 0.4 in another order.
    private static Tensor SeparatedLogits(Device device, int tokens, int experts)
    {
        Tensor logits = Zeros(device, new Shape(tokens, experts));
        var random = new Random(3);
        for (int t = 0; t < tokens; t++)
        {
            Span<float> row = logits.Row<float>(t);
            for (int e = 0; e < experts; e++) row[e] = 0.4f * (e - experts / 2);
            random.Shuffle(row);
        }

        return logits;
    }
}

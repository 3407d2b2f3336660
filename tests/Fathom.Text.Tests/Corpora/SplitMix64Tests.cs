using Xunit;

namespace Fathom.Text.Tests.Corpora;

public sealed class SplitMix64Tests(ITestOutputHelper output)
{
    [Fact]
    public void The_stream_of_key_0_is_the_published_one()
    {
        SplitMix64 random = new(0);
        Assert.Equal([0xE220A8397B1DCDAFUL, 0x6E789E6AA1B965F4UL, 0x06C45D188009454FUL], [random.Next(), random.Next(), random.Next()]);
    }

    [Fact]
    public void Bounded_numbers_fill_their_range_evenly()
    {
        const int bins = 10, draws = 100_000;
        int[] counts = new int[bins];
        for (int i = 0; i < draws; i++) counts[new SplitMix64(SplitMix64.Key(1, 2, (ulong)i)).NextBelow(bins)]++;
        double chiSquare = counts.Sum(static c => Math.Pow(c - draws / bins, 2) / (draws / bins));
        output.WriteLine($"chi-square over keys with 9 degrees of freedom: {chiSquare:f2} (99.99 % quantile 33.7)");
        Assert.InRange(chiSquare, 0, 33.7);
    }

    [Fact]
    public void Seeds_purposes_and_counters_do_not_stand_in_for_one_another()
    {
        HashSet<ulong> keys = [];
        for (ulong seed = 0; seed < 20; seed++)
            for (ulong purpose = 0; purpose < 20; purpose++)
                for (ulong counter = 0; counter < 20; counter++) keys.Add(SplitMix64.Key(seed, purpose, counter));
        Assert.Equal(8000, keys.Count);
    }
}

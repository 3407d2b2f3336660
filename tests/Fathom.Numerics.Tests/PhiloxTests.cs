// Known answers from the generator's authors (Random123, kat_vectors), independence of how a stream is cut into pieces, and
// the moments of the distributions.
using Xunit;

namespace Fathom.Numerics.Tests;

public sealed class PhiloxTests(ITestOutputHelper output)
{
    [Fact]
    public void Known_answers()
    {
        Assert.Equal((0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u), Philox.Generate(0, 0, 0, 0, 0, 0));
        uint f = uint.MaxValue;
        Assert.Equal((0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu), Philox.Generate(f, f, f, f, f, f));
        Assert.Equal(
            (0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u),
            Philox.Generate(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0));
    }

    [Fact]
    public void The_counter_is_block_then_stream_and_the_key_is_the_seed()
    {
        var random = new Philox(0x299f31d0a4093822, 0x0370734413198a2e);
        Assert.Equal((0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u), random.Block(0x85a308d3243f6a88));
    }

    [Fact]
    public void A_stream_does_not_depend_on_how_it_is_cut()
    {
        var random = new Philox(42, "model.layers.0.mlp.up_proj.weight");
        float[] whole = new float[1000], uniform = new float[1000];
        random.FillNormal(whole, 0.5f, 2);
        random.FillUniform(uniform);
        for (int piece = 1; piece < 40; piece++)
        {
            float[] part = new float[1000], uniformPart = new float[1000];
            for (int i = 0; i < part.Length; i += piece)
            {
                int length = Math.Min(piece, part.Length - i);
                random.FillNormal(part.AsSpan(i, length), 0.5f, 2, (ulong)i);
                random.FillUniform(uniformPart.AsSpan(i, length), (ulong)i);
            }

            Assert.Equal(whole, part);
            Assert.Equal(uniform, uniformPart);
        }

        Assert.Equal(0.5f + 2 * random.Normal(3), whole[3]);
        Assert.Equal(random.Uniform(5), uniform[5]);
        Assert.Equal(random.UInt32(6) | (ulong)random.UInt32(7) << 32, random.UInt64(3));
    }

    [Fact]
    public void Moments_are_those_of_the_distributions()
    {
        const int Count = 1 << 18;
        float[] x = new float[Count];
        new Philox(1, "normal").FillNormal(x, 0, 1);
        double mean = x.Average(v => (double)v), variance = x.Average(v => (double)v * v), fourth = x.Average(v => Math.Pow(v, 4));
        new Philox(1, "uniform").FillUniform(x);
        double uniform = x.Average(v => (double)v), square = x.Average(v => (double)v * v);
        output.WriteLine($"normal: mean {mean:E2}, variance {variance:F4}, kurtosis {fourth:F3}; uniform: {uniform:F4}, {square:F4}");
        Assert.All(x, v => Assert.InRange(v, 0f, 0.99999994f));

        // Five standard errors of each estimate.
        double error = 5 / Math.Sqrt(Count);
        Assert.InRange(mean, -error, error);
        Assert.InRange(variance, 1 - error * Math.Sqrt(2), 1 + error * Math.Sqrt(2));
        Assert.InRange(fourth, 3 - error * Math.Sqrt(96), 3 + error * Math.Sqrt(96));
        Assert.InRange(uniform, 0.5 - error * 0.289, 0.5 + error * 0.289);
        Assert.InRange(square, 1.0 / 3 - error * 0.299, 1.0 / 3 + error * 0.299);
    }

    [Fact]
    public void Integers_stay_below_their_limit_and_reach_every_value()
    {
        var random = new Philox(9, 1);
        int[] counts = new int[7];
        for (ulong i = 0; i < 7000; i++) counts[random.Integer(i, 7)]++;
        output.WriteLine(string.Join(' ', counts));
        Assert.All(counts, c => Assert.InRange(c, 850, 1150)); // five standard deviations of 29
        Assert.Throws<ArgumentOutOfRangeException>(() => random.Integer(0, 0));
    }

    [Fact]
    public void Streams_and_seeds_differ()
    {
        Assert.NotEqual(Philox.StreamOf("a"), Philox.StreamOf("b"));
        Assert.Equal(0x089BE207B544F1E4ul, Philox.StreamOf("a")); // FNV-1a of the bytes 0x61 0x00
        Assert.NotEqual(new Philox(1, "a").Block(0), new Philox(1, "b").Block(0));
        Assert.NotEqual(new Philox(1, "a").Block(0), new Philox(2, "a").Block(0));
    }
}

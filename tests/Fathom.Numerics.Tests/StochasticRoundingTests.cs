// Stochastic rounding: only neighbours, exact values unmoved, the mean kept, and nothing but seed, stream and index decides.
using Xunit;

namespace Fathom.Numerics.Tests;

public sealed class StochasticRoundingTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("bf16", 1.003f)]
    [InlineData("bf16", -3.1415927f)]
    [InlineData("e4m3", 1.03f)]
    [InlineData("e4m3", -300f)]
    [InlineData("e4m3", 0.0015f)]
    [InlineData("e4m3", 0.0001f)]
    public void Results_are_neighbours_and_their_mean_is_the_value(string format, float value)
    {
        const int Count = 1 << 18;
        float[] x = new float[Count];
        Array.Fill(x, value);
        float[] rounded = Round(format, x, new Philox(5, "stochastic"), 0);
        float[] found = [.. rounded.Distinct().Order()];
        Assert.Equal(2, found.Length);
        Assert.True(found[0] < value && value < found[1]);
        Assert.Equal(1, Math.Abs(Code(format, found[1]) - Code(format, found[0])));
        double mean = rounded.Average(v => (double)v), step = found[1] - found[0], p = (value - found[0]) / step;
        double error = step * Math.Sqrt(p * (1 - p) / Count);
        output.WriteLine($"{format}({value:R}): {found[0]:R} or {found[1]:R}, mean off by {(mean - value) / error:F2} standard errors");
        Assert.InRange(Math.Abs(mean - value), 0, 5 * error);
    }

    [Theory]
    [InlineData("bf16")]
    [InlineData("e4m3")]
    public void Values_of_the_format_stay_and_pieces_make_the_whole(string format)
    {
        float[] exact = format == "bf16"
            ? [.. Enumerable.Range(0, 65536).Select(c => (float)BFloat16.FromBits((ushort)c))]
            : [.. Enumerable.Range(0, 256).Select(c => (float)Float8E4M3.FromBits((byte)c))];
        var random = new Philox(6, "stay");
        float[] same = Round(format, exact, random, 3);
        for (int i = 0; i < exact.Length; i++) Assert.True(exact[i].Equals(same[i]), $"{exact[i]:R} became {same[i]:R}");

        float[] x = new float[1000];
        random.FillNormal(x, 0, 1);
        float[] whole = Round(format, x, random, 7);
        for (int piece = 1; piece < 20; piece++)
        {
            for (int i = 0; i < x.Length; i += piece)
            {
                int length = Math.Min(piece, x.Length - i);
                Assert.Equal(whole[i..(i + length)], Round(format, x[i..(i + length)], random, 7 + (ulong)i));
            }
        }
    }

    [Fact]
    public void The_lower_bits_of_the_number_at_the_index_decide()
    {
        var random = new Philox(7, "bits");
        float[] x = new float[4096];
        random.FillNormal(x, 0, 1, 99);
        ushort[] words = new ushort[x.Length];
        byte[] bytes = new byte[x.Length];
        NumberFormats.ConvertSingleToBFloat16(x, words, random, 5);
        NumberFormats.ConvertSingleToE4M3(x, bytes, saturate: true, random, 5);
        for (int i = 0; i < x.Length; i++)
        {
            uint number = random.UInt32(5 + (ulong)i), magnitude = BitConverter.SingleToUInt32Bits(x[i]) & 0x7FFFFFFF;
            float up = BitConverter.UInt32BitsToSingle((magnitude & 0xFFFF0000) + ((magnitude & 0xFFFF) + (number & 0xFFFF) > 0xFFFF ? 0x10000u : 0));
            Assert.Equal(MathF.CopySign(up, x[i]), BFloat16.FromBits(words[i]));
            double step = Math.Max(Math.ScaleB(1, -9), Math.ScaleB(1, Math.ILogB(x[i]) - 3)), below = Math.Floor(Math.Abs(x[i]) / step);
            bool carries = Math.Floor((Math.Abs(x[i]) / step - below) * (1 << 20)) + (number & 0xFFFFF) >= 1 << 20;
            Assert.Equal((float)Math.CopySign((below + (carries ? 1 : 0)) * step, x[i]), Float8E4M3.FromBits(bytes[i]));
        }
    }

    [Fact]
    public void The_end_of_the_range_saturates_or_not()
    {
        float[] x = [449, 1e9f, float.PositiveInfinity, float.NaN];
        byte[] codes = new byte[4];
        NumberFormats.ConvertSingleToE4M3(x, codes, saturate: true, new Philox(1, 1));
        Assert.Equal(new byte[] { 0x7E, 0x7E, 0x7E, 0xFF }, codes); // float.NaN has its sign bit set
        NumberFormats.ConvertSingleToE4M3(x, codes, saturate: false, new Philox(1, 1));
        Assert.Equal(new byte[] { 0x7F, 0x7F, 0xFF }, codes[1..]);
    }

    private static float[] Round(string format, float[] x, Philox random, ulong first)
    {
        float[] result = new float[x.Length];
        if (format == "bf16")
        {
            ushort[] codes = new ushort[x.Length];
            NumberFormats.ConvertSingleToBFloat16(x, codes, random, first);
            NumberFormats.ConvertBFloat16ToSingle(codes, result);
        }
        else
        {
            byte[] codes = new byte[x.Length];
            NumberFormats.ConvertSingleToE4M3(x, codes, saturate: true, random, first);
            NumberFormats.ConvertE4M3ToSingle(codes, result);
        }

        return result;
    }

    private static int Code(string format, float value) => format == "bf16" ? ((BFloat16)value).Bits : ((Float8E4M3)value).Bits;
}

// The formats without golden casts: HiFloat8 by its golden values and the definition of its rounding, E5M6 by exhaustive search for the
// nearest value, UE8M0 by the definition of rounding up.
using System.Globalization;
using System.Text.Json;
using Fathom.Testing;
using Xunit;

namespace Fathom.Numerics.Tests;

public sealed class TaperedAndScaleTests(ITestOutputHelper output)
{
    [Fact]
    public void Every_HiFloat8_pattern_has_the_golden_value_and_returns()
    {
        string[] golden = JsonSerializer.Deserialize<string[]>(File.ReadAllText(Golden.Fixture("number-formats", "hif8_values.json")))!;
        Assert.Equal(256, golden.Length);
        for (int code = 0; code < 256; code++)
        {
            float expected = golden[code] switch
            {
                "nan" => float.NaN,
                "inf" => float.PositiveInfinity,
                "-inf" => float.NegativeInfinity,
                string number => float.Parse(number, CultureInfo.InvariantCulture),
            };
            float value = HiFloat8.FromBits((byte)code);
            Assert.True(expected.Equals(value), $"0x{code:X2} is {value:R}, expected {expected:R}");
            Assert.Equal(code, HiFloat8.FromSingle(value, saturate: false).Bits);
        }

        output.WriteLine("256 values exact, 256 patterns return");
    }

    [Fact]
    public void HiFloat8_rounds_to_nearest_and_half_away_from_zero()
    {
        float[] values = [.. Enumerable.Range(0, 256).Select(c => (float)HiFloat8.FromBits((byte)c)).Where(v => v >= 0 && float.IsFinite(v)).Order()];
        int ties = 0;
        for (int i = 0; i + 1 < values.Length; i++)
        {
            float middle = (values[i] + values[i + 1]) / 2;
            foreach (float sign in new[] { 1f, -1f })
            {
                AssertRounds(sign * middle, sign * values[i + 1]);
                AssertRounds(sign * MathF.BitIncrement(middle), sign * values[i + 1]);
                AssertRounds(sign * MathF.BitDecrement(middle), sign * values[i]);
                ties++;
            }
        }

        AssertRounds(MathF.BitDecrement(40960), 32768);
        Assert.Equal(0x6F, HiFloat8.FromSingle(40960, saturate: false).Bits);
        Assert.Equal(0xEF, HiFloat8.FromSingle(float.NegativeInfinity, saturate: false).Bits);
        Assert.Equal(0x6E, HiFloat8.FromSingle(40960, saturate: true).Bits);
        Assert.Equal(0xEE, HiFloat8.FromSingle(float.NegativeInfinity, saturate: true).Bits);
        Assert.Equal(0, HiFloat8.FromSingle(-0f, saturate: true).Bits);
        Assert.Equal(0x80, HiFloat8.FromSingle(float.NaN, saturate: true).Bits);
        output.WriteLine($"{ties} midpoints with the singles beside them");

        static void AssertRounds(float x, float expected)
        {
            float actual = HiFloat8.FromSingle(x, saturate: false);
            Assert.True(actual == expected, $"{x:R} became {actual:R}, expected {expected:R}");
        }
    }

    [Fact]
    public void E5M6_finds_the_nearest_value_with_ties_to_even()
    {
        Assert.Equal(65024f, (float)Float12E5M6.MaxValue);
        Assert.Equal(MathF.ScaleB(1, -20), (float)Float12E5M6.FromBits(1));
        Assert.Equal(float.PositiveInfinity, (float)Float12E5M6.FromSingle(65536, saturate: false));
        Assert.Equal(65024f, (float)Float12E5M6.FromSingle(float.PositiveInfinity, saturate: true));
        Assert.True(Float12E5M6.FromSingle(float.NaN, saturate: true).IsNaN);
        for (ushort code = 0; code < 0x7BF; code++)
        {
            float low = Float12E5M6.FromBits(code), high = Float12E5M6.FromBits((ushort)(code + 1)), middle = (low + high) / 2;
            Assert.Equal((float)BitConverter.UInt16BitsToHalf((ushort)(code << 4)), low); // a half without its last four bits
            Assert.Equal(code, ((Float12E5M6)low).Bits);
            Assert.Equal(0x800 | code, ((Float12E5M6)(-low)).Bits);
            Assert.Equal((code + 1) & ~1, ((Float12E5M6)middle).Bits);
            Assert.Equal(code, ((Float12E5M6)MathF.BitDecrement(middle)).Bits);
            Assert.Equal(code + 1, ((Float12E5M6)MathF.BitIncrement(middle)).Bits);
        }

        output.WriteLine("1983 intervals: both ends, the middle and the singles beside it");
    }

    [Fact]
    public void Scales_round_up_to_powers_of_two()
    {
        for (int code = 0; code < 255; code++)
        {
            float value = ScaleE8M0.FromBits((byte)code);
            Assert.Equal(Math.ScaleB(1.0, code - 127), value);
            Assert.Equal(code, ScaleE8M0.FromSingle(value).Bits);
            Assert.Equal(code + 1, ScaleE8M0.FromSingle(MathF.BitIncrement(value)).Bits);
            if (code > 0) Assert.Equal(code, ScaleE8M0.FromSingle(MathF.BitDecrement(value)).Bits);
        }

        Assert.Equal(0, ScaleE8M0.FromSingle(0).Bits);
        foreach (float none in new[] { -1f, float.NaN, float.PositiveInfinity, float.NegativeInfinity, float.MaxValue }) Assert.True(ScaleE8M0.FromSingle(none).IsNaN);
        Assert.True(float.IsNaN(ScaleE8M0.FromBits(255)));
    }

    [Fact]
    public void The_new_types_travel_as_bytes()
    {
        float[] x = [1, -1.5f, 0.25f, 15, 0, 32768], back = new float[6];
        byte[] bytes = new byte[6];
        NumberFormats.ConvertFromSingle(DType.HiF8, x, bytes);
        NumberFormats.ConvertToSingle(DType.HiF8, bytes, back);
        Assert.Equal(x, back);
        NumberFormats.ConvertFromSingle(DType.F8E8M0, [1, 1.25f, 3, 4], bytes.AsSpan(0, 4));
        Assert.Equal(new byte[] { 127, 128, 129, 129 }, bytes[..4]);
        foreach (DType type in Enum.GetValues<DType>())
        {
            bool stored = DTypes.TryParse(type.SafetensorsName(), out DType parsed);
            Assert.Equal(type != DType.E5M6Pair, stored); // packed pairs never stand in a file
            if (stored) Assert.Equal(type, parsed);
        }

        Assert.Equal(("HIF8", 1), (DType.HiF8.SafetensorsName(), DType.HiF8.SizeInBytes()));
    }
}

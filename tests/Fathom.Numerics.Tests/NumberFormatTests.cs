// Bit-exactness of every format against an independent program's casts, of vectors against single values, and of the
// conversions against an exhaustive search for the nearest representable value.
using Xunit;

namespace Fathom.Numerics.Tests;

public sealed class NumberFormatTests(ITestOutputHelper output)
{
    public static TheoryData<string> Formats => ["bf16", "fp16", "e4m3", "e5m2"];

    [Theory]
    [MemberData(nameof(Formats))]
    public void Narrowing_matches_the_golden_casts_bit_for_bit(string format)
    {
        float[] x = GoldenTensors.Casts<float>("x");
        uint[] expected = format is "bf16" or "fp16"
            ? [.. GoldenTensors.Casts<ushort>(format).Select(v => (uint)v)]
            : [.. GoldenTensors.Casts<byte>(format).Select(v => (uint)v)];
        uint[] vector = Narrow(format, x, saturate: false);
        int nan = 0;
        for (int i = 0; i < x.Length; i++)
        {
            uint single = NarrowOne(format, x[i]);
            Assert.True(single == vector[i], $"{format}({x[i]:R}): vector 0x{vector[i]:X}, single 0x{single:X}");
            if (float.IsNaN(x[i]))
            {
                Assert.True(float.IsNaN(WidenOne(format, vector[i])), $"{format}(NaN) is 0x{vector[i]:X}");
                nan++;
                continue;
            }

            Assert.True(expected[i] == vector[i], $"{format}({x[i]:R}): 0x{vector[i]:X}, expected 0x{expected[i]:X}");
        }

        output.WriteLine($"{format}: {x.Length} casts, {nan} of NaN, all bit-exact");
    }

    [Theory]
    [InlineData("e4m3", 448f)]
    [InlineData("e5m2", 57344f)]
    [InlineData("fp16", 65504f)]
    public void Saturation_clamps_to_the_largest_finite_value(string format, float largest)
    {
        float[] x = GoldenTensors.Casts<float>("x");
        uint[] plain = Narrow(format, [.. x.Select(v => Math.Clamp(v, -largest, largest))], saturate: false);
        uint[] saturated = Narrow(format, x, saturate: true);
        Assert.Equal(plain, saturated);
        Assert.Equal(largest, WidenOne(format, Narrow(format, [float.PositiveInfinity], saturate: true)[0]));
        Assert.Equal(-largest, WidenOne(format, Narrow(format, [float.NegativeInfinity], saturate: true)[0]));
        output.WriteLine($"{format}: {x.Length} values, {x.Count(v => Math.Abs(v) > largest)} beyond {largest}");
    }

    [Fact]
    public void Every_eight_bit_pattern_has_the_golden_value()
    {
        foreach (string format in new[] { "e4m3", "e5m2" })
        {
            float[] expected = GoldenTensors.Casts<float>(format + "_values");
            float[] actual = Widen(format, [.. Enumerable.Range(0, 256).Select(i => (uint)i)]);
            for (uint code = 0; code < 256; code++)
            {
                foreach (float value in new[] { actual[code], WidenOne(format, code) })
                    AssertSame(expected[code], value, $"{format} 0x{code:X2}");
            }
        }

        output.WriteLine("2 x 256 patterns exact, by vectors and one by one");
    }

    [Fact]
    public void Every_half_and_bfloat16_survives_the_round_trip()
    {
        uint[] codes = [.. Enumerable.Range(0, 65536).Select(i => (uint)i)];
        foreach (string format in new[] { "fp16", "bf16" })
        {
            float[] wide = Widen(format, codes);
            uint[] back = Narrow(format, wide, saturate: false);
            foreach (uint code in codes)
            {
                float reference = format == "fp16"
                    ? (float)BitConverter.UInt16BitsToHalf((ushort)code)
                    : BitConverter.UInt32BitsToSingle(code << 16);
                AssertSame(reference, wide[code], $"{format} 0x{code:X4}");
                AssertSame(reference, WidenOne(format, code), $"{format} 0x{code:X4} alone");
                Assert.True(float.IsNaN(reference) || back[code] == code, $"{format} 0x{code:X4} came back as 0x{back[code]:X4}");
            }
        }

        output.WriteLine("2 x 65536 patterns exact and stable");
    }

    [Theory]
    [InlineData("e4m3", 448.0)]
    [InlineData("e5m2", 57344.0)]
    public void Narrowing_finds_the_nearest_value_with_ties_to_even(string format, double largest)
    {
        // All non-negative finite values in order; even codes win ties.
        double[] values = [.. Enumerable.Range(0, 128).Select(c => (double)WidenOne(format, (uint)c)).Where(double.IsFinite)];
        var random = new Philox(7, "nearest");
        float[] x = new float[20000];
        for (int i = 0; i < x.Length; i++)
        {
            // A third random over the exponents, a third exact midpoints, a third one step beside a midpoint.
            double middle = (values[i % (values.Length - 1)] + values[i % (values.Length - 1) + 1]) / 2;
            x[i] = (i % 3) switch
            {
                0 => (float)(largest * Math.Pow(2, -24 * random.UniformDouble((ulong)i))),
                1 => (float)middle,
                _ => i % 2 == 0 ? MathF.BitIncrement((float)middle) : MathF.BitDecrement((float)middle),
            };
        }

        uint[] actual = Narrow(format, x, saturate: true);
        for (int i = 0; i < x.Length; i++)
        {
            uint best = 0;
            for (uint c = 1; c < values.Length; c++)
            {
                double gain = Math.Abs(values[best] - x[i]) - Math.Abs(values[c] - x[i]);
                if (gain > 0 || (gain == 0 && c % 2 == 0)) best = c;
            }

            Assert.True(best == actual[i], $"{format}({x[i]:R}) is 0x{actual[i]:X}, nearest is 0x{best:X}");
        }

        output.WriteLine($"{format}: {x.Length} values, a third of them exact ties");
    }

    [Fact]
    public void Spans_of_every_length_agree_with_single_values()
    {
        var random = new Philox(3, "lengths");
        foreach (string format in new[] { "bf16", "fp16", "e4m3", "e5m2" })
        {
            for (int length = 0; length < 70; length++)
            {
                float[] x = new float[length];
                random.FillNormal(x, 0, 100);
                uint[] codes = Narrow(format, x, saturate: false);
                Assert.Equal(x.Select(v => NarrowOne(format, v)), codes);
                Assert.Equal(codes.Select(c => WidenOne(format, c)), Widen(format, codes));
            }
        }
    }

    [Fact]
    public void Bytes_of_any_float_type_become_singles_and_return()
    {
        float[] x = [0, -0f, 1, -1.5f, 0.25f, 448, -0.015625f, float.PositiveInfinity];
        foreach (DType type in new[] { DType.F32, DType.F64, DType.F16, DType.BF16, DType.F8E5M2 })
        {
            byte[] bytes = new byte[x.Length * type.SizeInBytes()];
            NumberFormats.ConvertFromSingle(type, x, bytes);
            float[] back = new float[x.Length];
            NumberFormats.ConvertToSingle(type, bytes, back);
            Assert.Equal(x.Select(BitConverter.SingleToUInt32Bits), back.Select(BitConverter.SingleToUInt32Bits));
        }

        float[] scales = new float[4];
        NumberFormats.ConvertToSingle(DType.F8E8M0, [0, 127, 130, 255], scales);
        Assert.Equal(MathF.ScaleB(1, -127), scales[0]);
        Assert.Equal([1f, 8f], scales[1..3]);
        Assert.True(float.IsNaN(scales[3]));
        Assert.Throws<ArgumentException>(() => NumberFormats.ConvertToSingle(DType.I32, new byte[4], new float[1]));
        Assert.Throws<ArgumentException>(() => NumberFormats.ConvertToSingle(DType.BF16, new byte[4], new float[1]));
        Assert.Throws<ArgumentException>(() => NumberFormats.ConvertE4M3ToSingle(new byte[4], new float[3]));
    }

    private static void AssertSame(float expected, float actual, string what)
    {
        bool same = float.IsNaN(expected)
            ? float.IsNaN(actual)
            : BitConverter.SingleToUInt32Bits(expected) == BitConverter.SingleToUInt32Bits(actual);
        Assert.True(same, $"{what}: {actual:R}, expected {expected:R}");
    }

    private static uint NarrowOne(string format, float x) => format switch
    {
        "bf16" => ((BFloat16)x).Bits,
        "e4m3" => ((Float8E4M3)x).Bits,
        "e5m2" => ((Float8E5M2)x).Bits,
        _ => Narrow(format, [x], saturate: false)[0],
    };

    private static float WidenOne(string format, uint code) => format switch
    {
        "bf16" => BFloat16.FromBits((ushort)code),
        "e4m3" => Float8E4M3.FromBits((byte)code),
        "e5m2" => Float8E5M2.FromBits((byte)code),
        _ => Widen(format, [code])[0],
    };

    private static uint[] Narrow(string format, float[] x, bool saturate)
    {
        var bytes = new byte[x.Length];
        var words = new ushort[x.Length];
        switch (format)
        {
            case "bf16": NumberFormats.ConvertSingleToBFloat16(x, words); break;
            case "fp16": NumberFormats.ConvertSingleToHalf(x, words, saturate); break;
            case "e4m3": NumberFormats.ConvertSingleToE4M3(x, bytes, saturate); break;
            default: NumberFormats.ConvertSingleToE5M2(x, bytes, saturate); break;
        }

        return format is "bf16" or "fp16" ? [.. words.Select(v => (uint)v)] : [.. bytes.Select(v => (uint)v)];
    }

    private static float[] Widen(string format, uint[] codes)
    {
        byte[] bytes = [.. codes.Select(c => (byte)c)];
        ushort[] words = [.. codes.Select(c => (ushort)c)];
        var x = new float[codes.Length];
        switch (format)
        {
            case "bf16": NumberFormats.ConvertBFloat16ToSingle(words, x); break;
            case "fp16": NumberFormats.ConvertHalfToSingle(words, x); break;
            case "e4m3": NumberFormats.ConvertE4M3ToSingle(bytes, x); break;
            default: NumberFormats.ConvertE5M2ToSingle(bytes, x); break;
        }

        return x;
    }
}

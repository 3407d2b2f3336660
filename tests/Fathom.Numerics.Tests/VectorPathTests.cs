// Vectors against single values, bit for bit, over inputs that reach every branch: all 65536 upper halves of a single (every sign,
// exponent and BF16, with infinities and NaNs) combined with lower halves around zero, around the middle and at the top, which holds
// all ties of formats with up to 7 mantissa bits and the singles beside them; each half-precision midpoint with its neighbours; and
// 2^18 random bit patterns. Widening is checked for every code. The last test repeats this class and the tile tests in processes
// without AVX-512 and without any vector instructions, so that all paths meet the same single values.
using System.Diagnostics;
using System.Runtime.Intrinsics;
using Fathom.Numerics.Quantization;
using Xunit;

namespace Fathom.Numerics.Tests;

public sealed class VectorPathTests(ITestOutputHelper output)
{
    private static readonly ushort[] LowerHalves = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF];

    private static readonly Lazy<float[]> Inputs = new(CollectInputs);

    public static TheoryData<string, bool> Narrowings => new(
        from format in new[] { "bf16", "fp16", "e4m3", "e5m2", "hif8", "e5m6" } from saturate in new[] { false, true } select (format, saturate));

    [Theory]
    [MemberData(nameof(Narrowings))]
    public void Narrowing_by_vectors_is_narrowing_one_by_one(string format, bool saturate)
    {
        float[] x = Inputs.Value;
        uint[] vector = NarrowAll(format, x, saturate);
        for (int i = 0; i < x.Length; i++)
        {
            uint one = NarrowOne(format, x[i], saturate);
            if (one != vector[i]) Assert.Fail($"{format}(0x{BitConverter.SingleToUInt32Bits(x[i]):X8} = {x[i]:R}): vector 0x{vector[i]:X}, alone 0x{one:X}");
        }

        output.WriteLine($"{format}: {x.Length} singles exact");
    }

    [Fact]
    public void Widening_every_byte_by_vectors_is_widening_one_by_one()
    {
        byte[] codes = [.. Enumerable.Range(0, 4 * 256 + 77).Select(i => (byte)(i * 37 + i / 256))]; // every code at several places
        Assert.Equal(256, codes.Distinct().Count());
        var singles = new float[codes.Length];
        var words = new ushort[codes.Length];
        foreach (string format in new[] { "e4m3", "e5m2", "hif8" })
        {
            switch (format)
            {
                case "e4m3":
                    NumberFormats.ConvertE4M3ToSingle(codes, singles);
                    NumberFormats.ConvertE4M3ToBFloat16(codes, words);
                    break;
                case "e5m2":
                    NumberFormats.ConvertE5M2ToSingle(codes, singles);
                    NumberFormats.ConvertE5M2ToBFloat16(codes, words);
                    break;
                default:
                    NumberFormats.ConvertHiF8ToSingle(codes, singles);
                    NumberFormats.ConvertHiF8ToBFloat16(codes, words);
                    break;
            }

            for (int i = 0; i < codes.Length; i++)
            {
                uint bits = BitConverter.SingleToUInt32Bits(WidenOne(format, codes[i]));
                Assert.Equal((bits, (ushort)(bits >> 16)), (BitConverter.SingleToUInt32Bits(singles[i]), words[i]));
                Assert.Equal(0u, bits & 0xFFFF); // so BF16 is exact
            }
        }

        output.WriteLine($"3 x {codes.Length} codes exact as singles and as BF16");
    }

    [Fact]
    public void Packed_values_of_every_code_and_length_return()
    {
        for (int length = 0; length < 100; length++)
        {
            ushort[] codes = [.. Enumerable.Range(0, length).Select(i => (ushort)((i * 397 + length * 41) & 0xFFF))];
            CheckPacked(codes);
        }

        CheckPacked([.. Enumerable.Range(0, 4096).Select(i => (ushort)i)]);

        static void CheckPacked(ushort[] codes)
        {
            float[] values = [.. codes.Select(c => (float)Float12E5M6.FromBits(c))], back = new float[codes.Length];
            byte[] packed = new byte[NumberFormats.PackedE5M6Bytes(codes.Length)], bytes = new byte[packed.Length + 1];
            for (int i = 0; i < codes.Length; i++)
            {
                uint code = Float12E5M6.FromSingle(values[i], saturate: false).Bits; // a NaN becomes the one NaN
                packed[3 * i / 2] |= (byte)(i % 2 == 0 ? code : code << 4);
                packed[3 * i / 2 + 1] |= (byte)(i % 2 == 0 ? code >> 8 : code >> 4);
            }

            bytes[^1] = 0xAB;
            NumberFormats.ConvertSingleToPackedE5M6(values, bytes.AsSpan(0, packed.Length), saturate: false);
            Assert.Equal(packed, bytes[..^1]);
            Assert.Equal(0xAB, bytes[^1]);
            NumberFormats.ConvertPackedE5M6ToSingle(packed, back);
            for (int i = 0; i < codes.Length; i++) Assert.True(values[i].Equals(back[i]), $"0x{codes[i]:X3}: {back[i]:R}, expected {values[i]:R}");
        }
    }

    [Fact]
    public void Scaling_by_a_tensor_scale_saturates_and_divides()
    {
        float[] x = new float[1000], back = new float[1000];
        new Philox(4, "tensor").FillNormal(x, 0, 100);
        float scale = 100f / 448 / 3; // a tenth of the values lie beyond
        foreach (QuantizedFormat format in Enum.GetValues<QuantizedFormat>())
        {
            byte[] codes = new byte[format.Bytes(x.Length)];
            TileQuantizer.Quantize(x, scale, codes, format);
            TileQuantizer.Dequantize(codes, scale, back, format);
            for (int i = 0; i < x.Length; i++) Assert.Equal(Quantization.ReferenceTiles.Round(x[i] / scale, format) * scale, back[i]);
        }
    }

    [Theory]
    [InlineData("DOTNET_EnableAVX512F", "DOTNET_EnableAVX512")]
    [InlineData("DOTNET_EnableHWIntrinsic", "DOTNET_EnableHWIntrinsic")]
    public async Task Narrower_vectors_and_none_give_the_same(string older, string newer)
    {
        Assert.SkipWhen(Environment.GetEnvironmentVariable(newer) == "0", "this is the process without them");
        var start = new ProcessStartInfo(Environment.ProcessPath ?? "dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
        if (Path.GetFileNameWithoutExtension(start.FileName) == "dotnet") start.ArgumentList.Add(typeof(VectorPathTests).Assembly.Location);
        foreach (string argument in new[] { "-class", typeof(VectorPathTests).FullName!, "-class", typeof(Quantization.TileQuantizerTests).FullName!, "-class", typeof(NumberFormatTests).FullName! })
            start.ArgumentList.Add(argument);
        start.Environment[older] = start.Environment[newer] = "0";
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string text = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        output.WriteLine(text.Trim().Split('\n')[^1].Trim());
        Assert.True(process.ExitCode == 0, text + await errors);
        Assert.Contains("Failed: 0", text, StringComparison.Ordinal);
        Assert.Contains("Total:", text, StringComparison.Ordinal);
    }

    [Fact]
    public void A_process_without_vectors_has_none()
    {
        if (Environment.GetEnvironmentVariable("DOTNET_EnableAVX512") == "0") Assert.False(Vector512.IsHardwareAccelerated);
        if (Environment.GetEnvironmentVariable("DOTNET_EnableHWIntrinsic") == "0") Assert.False(Vector256.IsHardwareAccelerated);
        output.WriteLine($"512-bit vectors: {Vector512.IsHardwareAccelerated}, 256-bit vectors: {Vector256.IsHardwareAccelerated}");
    }

    private static float[] CollectInputs()
    {
        var bits = new List<uint>();
        for (uint upper = 0; upper < 65536; upper++)
        {
            foreach (ushort lower in LowerHalves) bits.Add(upper << 16 | lower);
        }

        for (uint half = 0; half < 0x7C00; half++)
        {
            uint middle = BitConverter.SingleToUInt32Bits(
                ((float)BitConverter.UInt16BitsToHalf((ushort)half) + (float)BitConverter.UInt16BitsToHalf((ushort)Math.Min(half + 1, 0x7BFF))) / 2);
            bits.AddRange([middle, middle + 1, middle - 1, middle | 0x80000000]);
        }

        var random = new Philox(12, "bits");
        for (ulong i = 0; i < 1 << 18; i++) bits.Add(random.UInt32(i));
        return [.. bits.Select(BitConverter.UInt32BitsToSingle)];
    }

    private static uint[] NarrowAll(string format, float[] x, bool saturate)
    {
        var bytes = new byte[x.Length];
        var words = new ushort[x.Length];
        switch (format)
        {
            case "bf16": NumberFormats.ConvertSingleToBFloat16(x, words); break;
            case "fp16": NumberFormats.ConvertSingleToHalf(x, words, saturate); break;
            case "e4m3": NumberFormats.ConvertSingleToE4M3(x, bytes, saturate); break;
            case "e5m2": NumberFormats.ConvertSingleToE5M2(x, bytes, saturate); break;
            case "hif8": NumberFormats.ConvertSingleToHiF8(x, bytes, saturate); break;
            default:
                byte[] packed = new byte[NumberFormats.PackedE5M6Bytes(x.Length)];
                NumberFormats.ConvertSingleToPackedE5M6(x, packed, saturate);
                for (int i = 0; i < x.Length; i++)
                {
                    int pair = packed[3 * i / 2] | packed[3 * i / 2 + 1] << 8;
                    words[i] = (ushort)(i % 2 == 0 ? pair & 0xFFF : pair >> 4);
                }

                break;
        }

        return format is "bf16" or "fp16" or "e5m6" ? [.. words.Select(v => (uint)v)] : [.. bytes.Select(v => (uint)v)];
    }

    private static uint NarrowOne(string format, float x, bool saturate)
    {
        if (format == "fp16")
        {
            var one = new ushort[1];
            NumberFormats.ConvertSingleToHalf([x], one, saturate); // a span of one value takes no vector
            return one[0];
        }

        return format switch
        {
            "bf16" => ((BFloat16)x).Bits,
            "e4m3" => Float8E4M3.FromSingle(x, saturate).Bits,
            "e5m2" => Float8E5M2.FromSingle(x, saturate).Bits,
            "hif8" => HiFloat8.FromSingle(x, saturate).Bits,
            _ => Float12E5M6.FromSingle(x, saturate).Bits,
        };
    }

    private static float WidenOne(string format, byte code) => format switch
    {
        "e4m3" => Float8E4M3.FromBits(code),
        "e5m2" => Float8E5M2.FromBits(code),
        _ => HiFloat8.FromBits(code),
    };
}

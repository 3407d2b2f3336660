// Conversions against what an independent program quantised, and against each other. What is exact and why:
//   codes    a block's largest element has code 448, so a restored block has its scale up to rounding, and every value lies
//            within 2^-8 of its old code: the same codes again, from F32 and from BF16;
//   scales   from F32, s = fl(A / 448) comes back: fl(448 s) is A or its neighbour towards s, and either divided by 448 lies
//            within half a unit of s. From BF16, only where the largest element A was a BF16 number to begin with;
//   values   with power-of-two scales nothing rounds at all.
using Fathom.Compute;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class ModelConverterTests(ITestOutputHelper output)
{
    private const string DownProjection = "model.layers.0.mlp.down_proj.weight";

    [Fact]
    public void A_quantised_matrix_is_that_of_the_reference_in_codes_and_scales()
    {
        using var folder = new TemporaryFolder();
        using SafetensorsFile reference = SafetensorsFile.Open(Golden.Fixture("nano-v3-fp8", "reference.safetensors"));
        float[] w = reference.ReadF32("gemm.w"); // [200, 300]: partial blocks on both edges
        ConversionFixtures.Write(folder.File("f32"), ConversionFixtures.Dense(200, 300), DType.F32, name => name == DownProjection ? w : null);
        using Checkpoint result = Convert(folder.File("f32"), folder.File("fp8"), new ConversionOptions(DType.F8E4M3));
        Assert.Equal(DType.F8E4M3, result.Entry(DownProjection).DType);
        byte[] expected = new byte[200 * 300], actual = ConversionFixtures.Bytes(result, DownProjection);
        reference.CopyBytes("gemm.wq", 0, expected);
        Assert.Equal(expected, actual);
        Assert.Equal(reference.ReadF32("gemm.ws"), result.Get(DownProjection + "_scale_inv").AsSpan<float>().ToArray());
        output.WriteLine("200 x 300 codes and 2 x 3 scales are those of gemm.wq and gemm.ws");
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void The_golden_model_survives_the_way_through_a_wider_format_bit_for_bit(DType between)
    {
        // Its weights were BF16 before they were quantised, so that a block's largest element survives BF16.
        using var folder = new TemporaryFolder();
        Convert(ConversionFixtures.Golden, folder.File("wide"), new ConversionOptions(between)).Dispose();
        using Checkpoint original = Checkpoint.Open(ConversionFixtures.Golden);
        using Checkpoint back = Convert(folder.File("wide"), folder.File("fp8"), new ConversionOptions(DType.F8E4M3));
        AssertNames(original, back);
        foreach (string name in original.Names)
        {
            Assert.Equal(original.Entry(name).ToString(), back.Entry(name).ToString());
            Assert.True(ConversionFixtures.Bytes(original, name).AsSpan().SequenceEqual(ConversionFixtures.Bytes(back, name)), name);
        }

        output.WriteLine($"through {between}: all {original.Names.Count} tensors have the same bytes");
    }

    [Theory]
    [InlineData(DType.F32, 0)]
    [InlineData(DType.BF16, 1.0 / 256)]
    public void Any_weights_keep_their_codes_through_a_wider_format(DType between, double bound)
    {
        using var folder = new TemporaryFolder();
        ConversionFixtures.Write(folder.File("f32"), ConversionFixtures.Dense(520, 1100), DType.F32);
        using Checkpoint first = Convert(folder.File("f32"), folder.File("first"), new ConversionOptions(DType.F8E4M3));
        Convert(folder.File("first"), folder.File("wide"), new ConversionOptions(between)).Dispose();
        using Checkpoint second = Convert(folder.File("wide"), folder.File("second"), new ConversionOptions(DType.F8E4M3));
        int scales = 0, exact = 0;
        double worst = 0;
        foreach (string name in first.Names)
        {
            if (!name.EndsWith("_scale_inv", StringComparison.Ordinal))
            {
                Assert.True(ConversionFixtures.Bytes(first, name).AsSpan().SequenceEqual(ConversionFixtures.Bytes(second, name)), name);
                continue;
            }

            ReadOnlySpan<float> before = first.Get(name).AsSpan<float>(), after = second.Get(name).AsSpan<float>();
            for (int i = 0; i < before.Length; i++, scales++)
            {
                float largest = before[i] * 448;
                Assert.Equal((between == DType.BF16 ? (float)(BFloat16)largest : largest) / 448, after[i]);
                worst = Math.Max(worst, Math.Abs(after[i] / (double)before[i] - 1));
                if (after[i] == before[i]) exact++;
            }
        }

        output.WriteLine($"through {between}: all codes equal; {exact} of {scales} scales equal, largest relative difference {worst:E2}");
        Assert.InRange(worst, 0, bound);
    }

    [Fact]
    public void Quantised_weights_are_copied_bit_for_bit()
    {
        using var folder = new TemporaryFolder();
        using Checkpoint original = Checkpoint.Open(ConversionFixtures.Golden);
        using Checkpoint copy = Convert(ConversionFixtures.Golden, folder.File("fp8"), new ConversionOptions(DType.F8E4M3));
        AssertNames(original, copy);
        foreach (string name in original.Names)
            Assert.True(ConversionFixtures.Bytes(original, name).AsSpan().SequenceEqual(ConversionFixtures.Bytes(copy, name)), name);
        Assert.Equal(ModelConfig.Load(ConversionFixtures.Golden).QuantizationConfig, ModelConfig.Load(folder.File("fp8")).QuantizationConfig);
    }

    [Theory]
    [InlineData(DType.F8E4M3, DType.F32)]
    [InlineData(DType.F8E4M3, DType.BF16)]
    [InlineData(DType.HiF8, DType.F32)]
    [InlineData(DType.HiF8, DType.BF16)]
    public void With_power_of_two_scales_nothing_is_lost_on_the_way_back(DType format, DType between)
    {
        using var folder = new TemporaryFolder();
        var powers = new ConversionOptions(format) { PowerOfTwoScales = true };
        using Checkpoint first = Convert(ConversionFixtures.Golden, folder.File("first"), powers);
        Convert(folder.File("first"), folder.File("wide"), new ConversionOptions(between)).Dispose();
        using Checkpoint second = Convert(folder.File("wide"), folder.File("second"), powers);
        ModelConfig config = ModelConfig.Load(folder.File("second"));
        Assert.Equal(new QuantizationConfig(128, 128, "ue8m0", format), config.QuantizationConfig);
        CheckpointReader before = new(first, config.QuantizationConfig), after = new(second, config.QuantizationConfig);
        int weights = 0;
        foreach (LayoutTensor tensor in TensorLayout.Enumerate(config).Where(t => t.Precision == TensorPrecision.Linear))
        {
            Assert.Equal(before.ReadF32(tensor.Name), after.ReadF32(tensor.Name));
            foreach (float scale in second.Get(tensor.Name + "_scale_inv").AsSpan<float>()) Assert.Equal(0u, BitConverter.SingleToUInt32Bits(scale) & 0x7FFFFF);
            weights++;
        }

        output.WriteLine($"{weights} weights in {format} have the same values after {between}");
        Assert.Equal(72, weights);
    }

    [Theory]
    [InlineData(DType.F8E4M3, false, 1.0 / 16)]
    [InlineData(DType.F8E4M3, true, 1.0 / 16)]
    [InlineData(DType.HiF8, false, 1.0 / 16)]
    public void Values_stay_within_half_a_step_of_the_format(DType format, bool powersOfTwo, double bound)
    {
        using var folder = new TemporaryFolder();
        ModelConfig dense = ConversionFixtures.Dense(136, 264);
        ConversionFixtures.Write(folder.File("f32"), dense, DType.F32);
        using Checkpoint original = Checkpoint.Open(folder.File("f32"));
        using Checkpoint result = Convert(folder.File("f32"), folder.File("out"), new ConversionOptions(format) { PowerOfTwoScales = powersOfTwo, Dtype = DType.F32 });
        ModelConfig config = ModelConfig.Load(folder.File("out"));
        CheckpointReader before = new(original), after = new(result, config.QuantizationConfig);
        double worst = 0;
        foreach (LayoutTensor tensor in TensorLayout.Enumerate(config))
        {
            float[] x = before.ReadF32(tensor.Name), y = after.ReadF32(tensor.Name);
            if (tensor.Precision != TensorPrecision.Linear)
            {
                Assert.Equal(x, y);
                continue;
            }

            // Relative in the normal range; below it E4M3 is a fixed grid. Weights here are normal with sigma 0.05.
            for (int i = 0; i < x.Length; i++)
            {
                if (Math.Abs(x[i]) > 0.01) worst = Math.Max(worst, Math.Abs(y[i] / (double)x[i] - 1));
            }
        }

        output.WriteLine($"{format}, power-of-two scales {powersOfTwo}: largest relative difference {worst:E2} of values above 0.01");
        Assert.InRange(worst, bound / 4, bound * 1.001);
    }

    [Fact]
    public void Files_do_not_depend_on_threads_and_tensors_not_on_shards()
    {
        using var folder = new TemporaryFolder();
        ModelConfig config = ConversionFixtures.Dense(520, 2200, layers: 2); // matrices of several strips
        ConversionFixtures.Write(folder.File("bf16"), config, DType.BF16);
        Dictionary<string, byte[]>? expected = null;
        foreach (int threads in (int[])[1, 2, 7])
        {
            Convert(folder.File("bf16"), folder.File($"{threads}"), new ConversionOptions(DType.F8E4M3) { Threads = threads }).Dispose();
            Dictionary<string, byte[]> files = ConversionFixtures.Files(folder.File($"{threads}"));
            expected ??= files;
            Assert.Equal(expected.Keys.Order(), files.Keys.Order());
            foreach (string name in files.Keys) Assert.True(expected[name].AsSpan().SequenceEqual(files[name]), $"{name} with {threads} threads");
        }

        using Checkpoint whole = Checkpoint.Open(folder.File("1"));
        using Checkpoint cut = Convert(folder.File("1"), folder.File("cut"), new ConversionOptions(DType.F8E4M3) { ShardBytes = 500_000, Threads = 3 });
        int files2 = Directory.GetFiles(folder.File("cut"), "*.safetensors").Length;
        output.WriteLine($"{files2} shards");
        Assert.InRange(files2, 10, 40);
        Assert.Equal(whole.Names.Order(), cut.Names.Order());
        foreach (string name in whole.Names)
            Assert.True(ConversionFixtures.Bytes(whole, name).AsSpan().SequenceEqual(ConversionFixtures.Bytes(cut, name)), name);
    }

    [Theory]
    [InlineData(128)] // halves begin with a block: codes could be copied
    [InlineData(96)] // the second half begins within a block
    public void Stacked_quantised_experts_come_out_one_by_one(int inner)
    {
        using var folder = new TemporaryFolder();
        ModelConfig config = ModelPresets.Get("nano") with
        {
            HiddenSize = 160,
            MoeIntermediateSize = inner,
            NumNextnPredictLayers = 0,
            QuantizationConfig = new QuantizationConfig(),
        };
        const string Experts = "model.layers.1.mlp.experts.";
        int count = config.NRoutedExperts;
        var stacked = new TensorDeclaration(Experts + "gate_up_proj", DType.F8E4M3, [count, 2 * inner, 160]);
        var scales = new TensorDeclaration(stacked.Name + "_scale_inv", DType.F32, [count, (2 * inner + 127) / 128, 2]);
        TensorDeclaration[] rest = [.. TensorLayout.Enumerate(config).Where(t => !(t.Name.StartsWith(Experts, StringComparison.Ordinal) && !t.Name.EndsWith("down_proj.weight", StringComparison.Ordinal))).Select(t => t.Declare(DType.BF16))];
        Directory.CreateDirectory(folder.File("in"));
        using (var writer = new SafetensorsWriter(folder.File("in", "model.safetensors"), [.. rest, stacked, scales]))
        {
            var random = new Random(3);
            foreach (TensorDeclaration t in rest) writer.Write(t.Name, new byte[t.Bytes]);
            writer.Write(stacked.Name, [.. Enumerable.Range(0, (int)stacked.Bytes).Select(_ => (byte)(random.Next(256) is var c && (c & 0x7F) == 0x7F ? 0 : c))]);
            writer.Write<float>(scales.Name, [.. Enumerable.Range(1, (int)scales.Bytes / 4).Select(i => i / 64f)]);
            writer.Finish();
        }

        config.Save(folder.File("in"));
        using Checkpoint source = Checkpoint.Open(folder.File("in"));
        using Checkpoint wide = Convert(folder.File("in"), folder.File("f32"), new ConversionOptions(DType.F32));
        using Checkpoint quantised = Convert(folder.File("in"), folder.File("fp8"), new ConversionOptions(DType.F8E4M3));
        CheckpointReader before = new(source, config.QuantizationConfig), plain = new(wide), after = new(quantised, config.QuantizationConfig);
        double worst = 0;
        for (int e = 0; e < count; e++)
        {
            foreach (string half in (string[])["gate", "up"])
            {
                string name = $"{Experts}{e}.{half}_proj.weight";
                float[] x = before.ReadF32(name), y = after.ReadF32(name);
                Assert.Equal(x, plain.ReadF32(name));
                double largest = x.Max(Math.Abs);
                for (int i = 0; i < x.Length; i++) worst = Math.Max(worst, Math.Abs(x[i] - y[i]) / largest);
            }
        }

        output.WriteLine($"halves of {inner} rows: largest difference {worst:E2} of the largest value");
        if (inner == 128) Assert.Equal(0, worst);
        else Assert.InRange(worst, 0, 16.01 / 448);
    }

    [Fact]
    public void Copies_that_a_file_lacks_are_written_and_strangers_left_out()
    {
        using var folder = new TemporaryFolder();
        ModelConfig config = ModelPresets.Get("nano") with { Dtype = DType.F32 };
        TensorDeclaration[] tensors = [.. TensorLayout.Enumerate(config).Where(t => t.CopyOf is null).Select(t => t.Declare(DType.F32)), new("model.layers.0.self_attn.rotary_emb.inv_freq", DType.F32, [8])];
        CheckpointWriter.Write(folder.File("in"), tensors, t =>
        {
            Tensor tensor = HostMemory.Allocate(new Shape(t.Shape), DType.F32);
            new Philox(1, t.Name).FillNormal(tensor.AsSpan<float>(), 0, 1);
            return tensor;
        });
        config.Save(folder.File("in"));
        ConversionReport report = ModelConverter.Convert(folder.File("in"), folder.File("out"), new ConversionOptions(DType.F32));
        Assert.Equal(1, report.LeftOut);
        using Checkpoint result = Checkpoint.Open(folder.File("out"));
        Assert.Equal(TensorLayout.Enumerate(config).Select(t => t.Name).Order(), result.Names.Order());
        LayoutTensor copy = TensorLayout.Enumerate(config).First(t => t.CopyOf is not null);
        Assert.Equal(ConversionFixtures.Bytes(result, copy.CopyOf!), ConversionFixtures.Bytes(result, copy.Name));
    }

    [Fact]
    public void What_stands_beside_the_weights_comes_along()
    {
        using var folder = new TemporaryFolder();
        ConversionFixtures.Write(folder.File("in"), ConversionFixtures.Dense(24, 32), DType.F32, shardBytes: 10_000);
        string[] kept = ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja", "modeling_deepseek.py", "LICENSE-MODEL"];
        foreach (string name in kept) File.WriteAllText(folder.File("in", name), name);
        foreach (string name in (string[])["trainer.json", "optimizer.safetensors", "pytorch_model.bin", "README.md", ".hidden.json"]) File.WriteAllText(folder.File("in", name), name);
        Convert(folder.File("in"), folder.File("new", "out"), new ConversionOptions(DType.BF16)).Dispose();
        Assert.Equal([.. kept.Append("config.json").Append("model.safetensors").Order()], Directory.GetFileSystemEntries(folder.File("new", "out")).Select(Path.GetFileName).Order());
        foreach (string name in kept) Assert.Equal(name, File.ReadAllText(folder.File("new", "out", name)));
        Assert.Equal([folder.File("new", "out")], Directory.GetFileSystemEntries(folder.File("new")));
    }

    // The golden file lacks the MTP module's copies of embedding and head.
    private static void AssertNames(Checkpoint original, Checkpoint converted)
    {
        IEnumerable<LayoutTensor> copies = TensorLayout.Enumerate(ModelConfig.Load(ConversionFixtures.Golden)).Where(t => t.CopyOf is not null);
        Assert.Equal(original.Names.Union(copies.Select(t => t.Name)).Order(), converted.Names.Order());
    }

    private Checkpoint Convert(string from, string to, ConversionOptions options)
    {
        ConversionReport report = ModelConverter.Convert(from, to, options);
        output.WriteLine($"{report.Tensors} tensors, {report.Quantized} quantised, {report.BytesRead} bytes read, {report.BytesWritten} written");
        Checkpoint result = Checkpoint.Open(to);
        LayoutCheck.Verify(ModelConfig.Load(to), result);
        Assert.Equal(result.Names.Sum(n => result.Entry(n).Bytes), report.BytesWritten);
        return result;
    }
}

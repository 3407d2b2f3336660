// Model folders: one file or shards, broken indexes, the check against the configuration, and dequantisation against an
// independent program's numbers.
using System.Text.Json.Nodes;
using Fathom.Compute;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class CheckpointTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(long.MaxValue, 1)]
    [InlineData(100_000, 4)]
    [InlineData(1, 133)]
    public void A_model_survives_any_sharding(long shardBytes, int shards)
    {
        using var folder = new TemporaryFolder();
        using Checkpoint source = Checkpoint.Open(Golden.Fixture("nano-v3-train"));
        CheckpointWriter.Write(folder.Path, [new("old", DType.F32, [1])], _ => HostMemory.Allocate(new Shape(1), DType.F32));
        Copy(source, folder.Path, shardBytes);
        using Checkpoint copy = Checkpoint.Open(folder.Path);
        Assert.Equal(source.Names.Order(), copy.Names.Order());
        foreach (string name in source.Names) AssertSameBytes(source.Get(name), copy.Get(name));
        int files = Directory.GetFiles(folder.Path, "*.safetensors").Length;
        output.WriteLine($"{files} shards");
        Assert.Equal(shards, files);
        if (shards > 1)
        {
            JsonNode index = JsonNode.Parse(File.ReadAllText(copy.Path))!;
            Assert.Equal(source.Names.Sum(name => source.Get(name).Bytes), (long)index["metadata"]!["total_size"]!);
        }

        // Back to a single file: shards and index of the earlier form go.
        Copy(source, folder.Path, long.MaxValue);
        Assert.Equal(["model.safetensors"], Directory.GetFiles(folder.Path).Select(Path.GetFileName));
    }

    [Fact]
    public void Broken_folders_are_one_clear_line()
    {
        using var folder = new TemporaryFolder();
        using Checkpoint source = Checkpoint.Open(Golden.Fixture("nano-v3-train"));
        AssertFails("no such model folder", () => Checkpoint.Open(folder.File("absent")));
        AssertFails("neither model.safetensors", () => Checkpoint.Open(folder.Path));
        Copy(source, folder.Path, 100_000);
        string index = folder.File("model.safetensors.index.json"), good = File.ReadAllText(index);
        string shard = Path.GetFileName(Directory.GetFiles(folder.Path, "*00002-of-*")[0]);

        Broken("{", "not valid JSON");
        Broken("[]", "a JSON object is expected");
        Broken("{}", "weight_map is missing");
        Broken("""{"weight_map": {}}""", "weight_map is empty");
        Broken("""{"weight_map": 1}""", "weight_map is 1");
        Broken("""{"weight_map": {"a": 1}}""", "weight_map.a is 1");
        Broken("""{"weight_map": {"a": null}}""", "weight_map.a is null");
        Broken("""{"weight_map": {"a": "../x"}}""", "no plain file name");
        Broken("""{"weight_map": {"a\nb": ""}}""", "weight_map.a b is no plain");
        Broken("""{"weight_map": {"a": "absent.safetensors"}}""", "absent.safetensors is named but not there");
        Broken($$$"""{"weight_map": {"a": "{{{shard}}}"}}""", "'a' should be in " + shard);

        File.WriteAllText(index, good);
        File.WriteAllBytes(folder.File(shard), File.ReadAllBytes(folder.File(shard))[..^1]);
        using (Checkpoint damaged = Checkpoint.Open(folder.Path))
        {
            Assert.True(damaged.Contains("lm_head.weight")); // opening and listing touch no shard
            AssertFails(shard, () =>
            {
                foreach (string name in damaged.Names) damaged.Get(name);
            });
        }

        File.Delete(folder.File(shard));
        AssertFails($"{shard} is named but not there", () => Checkpoint.Open(folder.Path));

        void Broken(string json, string expected)
        {
            File.WriteAllText(index, json);
            AssertFails(expected, () =>
            {
                using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
                foreach (string name in checkpoint.Names) checkpoint.Get(name);
            });
        }
    }

    [Theory]
    [InlineData("nano-v3-train", 1)]
    [InlineData("nano-v3-fp8", 1)]
    public void Fixtures_fit_their_configuration(string name, int modules)
    {
        using Checkpoint checkpoint = Checkpoint.Open(Golden.Fixture(name));
        Assert.Equal(modules, LayoutCheck.Verify(ModelConfig.Load(Golden.Fixture(name)), checkpoint));
    }

    [Theory]
    [InlineData("tiny-v3")]
    [InlineData("tiny-v3-yarn")]
    public void Files_of_transformers_fit_and_have_no_mtp_module(string name)
    {
        ModelConfig config = ModelConfig.Load(Golden.Shared("golden", name));
        Assert.Equal(1, config.NumNextnPredictLayers);
        using Checkpoint checkpoint = Checkpoint.Open(Golden.Shared("golden", name));
        Assert.Equal(0, LayoutCheck.Verify(config, checkpoint));
    }

    [Fact]
    public void What_does_not_fit_the_configuration_is_named()
    {
        ModelConfig config = ModelConfig.Load(Golden.Fixture("nano-v3-train"));
        using Checkpoint checkpoint = Checkpoint.Open(Golden.Fixture("nano-v3-train"));
        AssertFails("[104, 32]", () => LayoutCheck.Verify(config with { VocabSize = 104 }, checkpoint));
        AssertFails("'model.layers.1.mlp.experts.8.gate_proj.weight' [16, 32] is missing", () =>
            LayoutCheck.Verify(config with { NRoutedExperts = 16 }, WithGates(checkpoint, 16)));
        AssertFails("'model.layers.1.mlp.experts.4.down_proj.weight' [32, 16] is not part", () =>
            LayoutCheck.Verify(config with { NRoutedExperts = 4, NGroup = 2 }, WithGates(checkpoint, 4)));
        AssertFails("q_proj.weight' [48, 32] is missing", () => LayoutCheck.Verify(config with { QLoraRank = 0 }, checkpoint));
        AssertFails("is missing", () => LayoutCheck.Verify(config with { NumNextnPredictLayers = 2 }, checkpoint));

        // Layers beyond the announced ones are ignored.
        Assert.Equal(0, LayoutCheck.Verify(config with { NumNextnPredictLayers = 0 }, checkpoint));
    }

    [Fact]
    public void Tolerated_extras_and_copies_pass()
    {
        using var folder = new TemporaryFolder();
        ModelConfig config = ModelPresets.Get("nano");
        IEnumerable<TensorDeclaration> layout = TensorLayout.Enumerate(config).Select(t => t.Declare(DType.BF16));
        WriteZeros(folder.Path, [.. layout, new("model.layers.0.self_attn.rotary_emb.inv_freq", DType.F32, [8])]);
        using (Checkpoint checkpoint = Checkpoint.Open(folder.Path)) Assert.Equal(1, LayoutCheck.Verify(config, checkpoint));
        WriteZeros(folder.Path, [.. layout, new("model.layers.0.self_attn.o_proj.weight_scale_inv", DType.F32, [1, 1])]);
        using (Checkpoint checkpoint = Checkpoint.Open(folder.Path))
            AssertFails("weight_scale_inv' [1, 1] is not part", () => LayoutCheck.Verify(config, checkpoint));
    }

    [Fact]
    public void Every_float_type_is_read_as_singles_also_into_rows_that_are_apart()
    {
        using var folder = new TemporaryFolder();
        Tensor values = HostMemory.Allocate(new Shape(6, 7), DType.F32);
        new Philox(2, "v").FillNormal(values.AsSpan<float>(), 0, 1);
        DType[] types = [DType.F32, DType.F64, DType.F16, DType.BF16];
        CheckpointWriter.Write(folder.Path, types.Select(t => new TensorDeclaration($"{t}", t, [6, 7])), _ => values);
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        var reader = new CheckpointReader(checkpoint);
        Tensor wide = HostMemory.Allocate(new Shape(6, 20), DType.F32);
        var list = new List<(string, Tensor)>();
        foreach (DType type in types)
        {
            float[] expected = [.. values.AsSpan<float>().ToArray().Select(v => type switch { DType.F16 => (float)(Half)v, DType.BF16 => (float)(BFloat16)v, _ => v })];
            Assert.Equal(expected, reader.ReadF32($"{type}"));
            reader.ReadF32($"{type}", wide.ColumnRange(5, 7));
            for (int row = 0; row < 6; row++) Assert.Equal(expected[(row * 7)..((row + 1) * 7)], wide.ColumnRange(5, 7).Row<float>(row).ToArray());
            Assert.Equal(0f, wide.Row<float>(3)[4] + wide.Row<float>(3)[12]);
            list.Add(($"{type}", HostMemory.Allocate(new Shape(6, 7), DType.F32)));
        }

        reader.ReadF32(list);
        Assert.Equal(values.AsSpan<float>().ToArray(), list[0].Item2.AsSpan<float>().ToArray());
        AssertFails("[6, 7], [7, 6] is expected", () => reader.ReadF32("F32", HostMemory.Allocate(new Shape(7, 6), DType.F32)));
        AssertFails("no tensor 'absent'", () => reader.ReadF32([list[0], ("absent", list[0].Item2)]));
    }

    [Fact]
    public void Block_scaled_weights_are_dequantised_exactly()
    {
        // gemm.w was quantised into gemm.wq and gemm.ws; gemm.y is the product of the dequantised operands in FP64.
        using SafetensorsFile reference = SafetensorsFile.Open(Golden.Fixture("nano-v3-fp8", "reference.safetensors"));
        using var folder = new TemporaryFolder();
        CheckpointWriter.Write(
            folder.Path,
            [new("w", DType.F8E4M3, [200, 300]), new("w_scale_inv", DType.F32, [2, 3])],
            t => reference.Get(t.Name == "w" ? "gemm.wq" : "gemm.ws"));
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        float[] w = new CheckpointReader(checkpoint, new QuantizationConfig()).ReadF32("w");
        float[] codes = reference.ReadF32("gemm.wq"), scales = reference.ReadF32("gemm.ws"), original = reference.ReadF32("gemm.w");
        float[] xq = reference.ReadF32("gemm.xq"), xs = reference.ReadF32("gemm.xs");
        double[] y = reference.ReadF64("gemm.y");
        double largest = 0, product = 0;
        for (int i = 0; i < 200; i++)
        {
            for (int j = 0; j < 300; j++)
            {
                Assert.Equal(codes[i * 300 + j] * scales[i / 128 * 3 + j / 128], w[i * 300 + j]);
                largest = Math.Max(largest, Math.Abs(w[i * 300 + j] - original[i * 300 + j]) / (scales[i / 128 * 3 + j / 128] * 448));
            }
        }

        for (int m = 0; m < 37; m++)
        {
            for (int n = 0; n < 200; n++)
            {
                double sum = 0, magnitude = 0;
                for (int k = 0; k < 300; k++)
                {
                    double term = (double)xq[m * 300 + k] * xs[m * 3 + k / 128] * w[n * 300 + k];
                    sum += term;
                    magnitude += Math.Abs(term);
                }

                product = Math.Max(product, Math.Abs(sum - y[m * 200 + n]) / magnitude);
            }
        }

        // Half a step of E4M3 at the top of a block is 16 of 448; w holds one rounding to single per element, 2^-24.
        output.WriteLine($"dequantised against the original: {largest:E2} of a block's maximum; product against FP64: {product:E2}");
        Assert.InRange(largest, 1e-6, 16.01 / 448);
        Assert.InRange(product, 0, 6e-8);
    }

    [Fact]
    public void Every_weight_of_the_quantised_fixture_is_read()
    {
        ModelConfig config = ModelConfig.Load(Golden.Fixture("nano-v3-fp8"));
        using Checkpoint checkpoint = Checkpoint.Open(Golden.Fixture("nano-v3-fp8"));
        var reader = new CheckpointReader(checkpoint, config.QuantizationConfig);
        int quantised = 0;
        foreach (LayoutTensor tensor in TensorLayout.Enumerate(config).Where(t => t.CopyOf is null))
        {
            Assert.True(reader.ReadF32(tensor.Name).All(v => Math.Abs(v) < 100), tensor.Name);
            if (tensor.Precision == TensorPrecision.Linear) quantised++;
            Assert.Equal(tensor.Precision == TensorPrecision.Linear, checkpoint.Entry(tensor.Name).DType == DType.F8E4M3);
        }

        output.WriteLine($"{quantised} FP8 weights");
        AssertFails("expected F32 [4, 2] for weights [256, 128] in blocks of 64 x 64", () =>
            new CheckpointReader(checkpoint, new QuantizationConfig(64, 64)).ReadF32("model.layers.1.mlp.experts.0.down_proj.weight"));
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F8E8M0)]
    public void Scales_may_be_powers_of_two_in_any_type_and_blocks_partial(DType scaleType)
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("model.safetensors");
        using (var writer = new SafetensorsWriter(path, [new("w", DType.F8E4M3, [5, 7]), new("w_scale_inv", scaleType, [2, 3])]))
        {
            writer.Write("w", Enumerable.Repeat(((Float8E4M3)1.5f).Bits, 35).ToArray());
            float[] scales = [1, 2, 4, 8, 16, 0.5f];
            byte[] bytes = new byte[scales.Length * scaleType.SizeInBytes()];
            if (scaleType == DType.F8E8M0)
                bytes = [.. scales.Select(s => (byte)(127 + Math.Log2(s)))];
            else
                NumberFormats.ConvertFromSingle(scaleType, scales, bytes);
            writer.Write("w_scale_inv", bytes);
            writer.Finish();
        }

        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        float[] w = new CheckpointReader(checkpoint, new QuantizationConfig(3, 3)).ReadF32("w");
        Assert.Equal([1.5f, 1.5f, 1.5f, 3, 3, 3, 6], w[..7]);
        Assert.Equal([12f, 12f, 12f, 24, 24, 24, 0.75f], w[21..28]);
    }

    [Fact]
    public void Quantised_weights_without_scale_are_refused()
    {
        using var folder = new TemporaryFolder();
        WriteZeros(folder.Path, [new("w", DType.F8E4M3, [2, 2]), new("i", DType.I32, [2])]);
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        var reader = new CheckpointReader(checkpoint);
        AssertFails("no 'w_scale_inv'", () => reader.ReadF32("w"));
        AssertFails("a float type is expected", () => reader.ReadF32("i"));
    }

    [Fact]
    public void Stacked_experts_are_read_one_by_one()
    {
        using var folder = new TemporaryFolder();
        const string Prefix = "model.layers.1.mlp.experts.";
        Tensor both = HostMemory.Allocate(new Shape(4, 6, 5), DType.F32), down = HostMemory.Allocate(new Shape(4, 5, 3), DType.F32);
        for (int i = 0; i < both.Elements; i++) both.AsSpan<float>()[i] = i;
        CheckpointWriter.Write(
            folder.Path,
            [new(Prefix + "gate_up_proj", DType.F32, [4, 6, 5]), new(Prefix + "down_proj", DType.F32, [4, 5, 3])],
            t => t.Shape[1] == 6 ? both : down);
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        var reader = new CheckpointReader(checkpoint);
        Assert.Equal(Enumerable.Range(2 * 30, 15).Select(i => (float)i), reader.ReadF32(Prefix + "2.gate_proj.weight"));
        Assert.Equal(Enumerable.Range(2 * 30 + 15, 15).Select(i => (float)i), reader.ReadF32(Prefix + "2.up_proj.weight"));
        Assert.Equal([5L, 3L], reader.ShapeOf(Prefix + "3.down_proj.weight"));
        AssertFails("which has 4", () => reader.ReadF32(Prefix + "4.down_proj.weight"));
        Assert.False(reader.Contains(Prefix + "0.other.weight"));
    }

    [Fact]
    public void Stacked_experts_may_be_quantised()
    {
        using var folder = new TemporaryFolder();
        const string Prefix = "model.layers.1.mlp.experts.";
        using (var writer = new SafetensorsWriter(
            folder.File("model.safetensors"),
            [new(Prefix + "gate_up_proj", DType.F8E4M3, [2, 8, 4]), new(Prefix + "gate_up_proj_scale_inv", DType.F32, [2, 2, 1])]))
        {
            writer.Write(Prefix + "gate_up_proj", Enumerable.Repeat(((Float8E4M3)1f).Bits, 64).ToArray());
            writer.Write<float>(Prefix + "gate_up_proj_scale_inv", [1, 2, 3, 4]);
            writer.Finish();
        }

        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        var reader = new CheckpointReader(checkpoint, new QuantizationConfig(4, 4));
        Assert.All(reader.ReadF32(Prefix + "0.up_proj.weight"), v => Assert.Equal(2, v));
        Assert.All(reader.ReadF32(Prefix + "1.gate_proj.weight"), v => Assert.Equal(3, v));
        Assert.All(reader.ReadF32(Prefix + "1.up_proj.weight"), v => Assert.Equal(4, v));
    }

    private static Checkpoint WithGates(Checkpoint source, int experts)
    {
        // The same weights with routers of another size, so that the check reaches the experts.
        string folder = Directory.CreateTempSubdirectory("fathom-gates-").FullName;
        TensorDeclaration[] tensors = [.. source.Names.Select(name => new TensorDeclaration(
            name, DType.F32, name.Contains(".mlp.gate.") ? [experts, .. source.Entry(name).Shape[1..]] : source.Entry(name).Shape))];
        WriteZeros(folder, tensors);
        Checkpoint result = Checkpoint.Open(folder);
        foreach (string name in result.Names) result.Get(name);
        Directory.Delete(folder, recursive: true);
        return result;
    }

    private static void WriteZeros(string folder, TensorDeclaration[] tensors) =>
        CheckpointWriter.Write(folder, tensors, t => HostMemory.Allocate(new Shape(t.Shape), t.DType));

    private static void Copy(Checkpoint source, string folder, long shardBytes) =>
        CheckpointWriter.Write(
            folder,
            source.Names.Order(StringComparer.Ordinal).Select(name => new TensorDeclaration(name, source.Entry(name).DType, source.Entry(name).Shape)),
            tensor => source.Get(tensor.Name),
            shardBytes);

    private static void AssertSameBytes(Tensor expected, Tensor actual)
    {
        Assert.Equal((expected.DType, expected.Shape), (actual.DType, actual.Shape));
        Assert.Equal(expected.AsSpan<float>().ToArray(), actual.AsSpan<float>().ToArray());
    }

    private void AssertFails(string expected, Action action)
    {
        FathomException error = Assert.Throws<FathomException>(action);
        output.WriteLine(error.Message);
        Assert.Contains(expected, error.Message);
        Assert.DoesNotContain('\n', error.Message);
    }
}

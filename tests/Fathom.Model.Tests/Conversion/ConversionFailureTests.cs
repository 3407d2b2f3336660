// What goes wrong in a conversion is one line, and leaves neither the new folder nor a part of it; and nothing that a file may
// hold makes it crash.
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class ConversionFailureTests(ITestOutputHelper output)
{
    private const string Weight = "model.layers.0.mlp.up_proj.weight", Scale = Weight + "_scale_inv";

    [Theory]
    [InlineData("there is no 'model.layers.0.mlp.up_proj.weight_scale_inv'", "missing")]
    [InlineData("[3, 1], expected F32 [3, 2]", "misshapen")]
    [InlineData("is I32 [3, 2], expected F32", "integers")]
    [InlineData("is NaN in row 2, column 1", "nan")]
    [InlineData("is Infinity in row 0, column 1", "infinite")]
    [InlineData("is 0 in row 1, column 0", "zero")]
    [InlineData("is -1 in row 1, column 1", "negative")]
    [InlineData("config.json has no quantization_config", "no configuration")]
    [InlineData("quantization_config in config.json says HIF8", "another method")]
    [InlineData("in blocks of 64 x 64", "another block size")]
    public void Scales_that_do_not_fit_are_named(string expected, string damage)
    {
        using var folder = new TemporaryFolder();
        WriteQuantized(folder.File("in"), damage);
        foreach (DType format in (DType[])[DType.F8E4M3, DType.BF16])
            AssertFails(expected, () => ModelConverter.Convert(folder.File("in"), folder.File("out"), new ConversionOptions(format)));
        Assert.Equal([folder.File("in")], Directory.GetFileSystemEntries(folder.Path));

        // Reading for training and for inference says the same.
        ModelConfig config = ModelConfig.Load(folder.File("in"));
        using Checkpoint checkpoint = Checkpoint.Open(folder.File("in"));
        AssertFails(expected, () => new CheckpointReader(checkpoint, config.QuantizationConfig).ReadF32(Weight));
        using var device = new Fathom.Compute.Cpu.CpuDevice(1);
        AssertFails(expected, () => _ = new DeepSeekModel(device, config, new CheckpointSource(device, checkpoint, config)));
    }

    [Theory]
    [InlineData(float.NaN, DType.F32)]
    [InlineData(float.PositiveInfinity, DType.F32)]
    [InlineData(float.NegativeInfinity, DType.BF16)]
    public void A_value_that_is_not_finite_is_placed(float value, DType dtype)
    {
        using var folder = new TemporaryFolder();
        float[] w = new float[300 * 200];
        w[259 * 200 + 131] = value;
        ConversionFixtures.Write(folder.File("in"), ConversionFixtures.Dense(200, 300), dtype, name => name == Weight ? w : null);
        foreach (DType format in (DType[])[DType.F8E4M3, DType.HiF8])
        {
            AssertFails(
                $"converting '{Weight}': a value in rows 256 and on, columns 128 and on is not finite",
                () => ModelConverter.Convert(folder.File("in"), folder.File("out"), new ConversionOptions(format) { Threads = 3 }));
        }

        Assert.Equal([folder.File("in")], Directory.GetFileSystemEntries(folder.Path));
        ModelConverter.Convert(folder.File("in"), folder.File("out"), new ConversionOptions(DType.BF16));
        using Checkpoint result = Checkpoint.Open(folder.File("out"));
        Assert.Equal(value, new CheckpointReader(result).ReadF32(Weight)[259 * 200 + 131]);
    }

    [Fact]
    public void A_folder_with_something_in_it_is_left_alone()
    {
        using var folder = new TemporaryFolder();
        ConversionFixtures.Write(folder.File("in"), ConversionFixtures.Dense(24, 32), DType.F32);
        Directory.CreateDirectory(folder.File("out"));
        File.WriteAllText(folder.File("out", "mine.txt"), "x");
        File.WriteAllText(folder.File("file"), "y");
        var options = new ConversionOptions(DType.BF16);
        AssertFails("the folder is not empty", () => ModelConverter.Convert(folder.File("in"), folder.File("out"), options));
        AssertFails("the folder is not empty", () => ModelConverter.Convert(folder.File("in"), folder.File("in"), options));
        AssertFails("a file of that name is in the way", () => ModelConverter.Convert(folder.File("in"), folder.File("file"), options));
        AssertFails("this is no new folder", () => ModelConverter.Convert(folder.File("in"), "/", options));
        File.Delete(folder.File("out", "mine.txt"));
        ModelConverter.Convert(folder.File("in"), folder.File("out") + Path.DirectorySeparatorChar, options);
        Assert.Equal([folder.File("file"), folder.File("in"), folder.File("out")], Directory.GetFileSystemEntries(folder.Path).Order());
    }

    [Fact]
    public void Two_conversions_into_one_folder_do_not_meet()
    {
        using var folder = new TemporaryFolder();
        ConversionFixtures.Write(folder.File("in"), ConversionFixtures.Dense(24, 32), DType.F32);
        using (var first = new AtomicFolder(folder.File("out")))
        {
            File.WriteAllText(Path.Combine(first.Temporary, "part"), "x");
            AssertFails("another process", () => ModelConverter.Convert(folder.File("in"), folder.File("out"), new ConversionOptions(DType.BF16)));
            Assert.True(File.Exists(Path.Combine(first.Temporary, "part")));
        }

        Assert.Equal([folder.File("in")], Directory.GetFileSystemEntries(folder.Path));

        // What a killed process left is emptied and used.
        Directory.CreateDirectory(folder.File(".out.tmp", "deep"));
        File.WriteAllText(folder.File(".out.tmp", "model-00001-of-00009.safetensors"), "x");
        File.WriteAllText(folder.File(".out.tmp", ".lock"), "");
        ModelConverter.Convert(folder.File("in"), folder.File("out"), new ConversionOptions(DType.BF16));
        Assert.Equal(["config.json", "model.safetensors"], Directory.GetFileSystemEntries(folder.File("out")).Select(Path.GetFileName).Order());
        Assert.Equal([folder.File("in"), folder.File("out")], Directory.GetFileSystemEntries(folder.Path).Order());
    }

    [Fact]
    public void Stopped_at_any_strip_it_leaves_nothing()
    {
        using var folder = new TemporaryFolder();
        ConversionFixtures.Write(folder.File("in"), ConversionFixtures.Dense(200, 300), DType.F32);
        for (int after = 0; after < 15; after += 2)
        {
            using var stop = new CancellationTokenSource();
            int reports = 0;
            Assert.Throws<OperationCanceledException>(() => ModelConverter.Convert(
                folder.File("in"), folder.File("out"), new ConversionOptions(DType.F8E4M3) { Threads = 1, ShardBytes = 50_000 }, (_, _) =>
                {
                    if (reports++ == after) stop.Cancel();
                },
                stop.Token));
            Assert.Equal([folder.File("in")], Directory.GetFileSystemEntries(folder.Path));
        }
    }

    [Fact]
    public void A_full_disk_is_one_line_and_leaves_nothing()
    {
        using var disk = new SmallDisk(2048);
        using var folder = new TemporaryFolder();
        ConversionFixtures.Write(folder.File("in"), ConversionFixtures.Dense(520, 1100), DType.F32);
        // The first shards fit; the whole does not, which shows before any data is converted.
        AssertFails(disk.Path, () => ModelConverter.Convert(
            folder.File("in"), disk.File("out"), new ConversionOptions(DType.F32) { ShardBytes = 1_000_000 }, (_, _) => Assert.Fail("data was converted")));
        Assert.Empty(Directory.GetFileSystemEntries(disk.Path));

        // Weights fit, but not what comes after them.
        File.WriteAllBytes(folder.File("in", "tokenizer.json"), new byte[1 << 20]);
        AssertFails(disk.Path, () => ModelConverter.Convert(folder.File("in"), disk.File("out"), new ConversionOptions(DType.F8E4M3)));
        Assert.Empty(Directory.GetFileSystemEntries(disk.Path));
        File.Delete(folder.File("in", "tokenizer.json"));
        ModelConverter.Convert(folder.File("in"), disk.File("out"), new ConversionOptions(DType.F8E4M3));
    }

    [Fact]
    public void A_source_that_shrinks_meanwhile_is_an_error()
    {
        using var folder = new TemporaryFolder();
        ConversionFixtures.Write(folder.File("in"), ConversionFixtures.Dense(200, 300), DType.F32);
        string weights = folder.File("in", "model.safetensors");
        AssertFails("became shorter", () => ModelConverter.Convert(
            folder.File("in"), folder.File("out"), new ConversionOptions(DType.BF16) { Threads = 1 }, (_, _) => File.OpenHandle(weights, FileMode.Truncate, FileAccess.Write).Dispose()));
        Assert.Equal([folder.File("in")], Directory.GetFileSystemEntries(folder.Path));
    }

    [Fact]
    public void Damage_is_an_error_or_converts_and_never_a_crash()
    {
        using var folder = new TemporaryFolder();
        WriteQuantized(folder.File("in"), "none");
        byte[] weights = File.ReadAllBytes(folder.File("in", "model.safetensors"));
        byte[] config = File.ReadAllBytes(folder.File("in", "config.json"));
        int header = 8 + BitConverter.ToInt32(weights);
        var random = new Random(11);
        int converted = 0, refused = 0;
        for (int round = 0; round < 400; round++)
        {
            byte[] damaged = [.. weights], damagedConfig = [.. config];
            for (int i = random.Next(1, 4); i > 0; i--)
            {
                switch (random.Next(4))
                {
                    case 0: damaged[random.Next(8, header)] = (byte)"0123456789,[]\"F8"[random.Next(16)]; break;
                    case 1: damaged[random.Next(header, damaged.Length)] = (byte)random.Next(256); break;
                    case 2: damagedConfig[random.Next(damagedConfig.Length)] = (byte)"0123456789,[]\"{}"[random.Next(16)]; break;
                    default: damaged = damaged[..random.Next(damaged.Length)]; i = 1; break;
                }

                if (damaged.Length <= header) break;
            }

            File.WriteAllBytes(folder.File("in", "model.safetensors"), damaged);
            File.WriteAllBytes(folder.File("in", "config.json"), damagedConfig);
            DType format = (DType[])[DType.F8E4M3, DType.HiF8, DType.BF16, DType.F32] is var formats ? formats[round % 4] : default;
            try
            {
                ModelConverter.Convert(folder.File("in"), folder.File("out"), new ConversionOptions(format) { Threads = 2, PowerOfTwoScales = round % 3 == 0 ? true : null });
                Directory.Delete(folder.File("out"), recursive: true);
                converted++;
            }
            catch (FathomException e)
            {
                Assert.DoesNotContain('\n', e.Message);
                refused++;
            }

            Assert.Equal([folder.File("in")], Directory.GetFileSystemEntries(folder.Path));
        }

        output.WriteLine($"{converted} converted, {refused} refused");
        Assert.True(converted > 40 && refused > 100);
    }

    /// <summary>A dense FP8 model of normal weights; then something about one weight's scales is made wrong.</summary>
    private static void WriteQuantized(string folder, string damage)
    {
        QuantizationConfig? quantization = damage switch
        {
            "no configuration" => null,
            "another method" => new QuantizationConfig(WeightType: DType.HiF8),
            "another block size" => new QuantizationConfig(64, 64),
            _ => new QuantizationConfig(),
        };
        ModelConfig config = ConversionFixtures.Dense(200, 300) with { QuantizationConfig = quantization };
        var tensors = TensorLayout.Enumerate(config).SelectMany(t => t.Declare(DType.BF16, new QuantizationConfig())).ToList();
        int index = tensors.FindIndex(t => t.Name == Scale);
        if (damage == "missing") tensors.RemoveAt(index);
        if (damage == "misshapen") tensors[index] = tensors[index] with { Shape = [3, 1] };
        if (damage == "integers") tensors[index] = tensors[index] with { DType = DType.I32 };
        Directory.CreateDirectory(folder);
        using var writer = new SafetensorsWriter(Path.Combine(folder, "model.safetensors"), tensors);
        foreach (TensorDeclaration tensor in tensors)
        {
            var bytes = new byte[tensor.Bytes];
            if (tensor.DType == DType.F32) NumberFormats.ConvertFromSingle(DType.F32, [.. Enumerable.Repeat(0.5f, bytes.Length / 4)], bytes);
            else new Random(tensor.Name.Length).NextBytes(bytes);
            if (tensor.DType == DType.F8E4M3) foreach (ref byte code in bytes.AsSpan()) code &= 0xF7; // no NaN
            if (tensor.DType == DType.BF16) bytes.AsSpan().Fill(0x3C);
            (int At, float Value)? bad = tensor.Name != Scale ? null : damage switch
            {
                "nan" => (5, float.NaN),
                "infinite" => (1, float.PositiveInfinity),
                "zero" => (2, 0),
                "negative" => (3, -1),
                _ => null,
            };
            if (bad is { } b) BitConverter.TryWriteBytes(bytes.AsSpan(b.At * 4), b.Value);
            writer.Write(tensor.Name, bytes);
        }

        writer.Finish();
        config.Save(folder);
    }

    private void AssertFails(string expected, Action action)
    {
        FathomException error = Assert.Throws<FathomException>(action);
        output.WriteLine(error.Message);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
    }
}

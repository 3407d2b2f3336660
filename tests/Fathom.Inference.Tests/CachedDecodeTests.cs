// Prefill and absorbed decode over the cache must give what recomputing the whole sequence gives.
using System.Text.Json.Nodes;
using Fathom.Compute.Cpu;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class CachedDecodeTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(24, "cpu", DType.F32, 2e-5)]
    [InlineData(0, "cpu", DType.F32, 2e-5)]
    [InlineData(24, "reference", DType.F32, 2e-5)]
    [InlineData(24, "cpu", DType.BF16, 3e-2)]
    [InlineData(24, "separate", DType.F32, 2e-5)]
    [InlineData(0, "separate", DType.BF16, 3e-2)]
    [InlineData(24, "cuda", DType.F32, 2e-5)]
    [InlineData(0, "cuda", DType.BF16, 3e-2)]
    public void Cached_decode_equals_recomputation(int queryRank, string deviceName, DType cacheType, double tolerance)
    {
        using Compute.Device device = TestDevices.Open(deviceName);
        ModelConfig config = TestModels.Config(queryRank);
        DeepSeekModel model = TestModels.Random(device, config);
        int length = deviceName == "reference" ? 40 : 150, prompt = length / 2;
        int[] tokens = TestModels.Tokens(length + 1, config.VocabSize, 1);
        var micro = new MicroBatch(model, 1, length, training: false);
        micro.Load(tokens);
        float[] expected = device.Read<float>(model.Logits(micro, 0));

        using var session = new SequenceLogits(model, 256, cacheType, Recipe.Fp32);
        double worst = 0, largest = expected.Max(MathF.Abs);
        Compare(session.Prefill(tokens.AsSpan(0, prompt / 2)), prompt / 2 - 1);
        Compare(session.Prefill(tokens.AsSpan(prompt / 2, prompt - prompt / 2)), prompt - 1);
        for (int t = prompt; t < length; t++) Compare(session.Decode(tokens[t]), t);
        output.WriteLine($"{deviceName}, {cacheType}: largest difference {worst:E2} of {largest:E2}");
        Assert.True(worst <= tolerance * largest, $"{worst:E3} of {largest:E3}");

        void Compare(ReadOnlySpan<float> logits, int position)
        {
            for (int v = 0; v < config.VocabSize; v++)
            {
                float e = expected[position * config.VocabSize + v];
                worst = Math.Max(worst, double.IsNaN(logits[v]) ? double.PositiveInfinity : Math.Abs(e - logits[v]));
            }
        }
    }

    [Theory]
    [InlineData("tiny-v3", "cpu")]
    [InlineData("tiny-v3-yarn", "cpu")]
    [InlineData("tiny-v3", "separate")]
    [InlineData("tiny-v3", "cuda")]
    [InlineData("tiny-v3-yarn", "cuda")]
    public async Task Greedy_ids_are_those_of_transformers(string name, string deviceName)
    {
        string folder = Golden.Shared("golden", name);
        using Compute.Device device = TestDevices.Open(deviceName);
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        int[] greedy = [.. reference.ReadI64("greedy").Select(id => (int)id)];
        LoadedModel loaded = LoadedModel.Open(device, folder);
        using var engine = new InferenceEngine(loaded, new EngineOptions { ContextTokens = 64, CacheType = DType.F32, Recipe = Recipe.Fp32 });
        Answer answer = await TestModels.Run(engine, new GenerationRequest { Prompt = greedy[..8], Sampling = new SamplingOptions { Temperature = 0, MaxNewTokens = 24, StopAtEos = false } });
        Assert.Equal(greedy[8..], answer.Ids);
    }

    // A conversation: the next prompt goes on from the answer before.
    [Fact]
    public async Task A_continued_text_reuses_the_cache_and_gives_the_same_tokens()
    {
        using var device = new CpuDevice(2);
        LoadedModel model = TestModels.Loaded(device);
        int[] prompt = TestModels.Tokens(90, 160, 5);
        var options = new EngineOptions { ContextTokens = 256, CacheTokens = 256, MostRunning = 1, Reuse = PrefixReuse.PromptsAndAnswers, BatchInvariant = false };
        using var warm = new InferenceEngine(model, options);
        using var cold = new InferenceEngine(model, options);
        Answer first = await Run(warm, prompt[..60]);
        int[] next = [.. prompt[..60], .. first.Ids, .. prompt[60..]];
        Answer fromCache = await Run(warm, next), fresh = await Run(cold, next);
        Assert.Equal(128, fromCache.Result.CachedTokens); // whole blocks of 60 + 80 tokens
        Assert.Equal(fresh.Ids, fromCache.Ids);

        static Task<Answer> Run(InferenceEngine engine, int[] ids) =>
            TestModels.Run(engine, new GenerationRequest { Prompt = ids, Sampling = new SamplingOptions { Temperature = 0, MaxNewTokens = 80, StopAtEos = false } });
    }

    [Fact]
    public void A_decode_step_allocates_nothing_after_warm_up()
    {
        using var device = new CpuDevice(2);
        DeepSeekModel model = TestModels.Random(device, TestModels.Config());
        using var session = new SequenceLogits(model, 512);
        int[] tokens = TestModels.Tokens(400, 160, 9);
        session.Prefill(tokens.AsSpan(0, 100));
        for (int t = 100; t < 300; t++) session.Decode(tokens[t]);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int t = 300; t < 315; t++) session.Decode(tokens[t]);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    // What a GPU serves by default: results in BF16 beside a cache in BF16. A row of logits moves by a few roundings of each layer.
    [Fact]
    public void Results_in_BF16_are_near_those_in_F32()
    {
        ModelConfig config = TestModels.Config();
        using var cpu = new CpuDevice(2);
        using var separate = new SeparateDevice(2, holdsBFloat16: true);
        using var exact = new SequenceLogits(TestModels.Random(cpu, config), 128, DType.F32);
        using var rounded = new SequenceLogits(TestModels.Random(separate, config), 128);
        AssertNear(exact, rounded, config.VocabSize, 1e-5, 2e-2);
    }

    // What a processor with BF16 dot products serves by default from BF16 weights: inputs of products are rounded once.
    [Fact]
    public void Inputs_in_BF16_are_near_those_in_F32()
    {
        using var cpu = new CpuDevice(2);
        Assert.SkipWhen(cpu.LinearInBFloat16 is null, "the processor has no BF16 dot product");
        Assert.Equal(Recipe.Bf16Activations, Recipe.ForInference(cpu));
        DeepSeekModel model = TestModels.Stored(cpu).Model;
        using var exact = new SequenceLogits(model, 128, DType.F32, Recipe.Fp32);
        using var rounded = new SequenceLogits(model, 128, DType.F32);
        AssertNear(exact, rounded, model.Config.VocabSize, 1e-5, 1e-2);
    }

    private void AssertNear(SequenceLogits exact, SequenceLogits rounded, int vocabulary, double least, double bound)
    {
        int[] tokens = TestModels.Tokens(80, vocabulary, 4);
        double difference = 0, size = 0;
        Compare(exact.Prefill(tokens.AsSpan(0, 60)), rounded.Prefill(tokens.AsSpan(0, 60)));
        for (int t = 60; t < 80; t++) Compare(exact.Decode(tokens[t]), rounded.Decode(tokens[t]));
        output.WriteLine($"relative norm of the difference over 21 rows of logits: {Math.Sqrt(difference / size):E2} (bound {bound:E0})");
        Assert.InRange(Math.Sqrt(difference / size), least, bound);

        void Compare(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual)
        {
            for (int v = 0; v < expected.Length; v++)
            {
                difference += Math.Pow((double)expected[v] - actual[v], 2);
                size += (double)expected[v] * expected[v];
            }
        }
    }

    // The loss by FP8 latents, against a cache that rounds nothing. A number is off by 2.6 % at the middle (E4M3 has three bits behind the
    // point), 16 times BF16's. Without experts, and where every token visits all of them, that is what arrives at the logits; else some
    // tokens of these random models, whose experts are nearly equally good, go to others, which moves logits by much more than rounding does.
    [Theory]
    [InlineData("dense", "cpu", 5e-2)]
    [InlineData("dense", "separate", 5e-2)]
    [InlineData("dense", "cuda", 5e-2)]
    [InlineData("tiny-v3, all experts", "cpu", 5e-2)]
    [InlineData("nano-v3-train, all experts", "cpu", 5e-2)]
    [InlineData("tiny-v3", "cpu", 0.15)]
    [InlineData("tiny-v3-yarn", "cpu", 0.15)]
    [InlineData("nano-v3-train", "cpu", 5e-2)]
    [InlineData("tiny-v3", "cuda", 0.2)]
    public void Logits_over_a_cache_in_FP8_are_near_those_over_one_in_F32(string name, string deviceName, double bound)
    {
        using Compute.Device device = TestDevices.Open(deviceName);
        using var folder = new TemporaryFolder();
        DeepSeekModel model = name == "dense" ? TestModels.Random(device, TestModels.Config() with { FirstKDenseReplace = 3 }) : LoadedModel.Open(device, GoldenModel(name, folder)).Model;
        int[] ids = TestModels.Tokens(60, model.Config.VocabSize, 8);
        double fp8 = Distance(DType.F8E4M3), bf16 = Distance(DType.BF16);
        output.WriteLine($"{name}, {deviceName}: relative norm of the difference over {ids.Length - 29} rows of logits: FP8 {fp8:E2} (bound {bound:E0}), BF16 {bf16:E2}");
        Assert.InRange(fp8, 1e-5, bound);
        Assert.True(bf16 < fp8);

        double Distance(DType type)
        {
            using var exact = new SequenceLogits(model, 64, DType.F32, Recipe.Fp32);
            using var rounded = new SequenceLogits(model, 64, type, Recipe.Fp32);
            double difference = 0, size = 0;
            Add(exact.Prefill(ids.AsSpan(0, 30)), rounded.Prefill(ids.AsSpan(0, 30)));
            foreach (int id in ids[30..]) Add(exact.Decode(id), rounded.Decode(id));
            return Math.Sqrt(difference / size);

            void Add(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual)
            {
                for (int v = 0; v < expected.Length; v++)
                {
                    difference += Math.Pow((double)expected[v] - actual[v], 2);
                    size += (double)expected[v] * expected[v];
                }
            }
        }
    }

    // A golden model as it is, or with a router that sends every token to all experts.
    private static string GoldenModel(string name, TemporaryFolder folder)
    {
        const string All = ", all experts";
        string golden = Golden.Shared("golden", name.Replace(All, "", StringComparison.Ordinal));
        if (!name.EndsWith(All, StringComparison.Ordinal)) return golden;
        JsonObject config = JsonNode.Parse(File.ReadAllText(Path.Combine(golden, "config.json")))!.AsObject();
        config["num_experts_per_tok"] = (int)config["n_routed_experts"]!;
        (config["n_group"], config["topk_group"]) = (1, 1);
        File.WriteAllText(folder.File("config.json"), config.ToJsonString());
        File.Copy(Path.Combine(golden, "model.safetensors"), folder.File("model.safetensors"));
        return folder.Path;
    }

    // As the engine fills recorded steps up: what the sequences get, and what their blocks hold, is what it would be without.
    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F8E4M3)]
    public void Rows_that_fill_a_pass_up_disturb_no_other(DType type)
    {
        using var device = new CpuDevice(2);
        ModelConfig config = TestModels.Config();
        DeepSeekModel model = TestModels.Random(device, config);
        (float[] Logits, byte[] Blocks) plain = Run(0), filled = Run(16);
        output.WriteLine($"{type}: {plain.Logits.Length} logits and {plain.Blocks.Length} bytes of cache, bits equal");
        Assert.Equal(plain.Logits, filled.Logits);
        Assert.Equal(plain.Blocks, filled.Blocks);

        unsafe (float[] Logits, byte[] Blocks) Run(int rows)
        {
            var cache = new LatentCache(device, config, 256, type);
            var pass = new InferencePass(device, byRow: true);
            CachedSequence[] sequences = [.. Enumerable.Range(0, 3).Select(_ => new CachedSequence(cache.Pool))];
            for (int s = 0; s < sequences.Length; s++)
            {
                sequences[s].TryGrow(20 + s);
                pass.AddPrefill(sequences[s], TestModels.Tokens(20 + s, config.VocabSize, (ulong)s), wantLogits: false);
            }

            model.Infer(pass, cache);
            var logits = new List<float>();
            for (int step = 0; step < 3; step++)
            {
                pass.Clear();
                foreach (CachedSequence sequence in sequences)
                {
                    sequence.TryGrow(1);
                    pass.AddDecode(sequence, 5 + step);
                }

                pass.FillUp(rows, cache);
                Assert.Equal(Math.Max(3, rows), pass.Rows);
                logits.AddRange(device.Read<float>(model.Infer(pass, cache).Slice(0, 3)));
            }

            var blocks = new List<byte>();
            for (int l = 0; l < config.NumHiddenLayers; l++)
            {
                Compute.Tensor pool = cache.Layer(l).Slice(0, cache.Pool.Blocks);
                blocks.AddRange(new ReadOnlySpan<byte>(pool.Pointer<byte>(), (int)pool.Bytes));
            }

            return ([.. logits], [.. blocks]);
        }
    }

    [Fact]
    public void Recorded_steps_come_in_few_sizes()
    {
        Assert.Equal([1, 2, 4, 8, 32, 64, 64, 128, 192, 512], ((int[])[1, 2, 3, 5, 17, 33, 64, 65, 129, 511]).Select(StepRunner.RecordedRows));
    }

    [Fact]
    public void A_decode_step_copies_once_to_the_device_and_once_back()
    {
        using var device = new SeparateDevice();
        DeepSeekModel model = TestModels.Random(device, TestModels.Config());
        using var session = new SequenceLogits(model, 128);
        session.Prefill(TestModels.Tokens(20, 160, 3));
        session.Decode(5);
        int before = device.Copies;
        for (int i = 0; i < 10; i++) session.Decode(i);
        Assert.Equal(20, device.Copies - before);
    }

    [Fact]
    public void What_does_not_fit_is_refused_by_name()
    {
        using var device = new CpuDevice(1);
        DeepSeekModel model = TestModels.Random(device, TestModels.Config());
        using var session = new SequenceLogits(model, 64);
        Assert.Contains("160", Assert.Throws<FathomException>(() => session.Prefill([1, 160]).Length).Message, StringComparison.Ordinal);
        Assert.Contains("64", Assert.Throws<FathomException>(() => session.Prefill(new int[65]).Length).Message, StringComparison.Ordinal);
        Assert.Contains("512", Assert.Throws<FathomException>(() => new SequenceLogits(model, 513)).Message, StringComparison.Ordinal);
    }
}

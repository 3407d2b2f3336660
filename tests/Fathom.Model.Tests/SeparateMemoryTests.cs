// The model over a device whose memory the processor cannot read, as a GPU's: the same bits as on the processor, and with results in
// BF16 the same but for where they are rounded.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class SeparateMemoryTests(ITestOutputHelper output)
{
    private static readonly ModelConfig Config = ModelPresets.Get("nano") with { NumNextnPredictLayers = 2 };

    [Theory]
    [InlineData("tiny-v3", "input_ids", null)]
    [InlineData("tiny-v3-yarn", "input_ids", null)]
    [InlineData("nano-v3-fp8", "ids", null)]
    [InlineData("nano-v3-fp8", "ids", "fp8 activations")]
    public void A_checkpoint_gives_the_processors_logits(string name, string tensor, string? precision)
    {
        string folder = Golden.Shared("golden", name);
        Recipe recipe = precision is null ? Recipe.Fp32 : Recipe.Fp8Activations;
        using CpuDevice cpu = new(2);
        using SeparateDevice separate = new();
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        float[] expected = Logits(cpu), actual = Logits(separate);
        output.WriteLine($"{name}: {expected.Length} logits, {expected.Zip(actual).Count(p => p.First.Equals(p.Second))} equal");
        Assert.Equal(expected, actual);

        float[] Logits(Device device)
        {
            ModelConfig config = ModelConfig.Load(folder);
            using Checkpoint checkpoint = Checkpoint.Open(folder);
            var model = new DeepSeekModel(device, config, new CheckpointSource(device, checkpoint, config));
            long[] ids = reference.ReadI64(tensor);
            var micro = new MicroBatch(model, 1, 16, training: false, recipe);
            micro.Load([.. ids[..17].Select(id => (int)id)]);
            return device.Read<float>(model.Logits(micro, 0));
        }
    }

    [Theory]
    [InlineData("fp32")]
    [InlineData("bf16")]
    [InlineData("fp8")]
    [InlineData("hif8")]
    public void Losses_and_gradients_are_the_processors(string recipe)
    {
        using CpuDevice cpu = new(2);
        using SeparateDevice separate = new();
        (float[] losses, float[][] gradients) = Train(cpu, Recipe.Named(recipe));
        (float[] otherLosses, float[][] otherGradients) = Train(separate, Recipe.Named(recipe));
        output.WriteLine($"{recipe}: {losses.Length} losses, mean {losses.Average():F4}, {gradients.Sum(g => g.LongLength)} gradients");
        Assert.Equal(losses, otherLosses);
        Assert.Equal(gradients, otherGradients);
    }

    // A forward pass rounds every result once either way. A backward pass rounds in more places where results lie in BF16: gradients of
    // the logits, of queries and keys before they are turned back, sums of two products. Each is half a step, 2^-9, of a part of the result;
    // where it moves a value across a step of FP8, it is a whole step of that.
    [Theory]
    [InlineData("fp32", 0)]
    [InlineData("bf16", 0.02)]
    [InlineData("fp8", 0.1)]
    [InlineData("hif8", 0.1)]
    public void Results_in_BF16_give_the_same_losses_and_almost_the_same_gradients(string recipe, double tolerance)
    {
        using CpuDevice cpu = new(2);
        using SeparateDevice separate = new(2, holdsBFloat16: true);
        (float[] losses, float[][] gradients) = Train(cpu, Recipe.Named(recipe));
        (float[] otherLosses, float[][] otherGradients) = Train(separate, Recipe.Named(recipe));
        double worst = 0;
        for (int i = 0; i < gradients.Length; i++) worst = Math.Max(worst, Difference(gradients[i], otherGradients[i]));
        output.WriteLine($"{recipe}: the worst gradient differs by {worst:E2} in relative norm (bound {tolerance:E2})");
        Assert.Equal(losses, otherLosses);
        Assert.InRange(worst, 0, tolerance);
    }

    /// <summary>Norms that quantise their results on the way, with recipes that keep more and such that the values are needed anyway.</summary>
    [Theory]
    [InlineData(null, null, true)]
    [InlineData("recompute_norms", "false", true)]
    [InlineData("recompute_up_projections", "false", true)]
    [InlineData("saved_linear_input", "bf16", false)]
    [InlineData("activation", "e4m3 1x128 pow2", false)]
    public void Fused_norms_give_the_same_bits(string? field, string? value, bool fuses)
    {
        Recipe recipe = field is null ? Recipe.Fp8 : Recipe.Fp8.With(field, value!);
        using SeparateDevice composed = new(2, holdsBFloat16: true), fused = new(2, holdsBFloat16: true, fusesNorms: true);
        (float[] losses, float[][] gradients) = Train(composed, recipe);
        (float[] otherLosses, float[][] otherGradients) = Train(fused, recipe);
        output.WriteLine($"{recipe}: {fused.FusedNorms} fused norms");
        Assert.Equal(fuses, fused.FusedNorms > 0);
        Assert.Equal(0, composed.FusedNorms);
        Assert.Equal(losses, otherLosses);
        Assert.Equal(gradients, otherGradients);
    }

    // Sums in another order and probabilities of attention in BF16 round other values up and down: what can be asked for is that a GPU
    // is about as far from the exact gradients as the processor with the same recipe. A token between two experts may go to the other
    // one; that is no matter of degree, so BF16, where it happens now and then, is compared without experts.
    [Theory]
    [InlineData("fp32", true)]
    [InlineData("fp32", false)]
    [InlineData("bf16", false)]
    [InlineData("fp8", true)]
    [InlineData("fp8", false)]
    public void A_gpu_is_as_near_to_the_exact_gradients_as_the_processor(string recipe, bool experts)
    {
        ModelConfig config = experts ? Config : Config with { NRoutedExperts = 0, NumExpertsPerTok = 0, NGroup = 1, TopkGroup = 1, NSharedExperts = 0 };
        using Device gpu = TestDevices.Open("cuda");
        using CpuDevice cpu = new(2);
        (float[] exactLosses, float[][] exact) = Train(cpu, Recipe.Fp32, config);
        (float[] cpuLosses, float[][] onCpu) = Train(cpu, Recipe.Named(recipe), config);
        (float[] gpuLosses, float[][] onGpu) = Train(gpu, Recipe.Named(recipe), config);
        Near("losses", exactLosses, cpuLosses, gpuLosses);
        string[] names = [.. Parameters(cpu, out _, config).All.Where(p => p.Role != ParameterRole.RoutingBias).Select(p => p.Name)];
        for (int i = 0; i < names.Length; i++) Near(names[i], exact[i], onCpu[i], onGpu[i]);

        void Near(string what, float[] exact, float[] onCpu, float[] onGpu)
        {
            double processor = Difference(exact, onCpu), difference = Difference(exact, onGpu), bound = 1.5 * processor + 1e-5;
            output.WriteLine($"{what}: relative norm of the error {difference:E2}, the processor's {processor:E2}, bound {bound:E2}");
            Assert.True(difference <= bound, $"{recipe}, {what}: {difference:E3}, bound {bound:E3}");
        }
    }

    [Fact]
    public void Weights_saved_from_it_are_those_it_was_given()
    {
        using var folder = new TemporaryFolder();
        using SeparateDevice separate = new();
        ParameterSet parameters = Parameters(separate, out _);
        ModelFolder.Write(folder.Path, Config, parameters, DType.F32, null);
        using CpuDevice cpu = new(1);
        ParameterSet same = Parameters(cpu, out _), loaded = Parameters(separate, out _);
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        loaded.Initialize(9, 1);
        loaded.Load(checkpoint, Config);
        foreach ((Parameter expected, Parameter actual) in same.All.Zip(loaded.All))
            Assert.True(expected.Value.AsSpan<float>().SequenceEqual(separate.Read<float>(actual.Value)), expected.Name);
    }

    [Fact]
    public void A_weight_that_is_not_finite_is_named_when_it_is_asked_for()
    {
        using SeparateDevice separate = new();
        ParameterSet parameters = Parameters(separate, out _);
        parameters.AllocateOperands(Recipe.Fp8);
        Parameter hit = parameters.All.First(p => p.Name.EndsWith("o_proj.weight", StringComparison.Ordinal));
        float[] values = separate.Read<float>(hit.Value);
        values[^1] = float.NaN;
        separate.Write(hit.Value, values);
        parameters.RefreshOperands();
        string message = Assert.Throws<FathomException>(parameters.CheckOperands).Message;
        output.WriteLine(message);
        Assert.Contains(hit.Name, message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_forgotten_to_be_copied_throws()
    {
        using SeparateDevice separate = new();
        Tensor tensor = separate.Allocate(new Shape(2, 3), DType.F32, MemoryKind.Workspace), host = HostMemory.Allocate(new Shape(2, 3), DType.F32);
        Assert.Throws<InvalidOperationException>(() => tensor.AsSpan<float>().Length);
        Assert.Throws<InvalidOperationException>(() => separate.Reduction.Zero(host));
        Assert.Throws<InvalidOperationException>(() => separate.Upload(tensor, host));
        Assert.Throws<NullReferenceException>(() => { unsafe { return *tensor.Pointer<float>(); } });
    }

    private static (float[] Losses, float[][] Gradients) Train(Device device, Recipe recipe, ModelConfig? config = null)
    {
        ParameterSet parameters = Parameters(device, out DeepSeekModel model, config);
        parameters.AllocateGradients();
        parameters.AllocateOperands(recipe);
        parameters.RefreshOperands();
        var micro = new MicroBatch(model, 2, 40, training: true, recipe);
        micro.Reserve(2);
        var losses = new List<float>();
        for (int pass = 0; pass < 2; pass++)
        {
            micro.Pass = pass;
            micro.Load([.. Enumerable.Range(0, 82).Select(i => (i + 5 * pass) * 37 % Config.VocabSize)]);
            model.ForwardBackward(micro, new LossWeights(2, 0.3f, 1e-4f));
        }

        parameters.CheckOperands();
        micro.Pull();
        for (int pass = 0; pass < 2; pass++)
        {
            micro.Pass = pass;
            foreach (LossRows rows in micro.Depths) losses.AddRange(rows.HostLosses);
            losses.Add((float)micro.BalanceLoss());
        }

        return ([.. losses], [.. parameters.All.Where(p => !p.Gradient.IsEmpty).Select(p => device.Read<float>(p.Gradient))]);
    }

    private static ParameterSet Parameters(Device device, out DeepSeekModel model, ModelConfig? config = null)
    {
        var parameters = new ParameterSet(device);
        model = new DeepSeekModel(device, config ?? Config, parameters);
        parameters.Initialize(3, 0.05f);
        return parameters;
    }

    /// <summary>Norm of the difference over the norm.</summary>
    private static double Difference(float[] expected, float[] actual)
    {
        double difference = 0, size = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            difference += Math.Pow((double)expected[i] - actual[i], 2);
            size += (double)expected[i] * expected[i];
        }

        return size == 0 ? difference : Math.Sqrt(difference / size);
    }
}

// The whole model against what independent programs computed: Hugging Face transformers (tiny-v3, tiny-v3-yarn) and an FP8
// checkpoint's dequantised weights (nano-v3-fp8).
using Fathom.Compute;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class GoldenModelTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("tiny-v3", "cpu")]
    [InlineData("tiny-v3", "reference")]
    [InlineData("tiny-v3", "cuda")]
    [InlineData("tiny-v3-yarn", "cpu")]
    [InlineData("tiny-v3-yarn", "cuda")]
    public void Logits_are_those_of_transformers(string name, string device)
    {
        string folder = Golden.Shared("golden", name);
        using Device on = TestDevices.Open(device);
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        DeepSeekModel model = Open(on, folder);
        MicroBatch micro = Batch(model, reference, "input_ids", training: false);
        Compare("logits", reference.ReadF32("logits"), on.Read<float>(model.Logits(micro, 0)), 1e-4);
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("cuda")]
    public void Dequantised_fp8_weights_give_the_reference_logits(string device)
    {
        string folder = Golden.Shared("golden", "nano-v3-fp8");
        using Device on = TestDevices.Open(device);
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        DeepSeekModel model = Open(on, folder);
        MicroBatch micro = Batch(model, reference, "ids", training: false);
        Compare("logits_w8", reference.ReadF32("logits_w8"), on.Read<float>(model.Logits(micro, 0)), 1e-4);
        Compare("mtp_logits_w8", reference.ReadF32("mtp_logits_w8"), on.Read<float>(model.Logits(micro, 1)), 1e-4);
    }

    // Sums of FP8 products in F32 repeat the reference. Hopper's tensor cores keep about 14 bits of a running sum, which moves codes of the
    // next layers' operands; the processor's emulation of them says how far that may lead.
    [Theory]
    [InlineData("cpu")]
    [InlineData("cuda")]
    public void Fp8_activations_give_the_reference_logits(string device)
    {
        string folder = Golden.Shared("golden", "nano-v3-fp8");
        using Device on = TestDevices.Open(device);
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        float[] expected = reference.ReadF32("logits_w8a8");
        double bound = 2e-3;
        if (device == "cuda")
        {
            using Device cpu = TestDevices.Open("cpu");
            bound = 1.2 * Difference(Fp8Logits(cpu, folder, reference, Recipe.Fp8Activations with { Promotion = Accumulation.Hopper() }), expected);
        }

        double difference = Difference(Fp8Logits(on, folder, reference, Recipe.Fp8Activations), expected);
        output.WriteLine($"relative norm of the difference {difference:E2} (bound {bound:E2}); that of quantising at all {Difference(reference.ReadF32("logits_w8"), expected):E2}");
        Assert.InRange(difference, 0, bound);
    }

    private static float[] Fp8Logits(Device device, string folder, SafetensorsFile reference, Recipe recipe)
    {
        DeepSeekModel model = Open(device, folder);
        return device.Read<float>(model.Logits(Batch(model, reference, "ids", training: false, recipe), 0));
    }

    /// <summary>Norm of the difference over the norm of what is expected.</summary>
    private static double Difference(float[] actual, float[] expected)
    {
        double difference = 0, size = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            difference += Math.Pow(actual[i] - (double)expected[i], 2);
            size += (double)expected[i] * expected[i];
        }

        return Math.Sqrt(difference / size);
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("cuda")]
    public void Gradients_are_those_of_transformers(string device)
    {
        string folder = Golden.Shared("golden", "tiny-v3");
        using Device on = TestDevices.Open(device);
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        ModelConfig config = ModelConfig.Load(folder) with { NumNextnPredictLayers = 0 };
        var parameters = new ParameterSet(on);
        var model = new DeepSeekModel(on, config, parameters);
        using (Checkpoint checkpoint = Checkpoint.Open(folder)) parameters.Load(checkpoint, config);
        parameters.AllocateGradients();

        // The loss of the shifted ids: T - 1 predictions a sequence.
        long[] ids = reference.ReadI64("input_ids");
        var micro = new MicroBatch(model, 2, 32, training: true);
        micro.Load([.. ids.Select(id => (int)id)]);
        model.ForwardBackward(micro, new LossWeights(1, 0, 0));
        micro.Pull();
        double loss = micro.Depths[0].MeanLoss(), expected = reference.ReadF32("loss")[0];
        output.WriteLine($"loss {loss:R} for {expected:R}");
        Assert.Equal(expected, loss, 1e-5);

        int compared = 0;
        foreach ((string name, Tensor gradient) in parameters.All.Where(p => !p.Gradient.IsEmpty).SelectMany(p => p.Split(p.Gradient)))
        {
            Compare(name, Expected(reference, config, name), on.Read<float>(gradient), 1e-4);
            compared++;
        }

        Assert.Equal(TensorLayout.Enumerate(config).Count(t => !t.Name.EndsWith("e_score_correction_bias", StringComparison.Ordinal)), compared);
    }

    /// <summary>The reference gradient of a weight; transformers holds the experts stacked, gate and up as one.</summary>
    private static float[] Expected(SafetensorsFile reference, ModelConfig config, string name)
    {
        if (reference.TryGet("grad." + name, out _)) return reference.ReadF32("grad." + name);
        string[] parts = name.Split(".experts.");
        int expert = int.Parse(parts[1].Split('.')[0], System.Globalization.CultureInfo.InvariantCulture);
        int size = config.HiddenSize * config.MoeIntermediateSize;
        bool down = name.Contains("down_proj", StringComparison.Ordinal), up = name.Contains("up_proj", StringComparison.Ordinal);
        float[] stacked = reference.ReadF32($"grad.{parts[0]}.experts.{(down ? "down_proj" : "gate_up_proj")}");
        int start = down ? expert * size : (2 * expert + (up ? 1 : 0)) * size;
        return stacked[start..(start + size)];
    }

    private static DeepSeekModel Open(Device device, string folder)
    {
        ModelConfig config = ModelConfig.Load(folder);
        return new DeepSeekModel(device, config, new CheckpointSource(device, Checkpoint.Open(folder), config));
    }

    private static MicroBatch Batch(DeepSeekModel model, SafetensorsFile reference, string tensor, bool training, Recipe? recipe = null)
    {
        long[] shape = reference.TryGet(tensor, out SafetensorsEntry? entry) ? entry.Shape : throw new InvalidOperationException(tensor);
        long[] ids = reference.ReadI64(tensor);
        int batch = (int)shape[0], tokens = (int)shape[1];
        var micro = new MicroBatch(model, batch, tokens, training, recipe);
        var padded = new int[batch * (tokens + 1)]; // The last target of a sequence is not known and not used.
        for (int b = 0; b < batch; b++)
        {
            for (int t = 0; t < tokens; t++) padded[b * (tokens + 1) + t] = (int)ids[b * tokens + t];
        }

        micro.Load(padded);
        return micro;
    }

    private void Compare(string name, ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, double tolerance)
    {
        Assert.Equal(expected.Length, actual.Length);
        double worst = 0, largest = 0;
        int at = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            largest = Math.Max(largest, Math.Abs(expected[i]));
            double difference = Math.Abs((double)expected[i] - actual[i]);
            if (!(difference > worst) && !double.IsNaN(difference)) continue;
            (worst, at) = (double.IsNaN(difference) ? double.PositiveInfinity : difference, i);
        }

        output.WriteLine($"{name}: largest difference {worst:E2} at {at}, of {largest:E2}");
        Assert.True(worst <= tolerance * Math.Max(largest, 1e-30), $"{name}: {worst:E3} at {at} ({actual[at]:R} for {expected[at]:R}), largest {largest:E3}");
    }
}

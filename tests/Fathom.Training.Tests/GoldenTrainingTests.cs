// Eight training steps against an independent program: losses, expert loads, weights and routing biases at the end.
using Fathom.Compute;
using Fathom.Model;
using Fathom.Testing;
using Xunit;

namespace Fathom.Training.Tests;

public sealed class GoldenTrainingTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(4, 1)]
    [InlineData(4, 2)]
    [InlineData(2, 3)]
    [InlineData(2, 2, "separate")]
    [InlineData(2, 2, "cuda")]
    public void Eight_steps_are_those_of_the_reference(int microBatch, int threads, string deviceName = "cpu")
    {
        string folder = Golden.Fixture("nano-v3-train");
        using SafetensorsFile reference = SafetensorsFile.Open(Path.Combine(folder, "reference.safetensors"));
        using Device device = TestDevices.Open(deviceName, threads);
        ModelConfig model = ModelConfig.Load(folder);
        var data = new FixedBatches(Path.Combine(folder, "reference.safetensors"), "data", model.VocabSize);
        var trainer = new Trainer(device, model, Config(microBatch), data);
        using (Checkpoint checkpoint = Checkpoint.Open(folder)) trainer.Parameters.Load(checkpoint, model);

        float[] steps = reference.ReadF32("steps");
        for (int step = 0; step < 8; step++)
        {
            var loads = new List<long[]>();
            trainer.BeforeUpdate = () => loads.AddRange(trainer.Model.ExpertLayers.Select(l => device.Read<long>(l.Experts!.Load)));
            StepReport report = trainer.Step();
            double[] actual = [report.Loss, report.MtpLoss[0], report.BalanceLoss, report.TotalLoss, report.GradientNorm];
            string[] names = ["loss", "mtp loss", "balance loss", "total loss", "gradient norm"];
            for (int i = 0; i < actual.Length; i++)
            {
                double expected = steps[step * 5 + i], relative = Math.Abs(actual[i] - expected) / Math.Abs(expected);
                output.WriteLine($"step {step} {names[i]}: {actual[i]:R} for {expected:R}, relative difference {relative:E2}");
                Assert.True(relative <= 2e-5, $"step {step}, {names[i]}: {actual[i]:R} for {expected:R}");
            }

            for (int l = 0; l < loads.Count; l++)
                Assert.Equal(reference.ReadF32($"load{step}.model.layers.{trainer.Model.ExpertLayers[l].Layer}.mlp."), loads[l].Select(n => (float)n));
        }

        foreach ((string name, Tensor value) in trainer.Parameters.All.SelectMany(p => p.CheckpointTensors()))
        {
            float[] expected = reference.ReadF32("final." + name);
            float[] actual = device.Read<float>(value);
            double worst = 0, largest = 0;
            for (int i = 0; i < expected.Length; i++)
            {
                largest = Math.Max(largest, Math.Abs(expected[i]));
                worst = Math.Max(worst, Math.Abs(expected[i] - actual[i]));
            }

            output.WriteLine($"{name}: largest difference {worst:E2} of {largest:E2}");
            Assert.True(worst <= 1e-4 * largest, $"{name}: {worst:E3} of {largest:E3}");
        }
    }

    private static TrainingConfig Config(int microBatch) => new()
    {
        Model = "given by the test",
        Data = new DataConfig { Type = DataType.Batches },
        SequenceLength = 32,
        MicroBatch = microBatch,
        BatchSize = Schedule.Constant(4),
        Steps = 8,
        LearningRate = Schedule.Constant(0.002),
        BiasUpdateSpeed = Schedule.Constant(0.01),
        MtpWeight = Schedule.Constant(0.3),
        BalanceAlpha = 0.01f,
    };
}

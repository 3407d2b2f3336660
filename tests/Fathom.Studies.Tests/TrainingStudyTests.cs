// Studies of very small runs: they are reproducible, go on where they were stopped, use what is there, and report a breakdown.
using System.Text.Json.Nodes;
using Fathom.Compute.Cpu;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Testing;
using Fathom.Training;
using Xunit;

namespace Fathom.Studies.Tests;

public sealed class TrainingStudyTests(ITestOutputHelper output)
{
    private const int Steps = 12;

    [Fact]
    public void A_stopped_study_goes_on_and_gives_the_numbers_of_an_unbroken_one()
    {
        using var folder = new TemporaryFolder();
        IReadOnlyList<StudyVariant> variants = Variants(Config(folder));
        using var device = new CpuDevice(2);
        var whole = new Recorder();
        IReadOnlyList<VariantResult> expected = new TrainingStudy(folder.File("whole"), variants).Run(device, whole, default)!;
        Assert.Equal(["base", "faster"], whole.Trained);
        Assert.Equal(Steps, expected[1].Curve.Steps.Count);

        // Stopped in the middle of the second run, with a checkpoint behind it.
        using var stop = new CancellationTokenSource();
        var first = new Recorder { OnStep = (name, step) => { if (name == "faster" && step == 7) stop.Cancel(); } };
        Assert.Null(new TrainingStudy(folder.File("broken"), variants).Run(device, first, stop.Token));
        var second = new Recorder();
        IReadOnlyList<VariantResult> actual = new TrainingStudy(folder.File("broken"), variants).Run(device, second, default)!;
        Assert.Equal(["base"], second.Reused);
        Assert.Equal(["faster"], second.Trained);
        for (int i = 0; i < variants.Count; i++)
        {
            Assert.Equal(expected[i].Curve.Steps, actual[i].Curve.Steps);
            Assert.Equal(expected[i].Curve.Validations, actual[i].Curve.Validations);
        }

        // The text was prepared once, and a third look trains nothing.
        Assert.Equal(1, whole.Preparations);
        var third = new Recorder();
        new TrainingStudy(folder.File("whole"), variants).Run(device, third, default);
        Assert.Equal(["base", "faster"], third.Reused);
        Assert.Empty(third.Trained);

        var report = new PrecisionReport(actual, 0.5);
        foreach (string line in report.Lines()) output.WriteLine(line);
        string page = report.Write(folder.File("report"), "fathom study fp8");
        Assert.Contains("<svg", File.ReadAllText(page), StringComparison.Ordinal);
        JsonObject json = JsonNode.Parse(File.ReadAllText(folder.File("report", "study.json")))!.AsObject();
        Assert.Equal(Steps, json["variants"]![1]!["losses"]!.AsArray().Count);
        Assert.Equal(report.Holds, json["holds"]!.GetValue<bool>());
        Assert.NotEqual(0, json["variants"]![1]!["difference"]!["final"]!.GetValue<double>());
    }

    [Fact]
    public void Runs_of_another_configuration_are_refused_before_anything_is_trained()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = Config(folder) with { Steps = 1 };
        using var device = new CpuDevice(1);
        new TrainingStudy(folder.File("study"), [new StudyVariant("base", config)]).Run(device, new Recorder(), default);
        var recorder = new Recorder();
        string message = Assert.Throws<FathomException>(() => new TrainingStudy(folder.File("study"), [new StudyVariant("new", config), new StudyVariant("base", config with { Seed = 9 })]).Run(device, recorder, default)).Message;
        output.WriteLine(message);
        Assert.Contains("another configuration", message, StringComparison.Ordinal);
        Assert.Empty(recorder.Trained);
    }

    [Fact]
    public void A_variant_that_diverges_is_a_result_and_stays_one()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = Config(folder);
        StudyVariant wild = new("wild", config with { LearningRate = new Schedule { Segments = [new() { From = 1e-3, UntilStep = 3 }, new() { From = 1e30 }] } });
        IReadOnlyList<StudyVariant> variants = [new("base", config), wild];
        using var device = new CpuDevice(2);
        IReadOnlyList<VariantResult> results = new TrainingStudy(folder.File("study"), variants).Run(device, new Recorder(), default)!;
        output.WriteLine(results[1].Diverged ?? "did not diverge");
        Assert.Contains("step 5", results[1].Diverged, StringComparison.Ordinal);
        var again = new Recorder();
        Assert.Equal(results[1].Diverged, new TrainingStudy(folder.File("study"), variants).Run(device, again, default)![1].Diverged);
        Assert.Empty(again.Trained);
        var report = new PrecisionReport(results, 0.9);
        Assert.False(report.Holds);
        Assert.Contains("diverged", report.ToHtml("fathom study fp8"), StringComparison.Ordinal);

        string message = Assert.Throws<FathomException>(() => new TrainingStudy(folder.File("other"), [wild]).Run(device, new Recorder(), default)).Message;
        Assert.Contains("the baseline wild diverged", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("activation-gradient=block128", "fp8-activation-gradient-block128", "activation_gradient", "e4m3 128x128")]
    [InlineData("scales=pow2", "fp8-scales-pow2", "weight", "e4m3 128x128 pow2")]
    [InlineData("optimizer-moments=f32", "fp8-optimizer-moments-f32", "optimizer_moments", "f32")]
    [InlineData("o-proj-cache=e4m3", "fp8-o-proj-cache-e4m3", "saved_attention_output", "e4m3 1x128")]
    [InlineData("promotion=none", "fp8-promotion-none", "promotion", "none")]
    [InlineData("promotion=128", "fp8-promotion-128", "promotion", "128")]
    [InlineData("recompute-norms=false", "fp8-recompute-norms-false", "recompute_norms", "false")]
    [InlineData("activation=e5m2 tensor", "fp8-activation-e5m2-tensor", "activation", "e5m2 tensor")]
    public void A_change_is_a_field_of_the_recipe(string change, string name, string field, string value)
    {
        using var folder = new TemporaryFolder();
        StudyVariant variant = StudyVariant.Changed(change, Config(folder));
        Assert.Equal(name, variant.Name);
        JsonNode recipe = JsonNode.Parse(variant.Config.ToJson())!["recipe"]!;
        Assert.Equal(("fp8", value), (recipe["base"]!.GetValue<string>(), recipe[field]!.GetValue<string>()));
        Assert.Equal(variant.Config.Recipe, TrainingConfig.Parse(variant.Config.ToJson(), "config").Recipe);
    }

    [Fact]
    public void Another_format_is_another_recipe()
    {
        using var folder = new TemporaryFolder();
        Assert.Same(Recipe.HiF8, StudyVariant.Changed("format=hif8", Config(folder)).Config.Recipe);
    }

    [Theory]
    [InlineData("scales", "expected NAME=VALUE")]
    [InlineData("=pow2", "expected NAME=VALUE")]
    [InlineData("colour=red", "unknown field 'colour'")]
    [InlineData("activation=e9m9", "'e9m9' is no operand format")]
    [InlineData("promotion=48", "promotion is '48'")]
    public void Changes_that_no_recipe_has_are_named(string change, string message)
    {
        using var folder = new TemporaryFolder();
        Assert.Contains(message, Assert.Throws<FathomException>(() => StudyVariant.Changed(change, Config(folder))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_noise_floor_is_bf16_with_its_sums_in_another_order()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = Config(folder) with { MicroBatch = 4, BatchSize = Schedule.Constant(4) };
        StudyVariant reordered = PrecisionStudy.Variants(config, ["scales=pow2"], noiseFloor: true)[^1];
        Assert.Equal(2, reordered.Config.MicroBatch);
        Assert.Equal(StudyVariant.Named("bf16", config).Config, reordered.Config with { MicroBatch = 4 });

        using var device = new CpuDevice(2);
        IReadOnlyList<VariantResult> results = new TrainingStudy(folder.File("study"), [StudyVariant.Named("bf16", config), reordered]).Run(device, new Recorder(), default)!;
        IReadOnlyList<double> first = results[0].Curve.Steps, second = results[1].Curve.Steps;
        output.WriteLine($"losses of the first step differ by {Math.Abs(first[0] - second[0]):E1}, of the last by {Math.Abs(first[^1] - second[^1]):E1} of {first[^1]:F3}");
        Assert.NotEqual(first, second);
        Assert.Equal(first[0], second[0], 1e-5);

        Assert.Contains("even number", Assert.Throws<FathomException>(() => StudyVariant.Reordered(config with { MicroBatch = 1 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Recipes_train_and_their_runs_differ()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = Config(folder) with { Steps = 3 };
        using var device = new CpuDevice(2);
        IReadOnlyList<StudyVariant> variants = PrecisionStudy.Variants(config, ["promotion=none", "promotion=128", "activation-gradient=block128", "format=hif8"]);
        IReadOnlyList<VariantResult> results = new TrainingStudy(folder.File("study"), variants).Run(device, new Recorder(), default)!;
        foreach (string line in new PrecisionReport(results, 0.9).Lines()) output.WriteLine(line);
        Assert.All(results, r => Assert.Null(r.Diverged));
        Assert.Equal(results.Count, results.Select(r => r.Curve.Steps[^1]).Distinct().Count());
        Assert.All(results, r => Assert.Equal(results[0].Curve.Steps[0], r.Curve.Steps[0], 0.01));
    }

    private static IReadOnlyList<StudyVariant> Variants(TrainingConfig config) =>
        [new("base", config), new("faster", config with { LearningRate = Schedule.Constant(4e-3) })];

    private static TrainingConfig Config(TemporaryFolder folder)
    {
        string text = folder.File("text.txt");
        if (!File.Exists(text)) File.WriteAllLines(text, Enumerable.Range(0, 1500).Select(i => $"number {i} comes before {i + 1}." + (i % 15 == 14 ? "\n" : "")));
        return new TrainingConfig
        {
            Seed = 5,
            Model = "nano",
            Data = new DataConfig { Path = text, HeldOut = 0.1 },
            Tokenizer = new TokenizerConfig { VocabSize = 400 },
            SequenceLength = 48,
            MicroBatch = 2,
            BatchSize = Schedule.Constant(2),
            Steps = Steps,
            LearningRate = Schedule.Constant(2e-3),
            ValidateEvery = 5,
            ValidationSequences = 4,
            SaveEvery = 5,
        };
    }

    private sealed class Recorder : IStudyObserver
    {
        public List<string> Trained { get; } = [];

        public List<string> Reused { get; } = [];

        public int Preparations { get; private set; }

        public Action<string, long>? OnStep { get; init; }

        public IRunObserver Training(StudyVariant variant)
        {
            Trained.Add(variant.Name);
            return new RunRecorder(this, variant.Name);
        }

        void IStudyObserver.Reused(StudyVariant variant, string folder) => Reused.Add(variant.Name);

        public bool Follow(IRunObserver observer, Func<bool> train) => train();

        private sealed class RunRecorder(Recorder study, string name) : IRunObserver
        {
            private bool prepared;

            public void Preparing(PreparationProgress progress)
            {
                if (!prepared) study.Preparations++;
                prepared = true;
            }

            public void Starting(TrainingRun run, string? restoredFrom)
            {
            }

            public void Stepped(StepReport report) => study.OnStep?.Invoke(name, report.Step);

            public void Validated(long step, ValidationReport report)
            {
            }

            public void Saved(long step, string folder)
            {
            }

            public void Warning(string message)
            {
            }
        }
    }
}

// Training from a configuration file, from options alone, or on with a run that was started before.
using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Training;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom train</c>.</summary>
internal static class TrainVerb
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static Command Create()
    {
        var config = new Option<string?>("--config") { Description = "Training configuration, JSON.", HelpName = "FILE" };
        var resume = new Option<string?>("--resume") { Description = "Run directory to go on with; --steps, --tokens or --seconds change its end.", HelpName = "DIR" };
        var data = new Option<string?>("--data") { Description = "Text to train on, without a configuration file: a file, a folder, JSON lines, gzip of each.", HelpName = "PATH" };
        var preset = new Option<string>("--preset") { Description = "Model for --data; see 'fathom model'.", HelpName = "NAME", DefaultValueFactory = _ => "small" };
        var steps = new Option<long?>("--steps") { Description = "Steps of the whole run, those before a resume included.", HelpName = "N" };
        var tokens = new Option<long?>("--tokens") { Description = "Tokens of the whole run.", HelpName = "N" };
        var seconds = new Option<double?>("--seconds") { Description = "Seconds of training of the whole run.", HelpName = "N" };
        var output = new Option<string?>("--out") { Description = "Directory of the new run; runs/<name>-<time> if not given.", HelpName = "DIR" };
        var seed = new Option<ulong?>("--seed") { Description = "Seed of initial weights and data order.", HelpName = "N" };
        var recipe = CommonOptions.Recipe();
        var memory = new Option<bool>("--memory-report") { Description = "Train nothing: take one step in bf16, fp8 and the run's recipe, and show the bytes of each kind, measured and predicted." };
        var json = new Option<string?>("--json") { Description = "Write the memory report to a file as well.", HelpName = "FILE" };
        var on = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var command = new Command("train", "Train a model, or go on with a run.") { config, resume, data, preset, recipe, steps, tokens, seconds, output, seed, memory, json, on, threads };
        command.Validators.Add(result =>
        {
            Option[] starts = [config, resume, data];
            int given = starts.Count(o => result.GetResult(o) is not null);
            bool reports = result.GetResult(memory) is not null;
            if (given > 1 || given == 0 && !reports) result.AddError("give one of --config FILE, --resume DIR and --data PATH");
            if (reports && result.GetResult(output) is not null) result.AddError("--memory-report makes no run; leave --out away");
            if (!reports && result.GetResult(json) is not null) result.AddError("--json goes with --memory-report");
            if (new Option[] { steps, tokens, seconds }.Count(o => result.GetResult(o) is not null) > 1) result.AddError("give one of --steps, --tokens and --seconds");
            if (result.GetResult(resume) is not null && (result.GetResult(output) ?? result.GetResult(seed)) is not null)
                result.AddError("--out and --seed belong to a new run; a resumed one has its own");
            if ((result.GetResult(config) ?? result.GetResult(resume)) is not null && result.GetResult(preset) is { Implicit: false })
                result.AddError("--preset goes with --data; a configuration file has its own model");
        });
        command.SetAction(arguments =>
        {
            Recipe? precision = arguments.GetValue(recipe) is { } nameOrFile ? CommonOptions.ReadRecipe(nameOrFile) : null;
            DeviceChoice choice = arguments.GetValue(on);
            using Device device = CommonOptions.Device(choice, arguments.GetValue(threads));
            var end = new RunEnd(arguments.GetValue(steps), arguments.GetValue(tokens), arguments.GetValue(seconds));
            if (arguments.GetValue(memory)) return ReportMemory(device, choice, Settings(arguments.GetValue(resume)), arguments.GetValue(json));

            using var interruption = new Interruption();
            IRunView view = IRunView.Create(interruption.Token);
            if (arguments.GetValue(resume) is { } directory)
            {
                if (precision is not null) RequireSameRecipe(directory, precision);
                return Train(
                    RunControl.Open(device, () => TrainingRun.Resume(device, directory, end.IsGiven ? end.Change : null, view, interruption.Token)), view, interruption.Token);
            }

            TrainingConfig settings = Settings(null);
            RunControl.RequireMemory(settings, choice);
            string name = Path.GetFileNameWithoutExtension(arguments.GetValue(config) ?? arguments.GetRequiredValue(preset));
            string path = arguments.GetValue(output) ?? RunControl.DefaultDirectory(name);
            return Train(RunControl.Open(device, () => TrainingRun.Start(device, path, settings, view, interruption.Token)), view, interruption.Token);

            TrainingConfig Settings(string? run)
            {
                string? file = run is null ? arguments.GetValue(config) : RunDirectory.Open(run).ConfigFile;
                TrainingConfig settings = file is not null
                    ? TrainingConfig.Load(file)
                    : FromOptions(arguments.GetValue(data) ?? ".", arguments.GetRequiredValue(preset), end);
                if (end.IsGiven) settings = end.Change(settings);
                if (arguments.GetValue(seed) is { } number) settings = settings with { Seed = number };
                return precision is null ? settings : settings with { Recipe = precision };
            }
        });
        return command;
    }

    private static TrainingConfig FromOptions(string data, string preset, RunEnd end) => new()
    {
        Model = preset,
        Data = new DataConfig { Path = Path.GetFullPath(data) },
        Steps = end.IsGiven ? null : 1000,
    };

    private static void RequireSameRecipe(string directory, Recipe recipe)
    {
        Recipe stored = RunDirectory.Open(directory).LoadConfig().Recipe;
        if (stored != recipe)
            throw new FathomException($"{directory} was started with recipe {stored} and cannot go on with {recipe}; leave --recipe away, or start a new run");
    }

    /// <summary>A table a recipe, and what FP8 keeps of BF16's saved activations.</summary>
    private static int ReportMemory(Device device, DeviceChoice choice, TrainingConfig config, string? file)
    {
        Recipe[] recipes = [.. new[] { Recipe.Bf16, Recipe.Fp8, config.Recipe }.Distinct()];
        foreach (Recipe recipe in recipes) RunControl.RequireMemory(config with { Recipe = recipe }, choice);
        (ModelConfig model, int batch, int tokens) = MemoryReport.ShapeOf(config);
        var size = new ModelSize(model);
        Console.WriteLine($"{Short(size.MainParameters + size.MtpParameters)} parameters with MTP, a micro-batch of {batch} x {tokens} tokens; bytes of one step");
        var reports = new List<MemoryReport>();
        foreach (Recipe recipe in recipes)
        {
            reports.Add(MemoryReport.Measure(device, config with { Recipe = recipe }));
            MemoryTable.Print(reports[^1]);

            // Tensors are freed by the collector, and the next trainer needs their room.
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        double share = (double)reports[1].Saved.Measured / reports[0].Saved.Measured;
        Console.WriteLine();
        Console.WriteLine(Invariant($"fp8 keeps {share * 100:F1} % of the activations that bf16 keeps (the goal is at most 60 %)"));
        if (file is not null)
        {
            var json = new JsonObject
            {
                ["parameters"] = size.MainParameters + size.MtpParameters,
                ["micro_batch"] = batch,
                ["sequence_length"] = tokens,
                ["reports"] = new JsonArray([.. reports.Select(r => r.ToJson())]),
                ["fp8_saved_share_of_bf16"] = share,
            };
            AtomicFile.WriteAllText(file, json.ToJsonString(Indented) + "\n");
        }

        if (reports.TrueForAll(r => r.Holds)) return ExitCode.Success;
        Errors.Write(Invariant($"a prediction is off by more than {MemoryReport.Tolerance * 100:F0} %"));
        return ExitCode.Failed;
    }

    private static int Train(TrainingRun opened, IRunView view, CancellationToken stop)
    {
        using TrainingRun run = opened;
        if (run.Trainer.IsFinished)
        {
            Console.WriteLine($"finished   the run is at its end, step {run.Trainer.State.Step}. Give a later one to go on:");
            Console.WriteLine($"  {RunControl.ResumeCommand(run.Directory.Path)} --steps {run.Trainer.State.Step * 2}");
            return ExitCode.Success;
        }

        if (!RunControl.Train(run, view, stop)) return ExitCode.Success;
        if (run.Tokenizer is not null) Console.WriteLine($"\nTry it:\n  {CommandName.Text} generate --model {CommandName.Argument(run.Directory.Path)} --prompt \"…\"");
        return ExitCode.Success;
    }

    /// <summary>Where a run ends; at most one of the three.</summary>
    private sealed record RunEnd(long? Steps, long? Tokens, double? Seconds)
    {
        public bool IsGiven => (Steps, Tokens, Seconds) != (null, null, null);

        public TrainingConfig Change(TrainingConfig config) => config with { Steps = Steps, Tokens = Tokens, Seconds = Seconds };
    }
}

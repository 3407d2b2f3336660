// Training from a configuration file, from options alone, or on with a run that was started before.
using System.CommandLine;
using Fathom.Cli.Terminal;
using Fathom.Compute.Cpu;
using Fathom.Training;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom train</c>.</summary>
internal static class TrainVerb
{
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
        var threads = CommonOptions.Threads();
        var command = new Command("train", "Train a model, or go on with a run.") { config, resume, data, preset, steps, tokens, seconds, output, seed, threads };
        command.Validators.Add(result =>
        {
            Option[] starts = [config, resume, data];
            if (starts.Count(o => result.GetResult(o) is not null) != 1) result.AddError("give one of --config FILE, --resume DIR and --data PATH");
            if (new Option[] { steps, tokens, seconds }.Count(o => result.GetResult(o) is not null) > 1) result.AddError("give one of --steps, --tokens and --seconds");
            if (result.GetResult(resume) is not null && (result.GetResult(output) ?? result.GetResult(seed)) is not null)
                result.AddError("--out and --seed belong to a new run; a resumed one has its own");
            if (result.GetResult(data) is null && result.GetResult(preset) is { Implicit: false }) result.AddError("--preset goes with --data; a configuration file has its own model");
        });
        command.SetAction(arguments =>
        {
            using CpuDevice device = CommonOptions.Device(arguments.GetValue(threads));
            using var interruption = new Interruption();
            IRunView view = IRunView.Create(interruption.Token);
            var end = new RunEnd(arguments.GetValue(steps), arguments.GetValue(tokens), arguments.GetValue(seconds));
            if (arguments.GetValue(resume) is { } directory)
            {
                return Train(
                    RunControl.Open(device, () => TrainingRun.Resume(device, directory, end.IsGiven ? end.Change : null, view, interruption.Token)), view, interruption.Token);
            }

            TrainingConfig settings = arguments.GetValue(config) is { } file
                ? TrainingConfig.Load(file)
                : FromOptions(arguments.GetValue(data)!, arguments.GetRequiredValue(preset), end);
            if (end.IsGiven) settings = end.Change(settings);
            if (arguments.GetValue(seed) is { } number) settings = settings with { Seed = number };
            RunControl.RequireMemory(settings);
            string name = Path.GetFileNameWithoutExtension(arguments.GetValue(config) ?? arguments.GetRequiredValue(preset));
            string path = arguments.GetValue(output) ?? RunControl.DefaultDirectory(name);
            return Train(RunControl.Open(device, () => TrainingRun.Start(device, path, settings, view, interruption.Token)), view, interruption.Token);
        });
        return command;
    }

    private static TrainingConfig FromOptions(string data, string preset, RunEnd end) => new()
    {
        Model = preset,
        Data = new DataConfig { Path = Path.GetFullPath(data) },
        Steps = end.IsGiven ? null : 1000,
    };

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

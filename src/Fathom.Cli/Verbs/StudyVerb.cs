// Claims of the papers as experiments that anybody can run: what comes out is a table, a JSON file and a page with plots.
using System.CommandLine;
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Fathom.Studies;
using Fathom.Training;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom study</c>.</summary>
internal static class StudyVerb
{
    public static Command Create() => new("study", "Run a claim of the paper as an experiment: numbers, JSON and a page with plots.") { Fp8(), Accumulation() };

    private static Command Fp8()
    {
        var data = new Option<string?>("--data") { Description = "Text to train on: a file, a folder, JSON lines, gzip of each. Without it: the .NET API documentation that ships with the SDK.", HelpName = "PATH" };
        var preset = new Option<string>("--preset") { Description = "Model; see 'fathom model'.", HelpName = "NAME", DefaultValueFactory = _ => PrecisionStudy.DefaultPreset };
        var steps = new Option<long>("--steps") { Description = "Steps of every run.", HelpName = "N", DefaultValueFactory = _ => PrecisionStudy.DefaultSteps };
        var seed = new Option<ulong>("--seed") { Description = "Seed of initial weights and data order.", HelpName = "N", DefaultValueFactory = _ => 1UL };
        var vary = new Option<string[]>("--vary")
        {
            Description = "Train fp8 with one change as well: activation-gradient=block128, scales=pow2, optimizer-moments=f32, o-proj-cache=e4m3, promotion=none, format=hif8, or a recipe's field with a value. May be given several times.",
            HelpName = "NAME=VALUE",
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => [],
        };
        var noise = new Option<bool>("--noise-floor") { Description = "Train bf16 once more with its sums in another order: what rounding alone does to a run of this length." };
        var smoothing = new Option<double>("--smoothing") { Description = "Coefficient of the exponential average that losses are compared under.", HelpName = "X", DefaultValueFactory = _ => PrecisionStudy.PaperSmoothing };
        var output = new Option<string>("--out") { Description = "Folder of the study; one that was stopped goes on, and finished runs in it are used as they are.", HelpName = "DIR", DefaultValueFactory = _ => Path.Combine("runs", "study-fp8") };
        var on = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var command = new Command("fp8", "Train in bf16 and in fp8 on the same text, and compare the losses.") { data, preset, steps, seed, vary, noise, smoothing, output, on, threads };
        command.SetAction(arguments =>
        {
            string folder = arguments.GetRequiredValue(output);
            double coefficient = arguments.GetValue(smoothing);
            if (coefficient is not (>= 0 and < 1)) throw new FathomException(Numbers.Invariant($"--smoothing is {coefficient}; it must be in [0, 1)"));
            TrainingConfig config = PrecisionStudy.Configure(arguments.GetValue(data), arguments.GetRequiredValue(preset), arguments.GetValue(steps), arguments.GetValue(seed));
            IReadOnlyList<StudyVariant> variants = PrecisionStudy.Variants(config, arguments.GetValue(vary) ?? [], arguments.GetValue(noise));
            foreach (StudyVariant variant in variants) RunControl.RequireMemory(variant.Config, arguments.GetValue(on));
            using Device device = CommonOptions.Device(arguments.GetValue(on), arguments.GetValue(threads));
            using var interruption = new Interruption();
            if (new TrainingStudy(folder, variants).Run(device, new StudyView(interruption.Token), interruption.Token) is not { } results)
            {
                Console.WriteLine("stopped    everything is saved; the same command goes on with it");
                return ExitCode.Success;
            }

            var report = new PrecisionReport(results, coefficient);
            Console.WriteLine();
            foreach (string line in report.Lines()) Console.WriteLine(line);
            Console.WriteLine($"\nreport     {CommandName.Argument(report.Write(folder, CommandName.Of(arguments)))}");
            return ExitCode.Success;
        });
        return command;
    }

    private static Command Accumulation()
    {
        var output = new Option<string>("--out") { Description = "Folder for accumulation.json and accumulation.html.", HelpName = "DIR", DefaultValueFactory = _ => Path.Combine("runs", "study-accumulation") };
        var depths = new Option<int[]>("--k") { Description = "Lengths of the sums; 32 to 16384 by doublings if not given.", HelpName = "K", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [] };
        var size = new Option<int>("--size") { Description = "Rows and columns of the products.", HelpName = "N", DefaultValueFactory = _ => AccumulationStudy.DefaultSize };
        var seed = new Option<ulong>("--seed") { Description = "Seed of the operands.", HelpName = "N", DefaultValueFactory = _ => 1UL };
        var threads = CommonOptions.Threads();
        var command = new Command("accumulation", "Error of FP8 products against their depth: FP32, Hopper's accumulator, and promotion every 32, 128, 512.") { output, depths, size, seed, threads };
        command.SetAction(arguments =>
        {
            using CpuDevice device = CommonOptions.Device(arguments.GetValue(threads));
            using var interruption = new Interruption();
            int[] wanted = arguments.GetValue(depths) is { Length: > 0 } given ? [.. given.Distinct().Order()] : [.. AccumulationStudy.DefaultDepths];
            int n = arguments.GetValue(size);
            var report = new AccumulationReport([.. AccumulationStudy.Run(device, wanted, n, arguments.GetValue(seed), interruption.Token)], n, arguments.GetValue(seed));
            foreach (string line in report.Lines()) Console.WriteLine(line);
            string page = report.Write(arguments.GetRequiredValue(output), CommandName.Of(arguments));
            Console.WriteLine($"\nreport     {CommandName.Argument(page)}");
            return ExitCode.Success;
        });
        return command;
    }

    /// <summary>Shows the runs of a study one after another.</summary>
    private sealed class StudyView(CancellationToken stop) : IStudyObserver
    {
        public IRunObserver Training(StudyVariant variant)
        {
            Console.WriteLine($"\n{variant.Name}");
            return IRunView.Create(stop);
        }

        public void Reused(StudyVariant variant, string folder) => Console.WriteLine($"\n{variant.Name}\nfinished   {CommandName.Argument(folder)}");

        public bool Follow(IRunObserver observer, Func<bool> train) => ((IRunView)observer).Follow(train);
    }
}

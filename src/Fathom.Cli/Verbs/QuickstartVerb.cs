// The first thing a newcomer runs: text, tokenizer, a small complete model, training with a live view, and what it has learnt
// beside general compressors. It is `train` with settings that fit three minutes on two cores.
using System.CommandLine;
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Text;
using Fathom.Training;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom quickstart</c>.</summary>
internal static class QuickstartVerb
{
    private const double DefaultSeconds = 130;
    private const long EvaluationTokens = 400_000;
    private const int Samples = 3, SampleTokens = 96;

    public static Command Create()
    {
        var data = new Option<string?>("--data") { Description = "Text to train on: a file, a folder, JSON lines, gzip of each. Without it: the .NET API documentation that ships with the SDK.", HelpName = "PATH" };
        var seconds = new Option<double>("--seconds") { Description = "Seconds of training; reading, evaluation and samples come on top.", HelpName = "N", DefaultValueFactory = _ => DefaultSeconds };
        var output = new Option<string?>("--out") { Description = "Directory of the run; runs/quickstart-<time> if not given.", HelpName = "DIR" };
        var seed = new Option<ulong>("--seed") { Description = "Seed of initial weights, data order and samples.", HelpName = "N", DefaultValueFactory = _ => 1UL };
        var recipe = CommonOptions.Recipe();
        var on = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var command = new Command("quickstart", "Train a small DeepSeek-V3 on real text in about three minutes, and show what it has learnt.") { data, seconds, recipe, output, seed, on, threads };
        command.SetAction(arguments =>
        {
            TrainingConfig config = Configure(arguments.GetValue(data), arguments.GetValue(seconds), arguments.GetValue(seed));
            if (arguments.GetValue(recipe) is { } name) config = config with { Recipe = CommonOptions.ReadRecipe(name) };
            string path = arguments.GetValue(output) ?? RunControl.DefaultDirectory("quickstart");
            using Device device = CommonOptions.Device(arguments.GetValue(on), arguments.GetValue(threads));
            using var interruption = new Interruption();
            IRunView view = IRunView.Create(interruption.Token);
            using TrainingRun run = RunControl.Open(device, () => TrainingRun.Start(device, path, config, view, interruption.Token));
            if (!RunControl.Train(run, view, interruption.Token)) return ExitCode.Success;
            CompareWithCompressors(run);
            ShowSamples(device, run, arguments.GetValue(seed), interruption.Token);
            ShowNextCommands(run);
            return ExitCode.Success;
        });
        return command;
    }

    private static TrainingConfig Configure(string? data, double seconds, ulong seed) => new()
    {
        Seed = seed,
        Model = "quickstart",
        Data = Source(data),
        Tokenizer = new TokenizerConfig { VocabSize = 4096 },
        SequenceLength = 256,
        // Small batches: in three minutes more steps teach more than truer gradients.
        MicroBatch = 4,
        BatchSize = Schedule.Constant(4),
        Seconds = seconds,
        LearningRate = Schedule.WarmUpConstantCosine(3e-3, 1e-4, 40, 0.4),
        // A run of a few hundred steps has to balance its experts faster than one of a million: γ of the report is 0.001.
        BiasUpdateSpeed = Schedule.Constant(0.003),
        // λ falls as in the report: 0.3 for the first two thirds, then 0.1.
        MtpWeight = new Schedule { Segments = [new ScheduleSegment { From = 0.3, UntilProgress = 0.67 }, new ScheduleSegment { From = 0.1 }] },
        ValidateEvery = 100,
        ValidationSequences = 32,
        SaveEvery = 500,
        KeepCheckpoints = 2,
    };

    private static DataConfig Source(string? path)
    {
        // Of a person's own text there may be few documents: a larger share of them is held out.
        if (path is not null) return new DataConfig { Path = Path.GetFullPath(path), HeldOut = 0.05 };
        return ReferencePackCorpus.Find() is not null
            ? new DataConfig { Type = DataType.ReferencePacks }
            : new DataConfig { Path = Repository() ?? throw new FathomException("neither the SDK's reference packs nor this program's repository were found; give text with --data PATH"), HeldOut = 0.05 };
    }

    private static string? Repository()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Fathom.slnx"))) return folder.FullName;
        }

        return null;
    }

    private static void CompareWithCompressors(TrainingRun run)
    {
        if (run.Text is not { HeldOut: { } heldOut } text) return;
        var windows = new ValidationWindows(heldOut, run.Config.SequenceLength, EvaluationTokens);
        ValidationReport report = run.Trainer.Validate(windows);
        CompressionBaseline baseline = CompressionBaseline.Measure(new HeldOutText(heldOut, text.Tokenizer).Documents(windows.DocumentCount));
        Console.WriteLine();
        Console.WriteLine(Invariant($"Bits per byte of the same held-out text, {windows.DocumentCount:N0} documents of {baseline.Utf8Bytes / 1e3:N0} kB that were not trained on:"));
        Row("gzip -9", baseline.GzipBitsPerByte);
        Row("Brotli, quality 11", baseline.BrotliBitsPerByte);
        Row("this model", report.BitsPerByte);

        static void Row(string name, double bits) => Console.WriteLine(Invariant($"  {name,-20} {bits,6:F3}  {new string('█', (int)Math.Round(Math.Min(bits, 8) * 8))}"));
    }

    private static void ShowSamples(Device device, TrainingRun run, ulong seed, CancellationToken stop)
    {
        if (run.Text is not { HeldOut: { } heldOut } text) return;
        LoadedModel model = LoadedModel.Open(device, run.Directory.ModelFolder);
        int context = Math.Min(1024, model.Model.Config.MaxPositionEmbeddings);
        using var engine = new InferenceEngine(model, new EngineOptions { ContextTokens = context, CacheTokens = context, MostRunning = 1, BatchInvariant = false });
        var options = new SamplingOptions { Temperature = 0.7f, TopP = 0.95f, Seed = seed, MaxNewTokens = SampleTokens };
        Console.WriteLine();
        Console.WriteLine("Samples from the beginnings of held-out documents (what stands before » is theirs):");
        foreach (int[] prompt in new HeldOutText(heldOut, text.Tokenizer).Prompts(Samples))
        {
            // In training every document follows an end token.
            int[] ids = [heldOut.EosId, .. prompt];
            Generation generation = engine.Submit(new GenerationRequest { Prompt = ids, Sampling = options }, stop);
            string answer = string.Concat(generation.ToBlockingEnumerable(CancellationToken.None).Select(piece => piece.Text));
            Console.WriteLine();
            Console.WriteLine("  " + (text.Tokenizer.Decode(prompt) + "»" + answer).Trim().ReplaceLineEndings("\n").Replace("\n", "\n  ", StringComparison.Ordinal));
        }
    }

    private static void ShowNextCommands(TrainingRun run)
    {
        string directory = CommandName.Argument(run.Directory.Path);
        Console.WriteLine();
        Console.WriteLine("A model this small, trained for minutes on plain text, continues text; it does not answer questions.");
        Console.WriteLine();
        Console.WriteLine("Next:");
        Show("continue lines that you type", $"chat --model {directory} --continue");
        string prompt = run.Config.Data.Type == DataType.ReferencePacks ? "method System.String." : "…";
        Show("continue a text", $"generate --model {directory} --prompt \"{prompt}\"");
        Show("train longer", $"train --resume {directory} --seconds {Math.Max(600, (long)(run.Trainer.State.Seconds * 4))}");
        Show("train on your own text", "quickstart --data PATH");

        static void Show(string what, string command) => Console.WriteLine($"  # {what}\n  {CommandName.Text} {command}");
    }
}

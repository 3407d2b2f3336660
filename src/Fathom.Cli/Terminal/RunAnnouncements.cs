// The lines that both views print around the training itself: what is being prepared, what will be trained, what was saved.
using Fathom.Model;
using Fathom.Training;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Terminal;

/// <summary>Text about a run.</summary>
internal static class RunAnnouncements
{
    /// <summary>A line about the preparation.</summary>
    public static string Preparing(PreparationProgress progress) => $"{progress.Stage,-10} {progress.Detail}";

    /// <summary>Lines that say what will be trained, and how long.</summary>
    public static IEnumerable<string> Starting(TrainingRun run, string? restoredFrom)
    {
        ModelConfig model = run.Trainer.Model.Config;
        var size = new ModelSize(model);
        string experts = model.NRoutedExperts > 0 ? Invariant($", {model.NRoutedExperts} experts and {model.NSharedExperts} shared, {model.NumExpertsPerTok} a token") : "";
        string mtp = run.Trainer.Model.MtpModules.Count is > 0 and var count ? Invariant($", {count} MTP module{(count == 1 ? "" : "s")}") : "";
        yield return Invariant($"{"model",-10} {Short(size.MainParameters)} parameters, {Short(size.ActiveParameters)} active; {model.NumHiddenLayers} layers, width {model.HiddenSize}{experts}{mtp}");
        yield return Invariant($"{"training",-10} {End(run.Config)}, sequences of {run.Config.SequenceLength} tokens, recipe {run.Config.Recipe}, on {run.Trainer.Model.Device.Name}");
        yield return Invariant($"{"run",-10} {CommandName.Argument(run.Directory.Path)}");
        if (restoredFrom is not null) yield return Invariant($"{"resumed",-10} step {run.Trainer.State.Step} from {CommandName.Argument(restoredFrom)}");
    }

    /// <summary>A step as one line.</summary>
    public static string Step(RunProgress p)
    {
        string mtp = double.IsFinite(p.MtpLoss) ? Invariant($"  mtp {p.MtpLoss:F3}") : "";
        string bits = p.Validation is { } v ? Invariant($"  held-out {Held(v)}") : "";
        string imbalance = double.IsFinite(p.LoadImbalance) ? Invariant($"  imbalance {p.LoadImbalance:F2}") : "";
        string peak = p.PeakShare > 0 ? Invariant($"  {Percent(p.PeakShare)} of peak") : "";
        return Invariant($"step {p.Step,5}  loss {p.Loss:F3}{mtp}{bits}  {Short(p.TokensPerSecond)} tokens/s  lr {p.LearningRate:G3}{imbalance}  grad {p.GradientNorm:F2}{peak}  {Duration(p.SecondsLeft)} left");
    }

    /// <summary>A validation as text: bits per byte, or the loss where the data is ids.</summary>
    public static string Held(ValidationReport report) =>
        double.IsFinite(report.BitsPerByte) ? Invariant($"{report.BitsPerByte:F3} bits/byte") : Invariant($"loss {report.Loss:F3}");

    /// <summary>Why nothing more is printed for a moment after Ctrl-C.</summary>
    public const string Stopping = "stopping after this step, then saving; Ctrl-C again ends at once";

    private static string End(TrainingConfig config) => string.Join(" or ", new[]
    {
        config.Steps is { } steps ? Invariant($"{steps:N0} steps") : null,
        config.Tokens is { } tokens ? $"{Short(tokens)} tokens" : null,
        config.Seconds is { } seconds ? Invariant($"{seconds:G6} s") : null,
    }.Where(part => part is not null));
}

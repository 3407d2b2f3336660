// What a person wants to know of a run in progress, gathered from the observer's calls. It holds numbers; views draw them.
using Fathom.Training;

namespace Fathom.Cli.Terminal;

/// <summary>The state of a run as views show it.</summary>
internal sealed class RunProgress
{
    private const int RateSteps = 16;
    private readonly Queue<(long Tokens, double Seconds)> recent = new();
    private readonly List<double> losses = [];
    private double firstProgress = -1;
    private double trainedSeconds;

    /// <summary>The run, once it has started.</summary>
    public TrainingRun? Run { get; private set; }

    /// <summary>Finished steps.</summary>
    public long Step { get; private set; }

    /// <summary>Trained tokens.</summary>
    public long Tokens { get; private set; }

    /// <summary>Loss of the last step.</summary>
    public double Loss { get; private set; } = double.NaN;

    /// <summary>Mean loss of the MTP depths in the last step, NaN without MTP.</summary>
    public double MtpLoss { get; private set; } = double.NaN;

    /// <summary>Learning rate of the last step.</summary>
    public double LearningRate { get; private set; }

    /// <summary>Gradient norm of the last step, before clipping.</summary>
    public double GradientNorm { get; private set; }

    /// <summary>Largest over mean expert load in the worst layer; NaN without experts.</summary>
    public double LoadImbalance { get; private set; } = double.NaN;

    /// <summary>The last validation.</summary>
    public ValidationReport? Validation { get; private set; }

    /// <summary>Training tokens a second over the last steps.</summary>
    public double TokensPerSecond { get; private set; }

    /// <summary>Share of the machine's measured peak, from model FLOPs; 0 where it is unknown.</summary>
    public double PeakShare => Run is { PeakFlops: > 0 } run ? run.FlopsPerToken * TokensPerSecond / run.PeakFlops : 0;

    /// <summary>Share of the run that is done.</summary>
    public double Done => Math.Clamp(Run?.Trainer.Progress ?? 0, 0, 1);

    /// <summary>Seconds of training left, from the pace so far.</summary>
    public double SecondsLeft => firstProgress < 0 || Done <= firstProgress ? double.NaN : trainedSeconds * (1 - Done) / (Done - firstProgress);

    /// <summary>Losses of all steps seen.</summary>
    public IReadOnlyList<double> Losses => losses;

    /// <summary>Takes the run.</summary>
    public void Start(TrainingRun run)
    {
        Run = run;
        firstProgress = run.Trainer.Progress;
        Step = run.Trainer.State.Step;
        Tokens = run.Trainer.State.Tokens;
    }

    /// <summary>Takes a step.</summary>
    public void Add(StepReport report)
    {
        (Step, Tokens, Loss) = (report.Step, report.Tokens, report.Loss);
        (LearningRate, GradientNorm) = (report.LearningRate, report.GradientNorm);
        MtpLoss = report.MtpLoss.Length > 0 ? report.MtpLoss.Average() : double.NaN;
        LoadImbalance = report.LoadImbalance.Length > 0 ? report.LoadImbalance.Max() : double.NaN;
        losses.Add(report.Loss);
        trainedSeconds += report.Seconds;
        recent.Enqueue((report.StepTokens, report.Seconds));
        if (recent.Count > RateSteps) recent.Dequeue();
        TokensPerSecond = recent.Sum(r => r.Tokens) / recent.Sum(r => r.Seconds);
    }

    /// <summary>Takes a validation.</summary>
    public void Add(ValidationReport report) => Validation = report;
}

// Lines every few seconds, for logs, pipes and terminals that cannot be redrawn.
using System.Diagnostics;
using Fathom.Training;

namespace Fathom.Cli.Terminal;

/// <summary>Shows a run as lines of text.</summary>
internal sealed class PlainRunView(CancellationToken stop) : IRunView
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(3);
    private readonly RunProgress progress = new();
    private long lastLine;
    private long lastStep = -1;

    /// <inheritdoc/>
    public void Preparing(PreparationProgress preparation) => Console.WriteLine(RunAnnouncements.Preparing(preparation));

    /// <inheritdoc/>
    public void Starting(TrainingRun run, string? restoredFrom)
    {
        progress.Start(run);
        foreach (string line in RunAnnouncements.Starting(run, restoredFrom)) Console.WriteLine(line);
    }

    /// <inheritdoc/>
    public bool Follow(Func<bool> train)
    {
        using CancellationTokenRegistration registration = stop.Register(() => Console.WriteLine(RunAnnouncements.Stopping));
        bool finished = train();
        if (progress.Step != lastStep && progress.Losses.Count > 0) WriteStep();
        return finished;
    }

    /// <inheritdoc/>
    public void Stepped(StepReport report)
    {
        progress.Add(report);
        if (lastLine == 0 || Stopwatch.GetElapsedTime(lastLine) >= Interval) WriteStep();
    }

    /// <inheritdoc/>
    public void Validated(long step, ValidationReport report) => progress.Add(report);

    /// <inheritdoc/>
    public void Saved(long step, string folder) => Console.WriteLine($"saved      {CommandName.Argument(folder)}");

    /// <inheritdoc/>
    public void Warning(string message) => Console.Error.WriteLine("fathom: warning: " + message);

    private void WriteStep()
    {
        (lastLine, lastStep) = (Stopwatch.GetTimestamp(), progress.Step);
        Console.WriteLine(RunAnnouncements.Step(progress));
    }
}
